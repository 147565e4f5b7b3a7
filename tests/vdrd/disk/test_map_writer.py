"""Maps written while leaves still come in are the maps written at the end."""

import random
from pathlib import Path

import pytest

from vdrd.disk.map_writer import FANOUT, MapReader, MapWriter, Node
from vdrd.formats.storage import BLOCK_BYTES
from vdrd.model.points import DiskRoot
from vdrd.store import Storage

LEVELS = 3
SIZE_BYTES = BLOCK_BYTES * FANOUT**LEVELS // 2


def leaf(seed: int) -> Node:
    """A leaf with some children; of seed 0 one without any."""
    source, node = random.Random(seed), Node()
    for child in source.sample(range(FANOUT), source.randrange(1, 9)) if seed else []:
        node.put(child, source.randbytes(32))
    return node


def written(
    storage: Storage, leaves: dict[int, int], parent: DiskRoot | None, *, window: int
) -> tuple[DiskRoot, MapWriter]:
    """Leaves given in order but for some disorder within `window`; with 0 nothing is said on the way."""
    with storage.session() as session:
        above = MapReader(parent, storage.reader) if parent else None
        writer = MapWriter(session, SIZE_BYTES, BLOCK_BYTES, above)
        source, todo = random.Random(window), sorted(leaves)
        under_way: list[int] = []
        while todo or under_way:
            while todo and len(under_way) < max(window, 1):
                under_way.append(todo.pop(0))
            index = under_way.pop(source.randrange(len(under_way)))
            writer.put_leaf(index, leaf(leaves[index]))
            if window:
                writer.advance(min([*under_way, *todo[:1]], default=index + 1))
        return writer.finish(), writer


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("with_parent", [False, True], ids=["full", "on a parent"])
def test_map_written_on_the_way_is_the_map_written_at_the_end(
    storage: Storage, tmp_path: Path, window: int, with_parent: bool
) -> None:
    source = random.Random(7)
    places = [*source.sample(range(FANOUT**2 // 2), 60), *range(512, 530)]
    parent = written(storage, dict.fromkeys(places, 1), None, window=0)[0] if with_parent else None
    changed = {place: source.randrange(4) for place in [*places[::2], 5, 4000]}
    at_the_end, _ = written(storage, changed, parent, window=0)
    on_the_way, writer = written(storage, changed, parent, window=window)
    assert at_the_end.levels == LEVELS
    assert on_the_way == at_the_end
    assert not any(writer._waiting)
    reader = MapReader(on_the_way, storage.reader)
    for place, seed in changed.items():
        assert list(reader.node(1, place).children()) == list(leaf(seed).children())


def test_map_whose_leaves_all_became_empty_has_no_root(storage: Storage) -> None:
    parent, _ = written(storage, {3: 1, 7000: 2}, None, window=1)
    empty, _ = written(storage, {3: 0, 7000: 0}, parent, window=1)
    assert parent.root_id is not None
    assert empty.root_id is None
