"""Keeps a few child processes running and stops them together. Knows nothing of what they do.

A child that dies is started again after a pause that doubles while it keeps dying soon. Children end with the
supervisor,
even when that is killed: the kernel tells them.
"""

import logging
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
"""A part that cannot start costs a few seconds of a core each time; jobs wait longer than this for it."""
STEADY_SECONDS = 10.0
"""A child that lived this long starts with the first pause again."""
_PROBE_SECONDS = 0.1
_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep running."""

    name: str
    argv: Sequence[str]
    port: int
    """TCP port it listens on once it is ready."""


def is_listening(port: int) -> bool:
    """True if some process listens on this TCP port. Asks the kernel: a connection would be a stranger to the
    child."""
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                return True
    return False


@dataclass(slots=True)
class _Running:
    process: subprocess.Popen[bytes]
    pidfd: int


class Supervisor:
    """Runs children; see `run`."""

    def __init__(self, children: Sequence[Child], stop_seconds: float) -> None:
        self._children = children
        self._stop_seconds = stop_seconds
        self._running: dict[str, _Running] = {}
        self._is_stopping = False

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: running.process.pid for name, running in self._running.items()}

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Start the children in order, each when the one before listens; then keep them until
        cancelled, and
        stop them in the opposite order."""
        try:
            async with trio.open_nursery() as nursery:
                for child in self._children:
                    await nursery.start(self._keep, child)
                    await self._wait_ready(child)
                    log.info("part ready name=%s pid=%d", child.name, self.pids()[child.name])
                on_ready()
        finally:
            self._is_stopping = True
            with trio.CancelScope(shield=True):
                for child in reversed(self._children):
                    await self._stop(child.name)

    async def _wait_ready(self, child: Child) -> None:
        while not is_listening(child.port):  # noqa: ASYNC110 - another process cannot set our event
            await trio.sleep(_PROBE_SECONDS)

    async def _keep(
        self, child: Child, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            began = trio.current_time()
            running = self._start(child)
            task_status.started()
            # A second `started` would be a defect: only the first start is waited for.
            task_status = trio.TASK_STATUS_IGNORED
            await trio.lowlevel.wait_readable(running.pidfd)
            status = self._reap(child.name)
            if trio.current_time() - began >= STEADY_SECONDS:
                pause_seconds = FIRST_PAUSE_SECONDS
            log.error("part died name=%s status=%d again_in_seconds=%g", child.name, status, pause_seconds)
            await trio.sleep(pause_seconds)
            pause_seconds = min(LONGEST_PAUSE_SECONDS, pause_seconds * 2)

    def _start(self, child: Child) -> _Running:
        # From this very thread: the kernel ties the child's death signal to the thread that made it.
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *child.argv], stdin=subprocess.DEVNULL
        )
        running = _Running(process, os.pidfd_open(process.pid))
        self._running[child.name] = running
        log.info("part started name=%s pid=%d", child.name, process.pid)
        return running

    def _reap(self, name: str) -> int:
        running = self._running.pop(name)
        os.close(running.pidfd)
        return running.process.wait()

    async def _stop(self, name: str) -> None:
        running = self._running.get(name)
        if running is None:
            return
        running.process.send_signal(signal.SIGTERM)
        with trio.move_on_after(self._stop_seconds) as patience:
            await trio.lowlevel.wait_readable(running.pidfd)
        if patience.cancelled_caught:
            log.error("part killed name=%s reason=did not stop within %g s", name, self._stop_seconds)
            running.process.kill()
            await trio.lowlevel.wait_readable(running.pidfd)
        status = self._reap(name)
        log.info("part stopped name=%s status=%d", name, status)
