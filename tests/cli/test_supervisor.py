import os
import signal
import socket
import sys
from pathlib import Path

import trio

from vdrd.cli.supervisor import Child, Supervisor, is_listening

LISTENER = """
import pathlib, signal, socket, sys
log = pathlib.Path(sys.argv[2])
with log.open("a") as file: file.write("started\\n")
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
def stop(*_):
    with log.open("a") as file: file.write("stopped\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
while True: signal.pause()
"""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def child(name: str, log: Path) -> Child:
    port = free_port()
    return Child(name, [sys.executable, "-c", LISTENER, str(port), str(log)], port)


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_children_are_kept_and_stopped_in_order(tmp_path: Path) -> None:
    children = [child(name, tmp_path / "log") for name in ("first", "second")]
    supervisor = Supervisor(children, stop_seconds=10)
    ready = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run, ready.set)
        with trio.fail_after(60):
            await ready.wait()
        assert all(is_listening(one.port) for one in children)
        before = supervisor.pids()["first"]
        os.kill(before, signal.SIGKILL)
        with trio.fail_after(60):
            while supervisor.pids().get("first", before) == before or not is_listening(children[0].port):  # noqa: ASYNC110
                await trio.sleep(0.02)
        pids = list(supervisor.pids().values())
        nursery.cancel_scope.cancel()
    for pid in pids:
        assert not is_alive(pid)
    assert (tmp_path / "log").read_text().split() == ["started"] * 3 + ["stopped"] * 2


async def test_child_that_ignores_sigterm_is_killed_after_its_time(tmp_path: Path) -> None:
    stubborn = LISTENER.replace(
        '    with log.open("a") as file: file.write("stopped\\n")\n    sys.exit(0)', "    pass"
    )
    assert stubborn != LISTENER
    port = free_port()
    one = Child("stubborn", [sys.executable, "-c", stubborn, str(port), str(tmp_path / "log")], port)
    supervisor = Supervisor([one], stop_seconds=0.3)
    ready = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run, ready.set)
        with trio.fail_after(60):
            await ready.wait()
        (pid,) = supervisor.pids().values()
        nursery.cancel_scope.cancel()
    assert not is_alive(pid)
