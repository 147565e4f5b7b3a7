"""`vdr-agent` as people type it: settings, enrolment, endings."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from agent.config import AgentConfig
from agent.daemon import ModeWrong, resolved_mode
from agent.main import main
from agent.state import AgentState, Enrolment
from vdrd.net import ca
from vdrd.net.address import Address
from vdrd.net.identity import Role
from vdrd.net.token import Token

IDENT = "12345678-1234-1234-1234-123456789abc"


@pytest.fixture
def files(tmp_path):
    directory = tmp_path / "conf.d"
    directory.mkdir()
    (directory / "a.toml").write_text(f'[agent]\nstate_directory = "{tmp_path / "agent"}"\n')
    return directory


@pytest.fixture
def run(files, capsys):
    def call(*words):
        code = main(["--config-dir", str(files), *words])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def bundle_of(authority) -> str:
    key = ca.new_key()
    issued = authority.issue(ca.new_request(key), Role.AGENT, IDENT)
    return ca.pem_of_key(key).decode() + issued.certificate_pem + authority.certificate_pem


def test_show_config_prints_what_is_in_force(run, tmp_path):
    code, out, _ = run("--set", "agent.runs_max=9", "--show-config")
    assert code == 0
    assert "runs_max = 9" in out
    assert str(tmp_path / "agent") in out


def test_unknown_key_is_refused_with_a_suggestion(run, files):
    (files / "b.toml").write_text("[agent]\nrun_max = 1\n")
    code, out, err = run("--show-config")
    assert (code, out) == (2, "")
    assert "did you mean runs_max?" in err


def test_start_without_enrolment_says_how_to_enrol(run):
    code, _, err = run()
    assert code == 2
    assert err.startswith("vdr-agent: this host is not enrolled")
    assert "vdr-agent enrol TOKEN" in err


def test_unknown_log_level_is_refused(run):
    code, _, err = run("--set", "agent.log_level=loud")
    assert code == 2
    assert "must be one of debug, info, warning, error, not 'loud'" in err


async def test_daemon_ends_in_order_at_sigterm_even_when_it_comes_twice(headquarters, files):
    await headquarters.enrol()
    program = Path(sys.executable).with_name("vdr-agent")
    process = await trio.lowlevel.open_process([program, "--config-dir", files], stderr=subprocess.PIPE)
    await headquarters.until(lambda: headquarters.registers)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    with trio.fail_after(60):
        assert await process.wait() == 0
        told = b""
        while data := await process.stderr.receive_some():
            told += data
    await process.stderr.aclose()
    assert b"agent stopped" in told
    assert b"Traceback" not in told


@pytest.mark.parametrize(
    "words", [["enrol"], ["enrol", "token", "--bundle", "x"], ["enrol", "x", "--mode", "up"]]
)
def test_wrong_usage_ends_with_two(run, words):
    with pytest.raises(SystemExit) as caught:
        run(*words)
    assert caught.value.code == 2


def test_enrol_with_no_token_at_all_says_what_a_token_is(run, tmp_path):
    code, _, err = run("enrol", "hello")
    assert code == 2
    assert "it begins with vdr1." in err
    assert not (tmp_path / "agent").exists()


def test_enrol_with_nobody_there_ends_as_unreachable(run, tmp_path):
    text = Token((Address("127.0.0.1", 9),), b"f" * 32, b"c" * 48).text()
    code, _, err = run("enrol", text)
    assert code == 9
    assert "127.0.0.1:9" in err
    assert not (tmp_path / "agent").exists()


async def test_enrol_with_token_then_again_is_refused_unless_wanted(headquarters, files, capsys):
    token, _ = headquarters.desk.give_token()
    other, _ = headquarters.desk.give_token()

    def call(*words):
        return main(["enrol", *words, "--config-dir", str(files)])

    assert await trio.to_thread.run_sync(call, token.text()) == 0
    state = AgentState(headquarters.directory / "agent")
    first = state.credentials.identity()
    assert f"enrolled as {first.ident}" in capsys.readouterr().out
    assert state.load() == Enrolment([str(headquarters.address)], "active")
    assert await trio.to_thread.run_sync(call, other.text()) == 5
    assert "enrolled already" in capsys.readouterr().err
    assert state.credentials.identity() == first
    assert await trio.to_thread.run_sync(lambda: call(other.text(), "--again", "--mode", "passive")) == 0
    assert state.credentials.identity() != first
    assert state.load().mode == "passive"


async def test_enrol_with_a_bundle_makes_a_passive_agent(headquarters, files, tmp_path):
    path = tmp_path / "bundle.pem"
    path.write_text(bundle_of(headquarters.authority))
    words = ["enrol", "--bundle", str(path), "--config-dir", str(files)]
    assert await trio.to_thread.run_sync(main, words) == 0
    state = AgentState(tmp_path / "agent")
    assert state.credentials.identity().ident == IDENT
    assert state.load() == Enrolment([], "passive")


@pytest.mark.parametrize("part", ["no key", "no authority", "another key", "rubbish"])
async def test_enrol_with_a_broken_bundle_changes_nothing(headquarters, files, tmp_path, part, capsys):
    bundle = bundle_of(headquarters.authority)
    key, separator, rest = bundle.partition("-----BEGIN CERTIFICATE-----")
    certificate, _, _ = rest.partition("-----END CERTIFICATE-----")
    broken = {
        "no key": separator + rest,
        "no authority": key + separator + certificate + "-----END CERTIFICATE-----\n",
        "another key": ca.pem_of_key(ca.new_key()).decode() + separator + rest,
        "rubbish": "hello",
    }[part]
    path = tmp_path / "bundle.pem"
    path.write_text(broken)
    words = ["enrol", "--bundle", str(path), "--config-dir", str(files)]
    assert await trio.to_thread.run_sync(main, words) == 2
    assert "does not hold a key, its certificate and the authority" in capsys.readouterr().err
    assert not (tmp_path / "agent").exists()


@pytest.mark.parametrize(
    ("config", "enrolment", "mode"),
    [
        (AgentConfig(), Enrolment(["s:1"], "active"), "active"),
        (AgentConfig(), Enrolment([], "passive"), "passive"),
        (AgentConfig(mode="passive"), Enrolment(["s:1"], "active"), "passive"),
        (AgentConfig(server="s:1", mode="active"), Enrolment([], "passive"), "active"),
        (AgentConfig(mode="active"), Enrolment([], "passive"), None),
        (AgentConfig(mode="lazy"), Enrolment(["s:1"], "active"), None),
    ],
)
def test_mode_is_as_enrolled_unless_configured(config, enrolment, mode):
    if mode is None:
        with pytest.raises(ModeWrong):
            resolved_mode(config, enrolment)
    else:
        assert resolved_mode(config, enrolment) == mode
