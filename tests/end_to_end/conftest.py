"""Real daemons over loopback: an appliance whose console is the test, agents, their death and return."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from schemas import api
from tests.files.walker import differences, walk
from vdrd.net.address import Address
from vdrd.net.credentials import Credentials
from vdrd.net.dial import dial
from vdrd.net.identity import Expected, Role
from vdrd.net.link import DeafHandler, Link
from vdrd.net.tls13 import Tls13Profile

START_SECONDS = 60.0
RUN_SECONDS = 90.0


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@dataclass
class Daemon:
    """A process of ours and its log."""

    argv: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(timeout=60)
        self.process = None
        return status

    @property
    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@dataclass
class Appliance:
    """A running appliance, and calls to it as administrator."""

    state: Path
    daemon: Daemon
    config_dir: Path
    agents: list[Daemon] = field(default_factory=list)
    link: Link | None = None
    token: str = ""

    def status(self) -> dict[str, Any]:
        deadline = time.monotonic() + START_SECONDS
        while not (self.state / "appliance.json").exists():
            assert self.daemon.process is not None
            assert self.daemon.process.poll() is None, self.daemon.text
            assert time.monotonic() < deadline, self.daemon.text
            time.sleep(0.05)
        found: dict[str, Any] = json.loads((self.state / "appliance.json").read_text(encoding="utf-8"))
        return found

    def pid_of(self, name: str) -> int | None:
        """Process id of a part as it is now, started again or not; None while it is dead."""
        assert self.daemon.process is not None
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == self.daemon.process.pid and name.encode() in words:
                return int(folder.name)
        return None

    def kill_part(self, name: str) -> None:
        """kill -9 a part of the appliance that is alive."""
        pid = self.pid_of(name)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    @property
    def link_is_down(self) -> bool:
        return self.link is None or not self.link.is_open

    @property
    def key_file(self) -> Path:
        return next((self.state / "node" / "keys").glob("*.key"))

    async def ask(self, name: str, request: api.Message) -> Any:
        assert self.link is not None
        call = api.Call(
            name=name,
            arguments=msgspec.Raw(msgspec.msgpack.encode(request)),
            session_token=self.token,
            address="127.0.0.1",
        )
        reply = await self.link.request(call, api.CallReply, deadline_seconds=120)
        return msgspec.msgpack.decode(reply.result, type=api.CALLS[name].response)

    async def log_in(self) -> None:
        password = (self.state / "server" / "administrator-password").read_text().strip()
        request = api.Login(user_name="admin", password=password)
        self.token = ""
        self.token = (await self.ask("session.login", request)).session_token

    async def wait_run(self, run_id: str, *states: api.RunState, attempt: int | None = None) -> api.RunInfo:
        """The run once it is in one of `states` (default: any final one)."""
        with trio.move_on_after(RUN_SECONDS):
            while True:
                run: api.RunInfo = await self.ask("run.get", api.RunGet(id=run_id))
                reached = run.state in states if states else run.state.is_final
                if reached and attempt in (None, run.attempt):
                    return run
                await trio.sleep(0.1)
        raise AssertionError(f"run is {run.state} {run.error}\n{self.daemon.text}\n{self.agents[-1].text}")

    async def run_job(self, job_id: str, kind: api.BackupType = api.BackupType.INCREMENTAL) -> api.RunInfo:
        started = await self.ask("job.run_now", api.JobRunNow(id=job_id, backup_type=kind))
        return await self.wait_run(started.run_ids[0])

    async def make_job(self, host_id: str, kind: api.ObjectKind, *paths: Path, **options: Any) -> str:
        request = api.JobCreate(
            name=f"job-{time.monotonic_ns()}",
            kind=kind,
            sources=[api.JobSource(host_id=host_id, paths=[str(path) for path in paths])],
            options=api.JobOptions(**{"retry_delay_seconds": 1, **options}),
        )
        return str((await self.ask("job.create", request)).id)

    async def wait_online(self, host_id: str) -> None:
        with trio.fail_after(START_SECONDS):
            while True:
                host = await self.ask("host.get", api.HostGet(id=host_id))
                if host.presence is api.Presence.ONLINE:
                    return
                await trio.sleep(0.05)

    async def enrol(
        self, directory: Path, *words: str, enrol_words: tuple[str, ...] = ()
    ) -> tuple[Daemon, str]:
        """Enrol an agent with a fresh token and start it; returns it and its host's id once it is online."""
        token = (await self.ask("host.create_token", api.EnrolmentTokenCreate())).token
        before = {host.id for host in (await self.ask("host.list", api.HostList())).items}
        agent = agent_at(directory, self.config_dir, *words)
        self.agents.append(agent)
        enrolment = [*agent.argv[:3], "enrol", *agent.argv[3:], *enrol_words, token]
        done = await trio.run_process(enrolment, capture_stdout=True, capture_stderr=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        agent.start()
        after = {host.id for host in (await self.ask("host.list", api.HostList())).items}
        (host_id,) = after - before
        await self.wait_online(host_id)
        return agent, host_id


def agent_at(directory: Path, config_dir: Path, *words: str) -> Daemon:
    state = f"agent.state_directory={json.dumps(str(directory / 'state'))}"
    argv = [sys.executable, "-m", "agent.main", "--config-dir", str(config_dir), "--set", state, *words]
    directory.mkdir(parents=True, exist_ok=True)
    return Daemon(argv, directory / "agent.log")


@pytest.fixture(scope="module")
def appliance_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Appliance]]:
    """Makes appliances with ports of their own; ends whatever of them still runs."""
    made: list[Appliance] = []
    tmp_path = tmp_path_factory.mktemp("appliances")

    def make(name: str = "appliance", wait_online_seconds: int = 15) -> Appliance:
        server, node, nfs, mount = free_ports(4)
        config_dir = tmp_path / f"{name}-conf.d"
        config_dir.mkdir()
        (config_dir / "test.toml").write_text(
            f"""
[server]
listen = ["127.0.0.1:{server}"]
grace_seconds = 15
wait_online_seconds = {wait_online_seconds}
[node]
server = "127.0.0.1:{server}"
listen = ["127.0.0.1:{node}"]
nfs_port = {nfs}
mount_port = {mount}
portmap_port = 0
""",
            encoding="utf-8",
        )
        state = tmp_path / name
        words = ["appliance", "--no-console", "--state", str(state), "--config-dir", str(config_dir)]
        daemon = Daemon([sys.executable, "-m", "vdrd.cli.daemon", *words], tmp_path / f"{name}.log")
        appliance = Appliance(state, daemon, config_dir)
        made.append(appliance)
        return appliance

    yield make
    for appliance in made:
        for daemon in [*appliance.agents, appliance.daemon]:
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.stop()


