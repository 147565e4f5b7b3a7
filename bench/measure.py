"""Run a command and say what it cost; describe the machine it ran on."""

import compileall
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
HERE = Path(__file__).resolve().parent
RUNNER = str(HERE / "measured_run.py")


@dataclass(frozen=True)
class Cost:
    """What one command took, its child processes included."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int  # of the largest process


class CommandFailed(Exception):
    """A measured command ended with an error: its figure would mean nothing."""


def compile_bytecode() -> None:
    """Compile the modules of this checkout, as an installation does: a start then reads bytecode, not
    source."""
    for package in ("native", "schemas", "vdrd", "fuse_nfs"):
        compileall.compile_dir(HERE.parent / package, quiet=2)


def run(command: list[str | Path], *, environment: dict[str, str], directory: Path) -> Cost:
    """Run to the end. Output is kept only for the error of a failure."""
    with tempfile.TemporaryFile() as output:
        into, out = os.pipe()
        with os.fdopen(into) as report:
            subprocess.run(
                [sys.executable, "-ISE", RUNNER, str(out), *map(str, command)],
                env={**os.environ, **environment},
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[out],
                check=True,
            )
            os.close(out)
            code, *cost = json.loads(report.read())
        if code != 0:
            output.seek(0)
            text = output.read().decode(errors="replace")[-2000:]
            raise CommandFailed(f"{' '.join(map(str, command))} ended with {code}:\n{text}")
    return Cost(*cost)


def stored_bytes(directory: Path) -> int:
    """Disk space of everything below a directory."""
    return sum(
        entry.lstat().st_blocks * 512
        for entry in directory.rglob("*")
        if entry.is_file() and not entry.is_symlink()
    )


def warm(path: Path) -> None:
    """Bring a file or a tree into the page cache, and let earlier writes reach the disk."""
    os.sync()
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    for file in files:
        with file.open("rb") as opened:
            while opened.read(8 * MIB):
                pass


def _version(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "absent"
    return done.stdout.splitlines()[0].strip() if done.stdout else ""


def machine(directory: Path) -> dict[str, object]:
    """What a reader needs to judge the figures."""
    cpu = Path("/proc/cpuinfo").read_text().split("\n\n", maxsplit=1)[0]
    fields = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in cpu.splitlines())
    }
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    wanted = ("sse4_2", "avx2", "avx512f", "aes", "vaes", "gfni", "pclmulqdq", "vpclmulqdq", "sha_ni")
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": fields.get("model name", platform.processor()),
        "cores": os.cpu_count(),
        "features": [name for name in wanted if name in fields.get("flags", "").split()],
        "memory_gib": round(memory_kib / (1 << 20), 1),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "file_system": _version("stat", "-f", "-c", "%T", str(directory)),
        "load_at_start": os.getloadavg(),
        "restic": _version("restic", "version"),
        "borg": _version("borg", "--version"),
        "python": platform.python_version(),
    }
