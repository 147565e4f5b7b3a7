"""Starts and stops the appliance and the agent of the demonstration, and finds them again in a later run.

Everything of theirs is below one directory (`.vdr/` of the checkout): configuration, state, logs, process
ids.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from report import DemonstrationError

_START_SECONDS = 180.0
"""A slow or busy machine needs a minute; only a broken one needs more."""
_STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Program:
    """A daemon: what is run, and where its log and process id are."""

    name: str
    command: list[str]
    folder: Path

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.folder / f"{self.name}.log"

    @property
    def _pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    def process_id(self) -> int | None:
        """Its process id if it runs. A number left behind by a reboot does not count: the start time must
        fit."""
        try:
            pid, started = self._pid_file.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        return int(pid) if _start_time(int(pid)) == started else None

    def start(self) -> None:
        """Start it unless it runs. It outlives this program."""
        if self.process_id() is not None:
            return
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._pid_file.write_text(f"{process.pid} {_start_time(process.pid)}\n")
        # It outlives us and nobody waits for it: the object must not complain about that.
        process.returncode = 0

    def wait_until(self, is_ready: Callable[[], bool], what: str) -> None:
        """Wait until it is ready; raises with the end of its log if it ends or takes too long."""
        deadline = time.monotonic() + _START_SECONDS
        while not is_ready():
            if self.process_id() is None:
                raise DemonstrationError(f"{self.name} ended while starting:\n{self._last_words()}")
            if time.monotonic() > deadline:
                raise DemonstrationError(
                    f"{what} after {_START_SECONDS:.0f} s. Log: {self.log}\n{self._last_words()}"
                )
            time.sleep(0.1)

    def stop(self) -> bool:
        """End it by SIGTERM, after a minute by SIGKILL. False if it did not run."""
        pid = self.process_id()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_SECONDS
            while self.process_id() is not None:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
        self._pid_file.unlink(missing_ok=True)
        return pid is not None

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"  {line}" for line in lines[-15:]) or "  (it printed nothing)"


def _start_time(pid: int) -> str | None:
    """When a process was started, in clock ticks since boot; None if there is none (a zombie is none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def is_free(port: int) -> bool:
    """True if nobody listens on this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(wanted: dict[str, int]) -> dict[str, int]:
    """For each name the wanted port, or the next one that neither anybody nor another name uses."""
    chosen: dict[str, int] = {}
    for name, first in wanted.items():
        ports = (port for port in range(first, first + 200) if port not in chosen.values() and is_free(port))
        port = next(ports, None)
        if port is None:
            raise DemonstrationError(f"no free port from {first} to {first + 199} on 127.0.0.1")
        chosen[name] = port
    return chosen


def program(name: str) -> str:
    """Path of one of the product's programs in this environment."""
    return str(Path(sys.executable).with_name(name))
