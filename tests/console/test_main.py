"""`vdr-console` as a process: settings, refusals, start and stop."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from console.main import main
from vdrd.cli.rest import trust
from vdrd.model.errors import ExitCode
from vdrd.net.ca import Authority, new_key, new_request, pem_of_key
from vdrd.net.credentials import self_issue
from vdrd.net.identity import Role


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A console that was admitted, and nobody to link to."""
    authority = Authority.create(tmp_path / "authority")
    identity = tmp_path / "state" / "identity"
    self_issue(authority, identity, Role.CONSOLE, "0d3c6a2e-0000-4000-8000-000000000001")
    key = new_key()
    chain = authority.issue_web(new_request(key), ["localhost", "127.0.0.1"]) + authority.certificate_pem
    identity.joinpath("web.pem").write_bytes(pem_of_key(key) + chain.encode())
    return tmp_path / "state"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def options(state: Path, port: int, server: str = "127.0.0.1:1") -> list[str]:
    return [
        *["--config-dir", str(state), "--set", f'console.state_directory="{state}"'],
        *["--set", f'console.listen=["127.0.0.1:{port}"]', "--set", f"console.server={server}"],
    ]


def test_show_config_prints_what_is_in_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.joinpath("a.toml").write_text('[console]\nserver = "192.0.2.1:4510"\nstop_seconds = 9\n')
    tmp_path.joinpath("b.toml").write_text("[console]\nstop_seconds = 2.5\n[node]\nwhatever = 1\n")
    assert (
        main(["--config-dir", str(tmp_path), "--set", "console.log_level=debug", "--show-config"])
        == ExitCode.DONE
    )
    out = capsys.readouterr().out
    for line in ("[console]", 'server = "192.0.2.1:4510"', "stop_seconds = 2.5", 'log_level = "debug"'):
        assert line in out.splitlines()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "console.lisen=x"], "did you mean listen?"),
        (["--set", "console.stop_seconds=-1"], "must not be negative"),
        (["--set", "console.log_level=loud"], "log_level"),
        (["--set", "console.certificate=/no/such/file.pem"], "cannot use /no/such/file.pem for HTTPS"),
        ([], "cannot use"),
    ],
)
def test_setting_that_cannot_be_used_is_refused_with_its_name(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--config-dir", str(tmp_path), "--set", f'console.state_directory="{tmp_path / "none"}"']
    assert main([*where, *words]) == ExitCode.USAGE
    assert said in capsys.readouterr().err


def test_port_in_use_is_refused_with_the_address(state: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "console.main", *options(state, port)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == ExitCode.FAILED
    assert f"vdr-console: cannot listen on 127.0.0.1:{port}: address already in use" in done.stderr.lower()


def test_console_without_server_answers_says_so_and_stops_cleanly(state: Path) -> None:
    port = free_port()
    log = state / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "console.main", *options(state, port)], stderr=file)
    authority = state.parent.joinpath("authority", "authority.pem").read_text()
    try:
        with httpx.Client(base_url=f"https://localhost:{port}", verify=trust(authority)) as client:
            deadline = time.monotonic() + 60
            while True:
                try:
                    page = client.get("/login")
                    break
                except httpx.TransportError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            assert page.status_code == 200
            answer = client.post("/api/v1/sessions", json={"user_name": "admin", "password": "x"})
            assert answer.status_code == 503
            assert "cannot reach 127.0.0.1:1" in answer.json()["detail"]
            form = client.post("/login", data={"user_name": "admin", "password": "x"})
            assert form.status_code == 503
            assert 'value="admin"' in form.text
    finally:
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    text = log.read_text()
    assert "console started" in text
    assert "console stopped" in text
    assert "Traceback" not in text
