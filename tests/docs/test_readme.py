"""The README's commands do what it says, on images in place of disks."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_commands_without_a_server_protect_and_restore(tmp_path: Path) -> None:
    section = ROOT.joinpath("README.md").read_text().partition("## Without any server")[2]
    commands = re.findall(r"```\n(.*?)```", section, re.DOTALL)[0]
    places = {"/srv/points": "points", "/dev/sdb": "source.raw", "/dev/sdc": "target.raw"}
    for place, name in places.items():
        assert place in commands
        commands = commands.replace(place, str(tmp_path / name))
    programs = Path(sys.executable).parent
    commands = commands.replace(".venv/bin/", f"{programs}/")
    tmp_path.joinpath("source.raw").write_bytes(os.urandom(1 << 20) + bytes(3 << 20))
    tmp_path.joinpath("target.raw").write_bytes(b"old")
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "disk-b" in done.stdout
    assert tmp_path.joinpath("target.raw").read_bytes() == tmp_path.joinpath("source.raw").read_bytes()


def test_the_scripts_it_names_are_there() -> None:
    named = set(re.findall(r"\bscripts/\w+", ROOT.joinpath("README.md").read_text()))
    assert {"scripts/quickstart", "scripts/test"} <= named
    assert all(os.access(ROOT / script, os.X_OK) for script in named)
