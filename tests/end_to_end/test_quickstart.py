"""scripts/quickstart, as a new user runs it: does the main job, proves it, stops cleanly, and may be
repeated."""

import os
import subprocess
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "scripts/quickstart"


def run(state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"VDR_DEMONSTRATION_STATE": str(state)}
    return subprocess.run(
        [QUICKSTART, *options], env=environment, capture_output=True, text=True, check=False, timeout=500
    )


def loops_of(state: Path) -> str:
    done = subprocess.run(["losetup", "--list", "--noheadings"], capture_output=True, text=True, check=True)
    return "\n".join(line for line in done.stdout.splitlines() if str(state) in line)


@pytest.mark.timeout(1200)
def test_quickstart_proves_the_main_job_and_leaves_what_it_says(tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = run(state)
    try:
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("SHA-256 equal") == 4
        assert "entries equal in content and attributes" in done.stdout
        assert "console   https://127.0.0.1:" in done.stdout
        password = state.joinpath("server/administrator-password").read_text().strip()
        assert f"password  {password}\n" in done.stdout
        assert state.stat().st_mode & 0o777 == 0o700
        assert state.joinpath("appliance.json").exists()
        assert loops_of(state) == ""
        again = run(state, "--once")
        assert again.returncode == 0, again.stderr
        assert not state.joinpath("appliance.json").exists()
    finally:
        stopped = run(state, "--stop")
    assert (stopped.returncode, stopped.stdout) == (0, "nothing was running\n")


def test_quickstart_refuses_an_unknown_option() -> None:
    done = subprocess.run([QUICKSTART, "--twice"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("quickstart: unknown option --twice; usage:")
