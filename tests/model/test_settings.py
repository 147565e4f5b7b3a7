from dataclasses import dataclass
from pathlib import Path

import pytest

from vdrd.model import settings
from vdrd.model.settings import AtLeastOne, Secret, SettingsWrong

NO_SECRET = Secret("")


@dataclass(frozen=True)
class Sample:
    listen: tuple[str, ...] = ("127.0.0.1:1",)
    count: int = 3
    wait_seconds: float = 1.5
    is_on: bool = False
    place: Path = Path("/var")
    limit: int | None = None
    runs_max: AtLeastOne = 2
    rate: AtLeastOne | None = None
    secret: Secret = NO_SECRET


def load(*texts: str, overrides: tuple[str, ...] = (), **given: object) -> Sample:
    files = [(f"{number}.toml", text) for number, text in enumerate(texts)]
    return settings.load(Sample, "server", files, overrides, **given)


def test_load_without_files_gives_the_defaults() -> None:
    assert load() == Sample()


def test_load_merges_key_by_key_and_the_later_wins() -> None:
    first = '[server]\ncount = 5\nlisten = ["0.0.0.0:9"]\n[node]\nserver = "x:1"'
    assert load(first, "[server]\ncount = 7\nlimit = 2") == Sample(listen=("0.0.0.0:9",), count=7, limit=2)


def test_load_command_line_wins_over_files() -> None:
    text = '[server]\ncount = 5\nplace = "/file"'
    found = load(
        text, overrides=("server.count=9", "node.server=x", "server.is_on=true"), place=Path("/given")
    )
    assert found == Sample(count=9, is_on=True, place=Path("/given"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[server]\ncuont = 1", "unknown key cuont, did you mean count?"),
        ("[sevrer]\ncount = 1", "unknown table sevrer, did you mean server?"),
        ("[server]\nruns_max = 0", "runs_max: must be at least 1, but is 0"),
        ("[server]\nrate = 0", "rate: must be at least 1, but is 0"),
        ("[server]\nruns_max = true", "runs_max: must be a whole number"),
        ("[server]\ncount = 1.5", "count: must be a whole number"),
        ("[server]\ncount = -1", "count: must not be negative"),
        ('[server]\ncount = "1"', "count: must be a whole number"),
        ("[server]\ncount = true", "count: must be a whole number"),
        ('[server]\nlisten = "a:1"', "listen: must be a list of texts"),
        ("[server]\nlisten = [1]", "listen: must be a list of texts"),
        ("[server]\nis_on = 1", "is_on: must be true or false"),
        ("[server]\nplace = 1", "place: must be a path"),
        ("server = 1", "must be a table"),
        ("[server", "is no TOML"),
    ],
    ids=[
        "key",
        "table",
        "zero",
        "zero-or-none",
        "bool-at-least",
        "fraction",
        "negative",
        "text",
        "bool",
        "one",
        "items",
        "number",
        "path",
        "table-kind",
        "toml",
    ],
)
def test_load_of_what_cannot_be_used_names_the_file_and_the_reason(text: str, expected: str) -> None:
    with pytest.raises(SettingsWrong) as caught:
        load(text)
    assert "0.toml" in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize("override", ["count=1", "server.count", "nobody.count=1", "server.=1"])
def test_load_of_an_override_that_is_none_is_refused(override: str) -> None:
    with pytest.raises(SettingsWrong):
        load(overrides=(override,))


def test_shown_can_be_loaded_again_and_masks_secrets() -> None:
    found = load('[server]\nsecret = "hush"\nplace = "/a\\"b"\nlisten = ["x:1", "y:2"]')
    text = settings.shown("server", found)
    assert "hush" not in text
    assert 'secret = "***"' in text
    assert load(text.replace("***", "hush")) == found


def test_secret_never_shows_itself() -> None:
    assert "hush" not in f"{Secret('hush')} {Secret('hush')!r}"


def test_read_files_takes_toml_files_in_order_of_name(tmp_path: Path) -> None:
    (tmp_path / "20-b.toml").write_text("b")
    (tmp_path / "10-a.toml").write_text("a")
    (tmp_path / "ignored.txt").write_text("x")
    assert [text for _, text in settings.read_files(tmp_path)] == ["a", "b"]
    assert settings.read_files(tmp_path / "nowhere") == []
    (tmp_path / "30-c.toml").write_bytes(b"\xff")
    with pytest.raises(SettingsWrong, match=r"30-c\.toml"):
        settings.read_files(tmp_path)
