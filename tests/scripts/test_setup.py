"""scripts/setup is harmless to repeat, also by two at once, and leaves programs that run the checkout."""

import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SETUP = ROOT / "scripts/setup"


def test_setup_again_is_quick_and_silent() -> None:
    subprocess.run([SETUP], check=True, capture_output=True)
    began = time.monotonic()
    done = subprocess.run([SETUP], check=True, capture_output=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert time.monotonic() - began < 10


def test_two_setups_at_once_both_succeed() -> None:
    both = [subprocess.Popen([SETUP], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    assert [(run.communicate()[0], run.returncode) for run in both] == [(b"", 0), (b"", 0)]


def test_setup_refuses_an_unknown_option() -> None:
    done = subprocess.run([SETUP, "--tset"], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "setup: unknown option --tset; usage: scripts/setup [--test]\n"


def test_programs_run_this_checkout() -> None:
    scripts = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["project"]["scripts"]
    for name in scripts:
        assert Path(sys.executable).with_name(name).exists(), name
    script = "import vdrd, native; print(vdrd.__file__); print(native.__file__)"
    done = subprocess.run([sys.executable, "-c", script], cwd="/", check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(ROOT / "vdrd/__init__.py"), str(ROOT / "native/__init__.py")]


def test_package_list_is_sorted_and_has_known_groups() -> None:
    lines = ROOT.joinpath("scripts/debian-packages").read_text().splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    assert {len(row) for row in rows} == {2}
    assert {group for group, _ in rows} == {"run", "test"}
    assert rows == sorted(rows)
