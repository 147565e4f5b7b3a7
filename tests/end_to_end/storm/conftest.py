"""A whole suite for a test: appliance (server, node, console) and an agent, in directories and on ports of
its own."""

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

PROGRAMS = Path(sys.executable).parent
COMMANDS = {
    "appliance": ["vdrd", "appliance"],
    "server": ["vdrd", "server"],
    "node": ["vdrd", "node"],
    "console": ["vdr-console"],
    "agent": ["vdr-agent"],
}
FINAL_STATES = {"done", "warning", "failed", "cancelled"}


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Suite:
    """Use as a context manager. `ask` speaks REST as the administrator.

    An appliance makes everything once; then its parts run each by itself, so that a killed one is back at
    once and not after the growing pause of the appliance's supervisor.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = folder / "storage"
        server, node, console, nfs, mount = free_ports(5)
        config = folder / "conf.d"
        config.mkdir(parents=True)
        config.joinpath("suite.toml").write_text(f"""
            [appliance]
            state_directory = "{folder}"
            [server]
            state_directory = "{folder}/server"
            listen = ["127.0.0.1:{server}"]
            [node]
            state_directory = "{folder}/node"
            server = "127.0.0.1:{server}"
            listen = ["127.0.0.1:{node}"]
            nfs_port = {nfs}
            mount_port = {mount}
            portmap_port = 0
            [console]
            state_directory = "{folder}/console"
            server = "127.0.0.1:{server}"
            listen = ["127.0.0.1:{console}"]
            [agent]
            state_directory = "{folder}/agent"
        """)
        self._options = ["--config-dir", str(config)]
        self._console = f"https://127.0.0.1:{console}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._client: httpx.Client | None = None
        self.host_id = ""

    def __enter__(self) -> "Suite":
        self._start("appliance")
        wait_until(self.folder.joinpath("appliance.json").exists, "the appliance is ready")
        self._stop("appliance")
        for part in ("server", "node", "console"):
            self._start(part)
        self._log_in()
        self._enrol()
        self._start("agent")
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()
        for part in reversed(list(self._running)):
            self._stop(part)

    # ---- processes

    def _start(self, part: str) -> None:
        command = [PROGRAMS / COMMANDS[part][0], *COMMANDS[part][1:], *self._options]
        with self.folder.joinpath(f"{part}.log").open("ab") as log:
            self._running[part] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _stop(self, part: str) -> None:
        process = self._running.pop(part)
        process.terminate()
        try:
            process.wait(timeout=90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self, part: str) -> None:
        """kill -9 it and start it again, as its unit would."""
        process = self._running[part]
        process.kill()
        process.wait()
        self._start(part)

    def _log_in(self) -> None:
        authority = str(self.folder / "server/authority/authority.pem")
        context = ssl.create_default_context(cafile=authority)
        self._client = httpx.Client(base_url=f"{self._console}/api/v1", verify=context, timeout=60)
        password = self.folder.joinpath("server/administrator-password").read_text().strip()
        answers: list[Any] = []

        def is_in() -> bool:
            with suppress(httpx.TransportError, AssertionError):
                answers.append(self.ask("POST", "/sessions", user_name="admin", password=password))
            return bool(answers)

        wait_until(is_in, "the console lets the administrator in")
        self._client.headers["Authorization"] = f"Bearer {answers[0]['session_token']}"

    def _enrol(self) -> None:
        token = self.ask("POST", "/enrolment-tokens", name="this-host")
        command = [PROGRAMS / "vdr-agent", "enrol", token["token"], *self._options]
        subprocess.run(command, check=True, capture_output=True)

    # ---- REST

    def ask(self, method: str, path: str, **fields: Any) -> Any:
        """Result of a call; raises with the problem document of a failure."""
        assert self._client is not None
        body = {"params": fields} if method in ("GET", "DELETE") else {"json": fields}
        answer = self._client.request(method, path, **body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def wait_online(self) -> None:
        def is_online() -> bool:
            with suppress(httpx.TransportError, AssertionError):
                hosts = self.ask("GET", "/hosts")["items"]
                nodes = self.ask("GET", "/nodes")["items"]
                return [item["presence"] for item in hosts + nodes] == ["online", "online"]
            return False

        wait_until(is_online, "host and node are online")
        self.host_id = self.ask("GET", "/hosts")["items"][0]["id"]

    def make_job(self, name: str, kind: str, path: Path, **options: Any) -> str:
        source = {"host_id": self.host_id, "paths": [str(path)]}
        job: str = self.ask("POST", "/jobs", name=name, kind=kind, sources=[source], options=options)["id"]
        return job

    def start_run(self, job_id: str, backup_type: str = "incremental") -> str:
        (run_id,) = self.ask("POST", f"/jobs/{job_id}/run", backup_type=backup_type)["run_ids"]
        return str(run_id)

    def wait_run(self, run_id: str, limit_seconds: float = 150) -> dict[str, Any]:
        """The run at its end. While server or console are down, asking again is all one can do."""
        run: dict[str, Any] = {}

        def is_over() -> bool:
            with suppress(httpx.TransportError, AssertionError):
                run.update(self.ask("GET", f"/runs/{run_id}"))
            return run.get("state") in FINAL_STATES

        try:
            wait_until(is_over, f"run {run_id} is over", limit_seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {run}\n{self.words()}") from None
        return run

    def points(self) -> list[str]:
        """Ids of all points, oldest first."""
        rows = self.ask("GET", "/points", limit=500)["items"]
        return [row["id"] for row in sorted(rows, key=lambda row: row["time"])]

    # ---- beside the daemons

    def key_file(self) -> Path:
        (key,) = self.folder.joinpath("node/keys").glob("*.key")
        return key

    def words(self) -> str:
        """Ends of the logs, for a failure's message."""
        return "\n".join(
            f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-25:])
            for log in self.folder.glob("*.log")
        )


def wait_until(is_so: Callable[[], bool], what: str, limit_seconds: float = 180) -> None:
    """Look until it is so; these are other processes, which cannot set an event of ours."""
    deadline = time.monotonic() + limit_seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {limit_seconds} s: {what}"
        time.sleep(0.1)


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[Suite]:
    """A suite that is up, with this machine as its only host."""
    with Suite(tmp_path / "suite") as made:
        made.wait_online()
        yield made
