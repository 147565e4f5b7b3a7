"""`vdrd` before anything runs: mistakes in settings and state directories."""

from pathlib import Path

import pytest

from vdrd.cli.daemon import main


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nlissten = []", "did you mean listen"),
        ("[server]\nlisten = ['127.0.0.1:99999']", "up to 65535"),
        ("[node]\nlog_level = 'loud'", "node.log_level must be"),
        ("[appliance]\nlog_level = 'loud'", "appliance.log_level must be"),
    ],
    ids=["key", "port", "level-of-a-part", "level"],
)
def test_appliance_with_a_mistake_in_its_settings_says_so_and_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    settings, state = tmp_path / "conf.d", tmp_path / "state"
    settings.mkdir()
    (settings / "a.toml").write_text(text)
    assert main(["appliance", "--config-dir", str(settings), "--state", str(state)]) == 2
    assert said in capsys.readouterr().err
    assert not state.exists()


def test_appliance_whose_state_directory_is_a_file_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    state.write_text("")
    assert main(["appliance", "--config-dir", str(tmp_path), "--state", str(state)]) == 1
    assert capsys.readouterr().err == (f"vdrd: cannot use {state}: file exists. see state_directory\n")
