"""The wheel that production installs: complete, and working away from the checkout."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it; dependencies are borrowed from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    programs = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, env=environment, check=True, timeout=240)
    (wheel,) = folder.glob("vdr-*.whl")
    target = folder / "venv"
    venv.create(target, symlinks=True)
    install = [*pip, "--python", str(target / "bin/python"), "install", "--no-deps", str(wheel)]
    subprocess.run(install, env=environment, check=True, timeout=120)
    site = next(target.glob("lib/python3*/site-packages"))
    borrowed = next(Path(sys.prefix).glob("lib/python3*/site-packages"))
    # The path alone, not as a site directory: its .pth file would bring the checkout in.
    site.joinpath("borrowed.pth").write_text(f"{borrowed}\n")
    return target


def test_wheel_runs_from_its_own_files(installed: Path, tmp_path: Path) -> None:
    script = "import agent, console, fuse_nfs, native.err, vdrd; print(vdrd.__file__, native.__file__)"
    done = subprocess.run(
        [installed / "bin/python", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert all(path.startswith(str(installed)) for path in done.stdout.split())


def test_wheel_brings_every_program(installed: Path, tmp_path: Path) -> None:
    for program in ("vdr", "vdrd", "vdr-agent", "vdr-console"):
        assert os.access(installed / "bin" / program, os.X_OK), program
    done = subprocess.run(
        [installed / "bin/vdr", "--help"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.startswith("usage: vdr")


def test_wheel_brings_what_is_not_python(installed: Path) -> None:
    share = installed / "share"
    site = next(installed.glob("lib/python3*/site-packages"))
    units = ROOT.joinpath("packaging/systemd").glob("*.service")
    assert {path.name for path in share.glob("vdr/systemd/*")} == {unit.name for unit in units}
    assert share.joinpath("vdr/sysusers.conf").exists()
    assert share.joinpath("doc/vdr/admin/install.md").exists()
    for folder in ("schemas", "vdrd", "console", "agent", "fuse_nfs"):
        ours = {
            path.relative_to(ROOT)
            for path in ROOT.joinpath(folder).rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }
        assert {path for path in ours if not site.joinpath(path).exists()} == set()