@pytest.fixture(scope="module")
def running_appliance(appliance_files: Callable[..., Appliance]) -> Appliance:
    """An appliance that the tests of a module share; each has hosts, jobs and points of its own."""
    made = appliance_files()
    made.daemon.start()
    return made


@pytest.fixture
async def appliance(running_appliance: Appliance) -> AsyncIterator[Appliance]:
    """The running appliance with an administrator logged in; agents of the test end with it."""
    async with linked(running_appliance):
        yield running_appliance
    for agent in running_appliance.agents:
        if agent.process is not None and agent.process.poll() is None:
            agent.stop(signal.SIGKILL)
    running_appliance.agents.clear()


class linked:  # noqa: N801 - reads as a verb
    """The console's link to an appliance, as an async context manager; logs in."""

    def __init__(self, appliance: Appliance) -> None:
        self._appliance = appliance

    async def __aenter__(self) -> Appliance:
        status = await trio.to_thread.run_sync(self._appliance.status)
        profile = Tls13Profile(Credentials(self._appliance.state / "console" / "identity"))
        self._dialled = dial(
            Address.parse(status["server"]), profile, expected=Expected(Role.SERVER), handler=DeafHandler()
        )
        self._appliance.link = await self._dialled.__aenter__()
        await self._appliance.log_in()
        return self._appliance

    async def __aexit__(self, *details: Any) -> None:
        await self._dialled.__aexit__(*details)


def make_tree(root: Path, files: int = 60, seed: int = 1) -> None:
    """A small tree with the usual corner cases."""
    import random

    noise = random.Random(seed)
    for number in range(files):
        folder = root / f"folder-{number % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file-{number}").write_bytes(noise.randbytes(noise.randrange(1, 60_000)))
    (root / "link").symlink_to("folder-1/file-1")
    os.link(root / "folder-0" / "file-0", root / "hard")
    (root / "empty").mkdir()
    (root / "folder-2").chmod(0o700)
    os.mkfifo(root / "pipe")
    (root / b"not-utf8-\xff\xfe".decode("utf-8", "surrogateescape")).write_text("x")


def same_trees(left: Path, right: Path) -> bool:
    """True if an independent walker sees the same in both."""
    found = differences(walk(left), walk(right))
    for line in found:
        print(line)
    return not found
