"""`vdr` over REST, against the console over the fake server on a real HTTPS port."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import api
from tests.console.fake_server import PASSWORD
from tests.console.site import Site, open_site
from vdrd.cli.main import main
from vdrd.model.errors import ExitCode


class Shell:
    """Runs `vdr` in this process."""

    def __init__(self, site: Site, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.site = site
        self.directory = directory
        self._capsys = capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        try:
            code = main(list(words))
        except SystemExit as end:
            code = int(end.code or 0)
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def ok(self, *words: str) -> Any:
        code, out, err = self.run(*words, "--json")
        assert code == ExitCode.DONE, err
        return json.loads(out)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture
def shell(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    monkeypatch.setenv("VDR_SESSION_FILE", str(tmp_path / "session.json"))
    monkeypatch.setenv("VDR_PASSWORD", PASSWORD)
    return Shell(site, tmp_path, capsys)


@pytest.fixture
def logged_in(shell: Shell) -> Shell:
    code, _, err = shell.run("login", shell.site.address, "--ca", str(shell.site.authority))
    assert code == ExitCode.DONE, err
    return shell


def test_login_keeps_session_for_its_owner_only_and_logout_removes_it(logged_in: Shell) -> None:
    file = logged_in.directory / "session.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in file.read_text()
    assert logged_in.run("logout")[0] == ExitCode.DONE
    assert not file.exists()
    code, _, err = logged_in.run("status")
    assert code == ExitCode.UNAUTHORISED
    assert err == "vdr: the session has ended. log in again\n"


def test_key_of_a_storage_is_rotated(logged_in: Shell) -> None:
    answer = logged_in.ok("storage", "rotate-key", "main", "--drop", "00c0ffee")
    assert answer == {"epoch_count": 2, "slots": ["0badcafe"], "dropped_slots": ["00c0ffee"]}
    code, out, _ = logged_in.run("storage", "rotate-key", "main")
    assert code == ExitCode.DONE
    assert "key epoch 1 of storage main is in force; slots: 0badcafe" in out
    assert logged_in.run("storage", "rotate-key", "main", "--drop", "not a slot")[0] == ExitCode.USAGE


def test_login_by_fingerprint_insists_on_that_authority(shell: Shell) -> None:
    assert shell.run("login", shell.site.address, "--fingerprint", shell.site.fingerprint)[0] == ExitCode.DONE
    code, _, err = shell.run("login", shell.site.address, "--fingerprint", "00" * 32)
    assert code == ExitCode.UNAUTHORISED
    assert "fingerprint" in err


def test_login_without_proof_refuses_unknown_authority_and_says_how(shell: Shell) -> None:
    code, _, err = shell.run("login", shell.site.address)
    assert code == ExitCode.UNAUTHORISED
    assert "--ca" in err
    assert not (shell.directory / "session.json").exists()


def test_login_with_wrong_password_keeps_no_session(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDR_PASSWORD", "wrong")
    code, _, err = shell.run("login", shell.site.address, "--ca", str(shell.site.authority))
    assert (code, err) == (ExitCode.UNAUTHORISED, "vdr: wrong user name or password\n")
    assert not (shell.directory / "session.json").exists()


def test_login_where_nobody_listens_ends_unreachable(shell: Shell) -> None:
    code, _, err = shell.run("login", "https://127.0.0.1:1")
    assert code == ExitCode.UNREACHABLE
    assert err.startswith("vdr: cannot reach https://127.0.0.1:1")


@pytest.mark.parametrize(
    "words",
    [
        "status",
        "host list",
        "node list",
        "storage list",
        "job list",
        "run list",
        "point list",
        "export list",
        "user list",
    ],
)
def test_command_that_lists_prints_table_and_one_json_document(logged_in: Shell, words: str) -> None:
    code, out, err = logged_in.run(*words.split())
    assert (code, err) == (ExitCode.DONE, "")
    assert out
    answer = logged_in.ok(*words.split())
    assert words == "status" or answer["items"]


def test_job_from_creation_to_deletion(logged_in: Shell) -> None:
    made = logged_in.ok(
        *["job", "create", "nightly", "files", "--host", "web-01", "--path", "/srv", "--path", "/etc"],
        *["--storage", "main", "--exclude", "*.tmp", "--at", "01:30", "--zone", "Asia/Shanghai"],
        *["--days", "mon,fri", "--keep-last", "5"],
    )
    assert made["sources"][0]["paths"] == ["/srv", "/etc"]
    assert made["schedules"][0] == {
        "type": "daily",
        "at": "01:30",
        "zone": "Asia/Shanghai",
        "weekdays": [1, 5],
        "backup_type": "incremental",
    }
    assert (made["options"]["exclude"], made["options"]["keep_last"]) == (["*.tmp"], 5)
    started = logged_in.ok("job", "run", "nightly", "--type", "full")
    assert logged_in.ok("run", "show", started["run_ids"][0])["backup_type"] == "full"
    assert logged_in.ok("job", "disable", "nightly")["is_enabled"] is False
    code, _, err = logged_in.run(*["job", "create", "nightly", "files", "--host", "web-01", "--path", "/srv"])
    assert (code, "already" in err) == (ExitCode.REFUSED, True)
    assert logged_in.ok("job", "delete", "nightly")["id"] == made["id"]
    assert logged_in.run("job", "show", "nightly")[:2] == (ExitCode.NOT_FOUND, "")


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("done", ExitCode.DONE),
        ("warning", ExitCode.WARNINGS),
        ("failed", ExitCode.FAILED),
        ("cancelled", ExitCode.FAILED),
    ],
)
def test_watch_follows_run_until_its_end_and_tells_how(logged_in: Shell, state: str, code: int) -> None:
    server = logged_in.site.server
    run = logged_in.site.do(lambda: server.add_run(api.RunKind.VERIFY))
    logged_in.site.do(lambda: server.change_run(run.id, state=api.RunState.RUNNING))
    logged_in.site.later(
        0.2, lambda: server.change_run(run.id, state=api.RunState(state), ended_at=server.now())
    )
    got, out, err = logged_in.run("run", "watch", run.id[:13], "--json")
    assert got == code
    assert json.loads(out)["runs"][0]["state"] == state
    assert f"verify {state}" in err


def test_points_restore_and_export_by_beginning_of_id(logged_in: Shell) -> None:
    points = logged_in.ok("point", "list", "--limit", "500")["items"]
    disk = next(point for point in points if point["kind"] == "disk")
    files = next(point for point in points if point["kind"] == "files")
    assert logged_in.ok("point", "show", disk["id"][:12])["id"] == disk["id"]
    assert (
        logged_in.ok("point", "show", f"{disk['object_name']}@latest")["object_name"] == disk["object_name"]
    )
    assert logged_in.ok("point", "ls", files["id"], "/srv")["items"]
    started = logged_in.ok(
        *["restore", "start", files["id"], "--host", "web-01", "--target", "/tmp/x", "--path", "/etc"]
    )
    assert len(started["run_ids"]) == 1
    export = logged_in.ok("export", "start", disk["id"], "--read-only")
    assert (export["url"].startswith("nfs://"), export["is_writable"]) == (True, False)
    assert logged_in.ok("export", "stop", disk["id"][:16])["id"] == export["id"]
    locked = logged_in.ok("point", "lock", points[0]["id"][:12], "--until", "2999-01-31")
    assert locked["locked_until"] == "2999-02-01T00:00:00Z"
    assert logged_in.ok("point", "lock", points[0]["id"], "--hold")["is_held"]
    assert not logged_in.ok("point", "lock", points[0]["id"], "--release-hold")["is_held"]
    assert logged_in.run("point", "lock", points[0]["id"], "--until", "soon")[0] == ExitCode.USAGE
    assert logged_in.ok("point", "forget", points[-1]["id"])["forgotten_ids"] == [points[-1]["id"]]
    code, _, err = logged_in.run("point", "show", "")
    assert (code, "could be" in err) == (ExitCode.USAGE, True)


def test_storage_create_sends_what_was_chosen(logged_in: Shell) -> None:
    made = logged_in.ok(
        *["storage", "create", "archive", "/srv/archive", "--encryption", "sm4-gcm", "--compression", "none"]
    )
    assert made["encryption"] == "sm4-gcm"
    sent = next(call for name, call in reversed(logged_in.site.server.calls) if name == "storage.create")
    assert isinstance(sent, api.StorageCreate)
    assert sent.compression is None
    code, _, err = logged_in.run("storage", "create", "other", "/full")
    assert (code, "not empty" in err) == (ExitCode.REFUSED, True)


def test_host_token_prints_command_to_copy(logged_in: Shell) -> None:
    assert logged_in.run("host", "token", "--name", "new")[1] == "vdr-agent enrol VDR1-secret\n"
    assert logged_in.ok("host", "disks", "web-01")["items"][0]["path"] == "/dev/vda"
    assert logged_in.ok("host", "browse", "web-01", "/srv")["items"]
    code, _, err = logged_in.run("host", "disks", "files-02")
    assert (code, "offline" in err) == (ExitCode.UNREACHABLE, True)


def test_alerts_are_listed_acknowledged_and_closed(logged_in: Shell) -> None:
    listed = logged_in.ok("alert", "list")["items"]
    assert {alert["state"] for alert in listed} <= {"open", "acknowledged"}
    ident = next(alert["id"] for alert in listed if alert["state"] == "open")
    assert logged_in.ok("alert", "acknowledge", ident) == {"count": 1}
    assert logged_in.ok("alert", "close", ident, "unknown") == {"count": 1}
    assert ident in [alert["id"] for alert in logged_in.ok("alert", "list", "--state", "closed")["items"]]
    code, out, _ = logged_in.run("alert", "list")
    assert code == ExitCode.DONE
    assert "storage-space" in out


def test_channels_are_made_tested_and_deleted(logged_in: Shell, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    mail = ["--host", "smtp.example.com", "--sender", "vdr@example.com", "--to", "ops@example.com"]
    made = logged_in.ok(
        "channel", "add-mail", "ops", *mail, "--security", "tls", "--password-file", str(secret)
    )
    assert (made["settings"]["port"], made["settings"].get("password")) == (465, None)
    logged_in.ok("channel", "add-webhook", "hook", "--url", "https://a.example", "--secret-file", str(secret))
    logged_in.ok("channel", "add-service", "wecom-2", "--url-file", str(secret))
    assert {"ops", "hook", "wecom-2"} <= {row["name"] for row in logged_in.ok("channel", "list")["items"]}
    logged_in.ok("channel", "test", "hook")
    logged_in.ok("channel", "delete", "hook")
    code, _, err = logged_in.run("channel", "test", "hook")
    assert (code, "channel not found: hook" in err) == (ExitCode.NOT_FOUND, True)
    assert logged_in.run("channel", "deliveries", "--channel", "operators")[0] == ExitCode.DONE


def test_channel_whose_secret_file_is_missing_is_not_made(logged_in: Shell, tmp_path: Path) -> None:
    words = ["channel", "add-service", "nobody", "--url-file", str(tmp_path / "missing")]
    code, _, err = logged_in.run(*words)
    assert code == ExitCode.FAILED
    assert "missing" in err
    assert "nobody" not in {row["name"] for row in logged_in.ok("channel", "list")["items"]}


def test_metadata_is_planned_saved_and_downloaded(logged_in: Shell, tmp_path: Path) -> None:
    secret, target = tmp_path / "passphrase", tmp_path / "backup"
    secret.write_text("correct horse battery\n")
    plan = logged_in.ok(
        "metadata", "plan", "--passphrase-file", str(secret), "--at", "04:15", "--storage", "main"
    )
    assert (plan["at"], plan["has_passphrase"]) == ("04:15", True)
    assert logged_in.ok("metadata", "plan", "--storage", "none")["storage_id"] is None
    assert "04:15" in logged_in.run("metadata", "show")[1]
    saved = logged_in.ok("metadata", "save")
    assert saved["name"] in [row["name"] for row in logged_in.ok("metadata", "list")["items"]]
    got = logged_in.ok("metadata", "get", "latest", str(target))
    assert (got["name"], target.read_bytes()) == (saved["name"], b"new")
    assert target.stat().st_mode & 0o777 == 0o600
    code, _, err = logged_in.run("metadata", "get", "latest", str(target))
    assert (code, "it exists" in err) == (ExitCode.REFUSED, True)
    code, _, _ = logged_in.run("metadata", "get", "20200101T000000Z-00000000.vdrmeta", str(tmp_path / "none"))
    assert (code, (tmp_path / "none").exists()) == (ExitCode.NOT_FOUND, False)
