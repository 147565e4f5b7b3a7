"""Lists of changed blocks: what is read, what is refused and where."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vdrd.cli import changed_blocks
from vdrd.cli.changed_blocks import read_changed_blocks
from vdrd.model.errors import BadInput, NotFound
from vdrd.model.extents import Extent

PAIRS = st.lists(st.tuples(st.integers(0, 1 << 50), st.integers(0, 1 << 40)))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lists") / "changed.json"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=PAIRS, indent=st.sampled_from([None, 0, 3]))
def test_any_json_list_gives_the_ranges_it_names(
    file: Path, pairs: list[tuple[int, int]], indent: int | None
) -> None:
    file.write_text(json.dumps(pairs, indent=indent))
    found = read_changed_blocks(file)
    joined: list[tuple[int, int]] = []
    for offset, length in pairs:
        if length and joined and sum(joined[-1]) == offset:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        elif length:
            joined.append((offset, length))
    assert found == [Extent(*pair) for pair in joined]


@pytest.mark.parametrize(
    ("text", "byte"),
    [
        ("", 0),
        ("{}", 0),
        ("[[0, 1]", 7),
        ("[[0, 1],]", 8),
        ("[[0, 1] [1, 2]]", 8),
        ("[[0, 1]] x", 7),
        ("[[-1, 4]]", 1),
        ("[[0, 1.5]]", 1),
        ("[[0, 1e3]]", 1),
        ("[[0]]", 1),
        ("[[0, 1, 2]]", 1),
        ("[[07, 1]]", 1),
        ('[["0", 1]]', 1),
        ("[[0, 99999999999999999999]]", 1),
        ("[null]", 1),
    ],
)
def test_what_is_no_list_of_pairs_is_refused_where_it_stops_being_one(
    file: Path, text: str, byte: int
) -> None:
    file.write_text(text)
    with pytest.raises(BadInput, match=rf"from byte {byte} on"):
        read_changed_blocks(file)


def test_a_list_beyond_the_bounds_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(json.dumps([[2 * i, 1] for i in range(11)]))
    monkeypatch.setattr(changed_blocks, "RANGES_MAX", 10)
    with pytest.raises(BadInput, match="more than 10 ranges"):
        read_changed_blocks(file)
    monkeypatch.setattr(changed_blocks, "FILE_BYTES_MAX", 40)
    with pytest.raises(BadInput, match="longer than 40 bytes"):
        read_changed_blocks(file)


def test_a_list_that_is_not_there_is_not_found(file: Path) -> None:
    with pytest.raises(NotFound):
        read_changed_blocks(file.with_name("none.json"))
    with pytest.raises(BadInput, match="is a directory"):
        read_changed_blocks(file.parent)
