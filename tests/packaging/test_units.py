"""The systemd units are valid, start programs that exist, and stay hardened."""

import configparser
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vdrd.store.guard import BOOT_ID_VARIABLE

ROOT = Path(__file__).parents[2]
UNITS = sorted(ROOT.joinpath("packaging/systemd").glob("*.service"))
EXPOSURE_MAX = {"vdr-agent.service": 4.5}
"""By `systemd-analyze security`: 0 is sealed, 10 is wide open. An agent must reach every file of its host."""


def unit_ids() -> list[str]:
    return [unit.name for unit in UNITS]


def test_every_daemon_has_a_unit() -> None:
    assert unit_ids() == [
        "vdr-agent.service",
        "vdr-console.service",
        "vdrd-appliance.service",
        "vdrd-node.service",
        "vdrd-server.service",
    ]


@pytest.mark.parametrize("unit", UNITS, ids=unit_ids())
def test_unit_verifies_without_a_complaint(unit: Path, tmp_path: Path) -> None:
    # The programs of the production path are those of this environment for the check.
    programs = Path(sys.executable).parent
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/vdr/bin", str(programs)))
    command = ["systemd-analyze", "verify", "--man=no", "--generators=no", "--recursive-errors=no", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("unit", UNITS, ids=unit_ids())
def test_unit_is_hardened(unit: Path) -> None:
    limit = round(10 * EXPOSURE_MAX.get(unit.name, 2.0))
    command = [
        "systemd-analyze",
        "security",
        "--offline=yes",
        "--no-pager",
        f"--threshold={limit}",
        str(unit),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=unit_ids())
def test_unit_starts_a_program_of_the_package(unit: Path) -> None:
    config = configparser.ConfigParser(strict=False, interpolation=None)
    config.optionxform = str  # type: ignore[assignment,method-assign]
    config.read(unit)
    program = Path(config["Service"]["ExecStart"].split()[0])
    scripts = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["project"]["scripts"]
    assert program.parent == Path("/opt/vdr/bin")
    assert program.name in scripts


@pytest.mark.parametrize("unit", UNITS, ids=unit_ids())
def test_unit_that_serves_storages_is_told_the_boot_id(unit: Path) -> None:
    serves = unit.name in ("vdrd-node.service", "vdrd-appliance.service")
    assert (f"\nEnvironment={BOOT_ID_VARIABLE}=%b\n" in unit.read_text()) == serves
