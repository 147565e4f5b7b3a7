"""`vdr` itself: finding commands, exit codes, and the shape of errors."""

import json
import os
import signal
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from types import ModuleType

import pytest

from vdrd.cli import main as cli
from vdrd.model.errors import ExitCode, StorageLocked, VdrError

VDR = Path(sys.executable).parent / "vdr"


def run_vdr(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([VDR, *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A command `probe` whose `run` the test sets."""
    module = ModuleType("probe")
    module.NAME, module.HELP = "probe", "probes"  # type: ignore[attr-defined]

    def add_arguments(parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true")

    module.add_arguments = add_arguments  # type: ignore[attr-defined]
    monkeypatch.setattr(cli, "command_names", lambda prefix="": ["probe"])
    monkeypatch.setattr(cli, "load_command", lambda prefix, name: module)
    monkeypatch.setattr(cli, "JSON_ANSWER", type(cli.JSON_ANSWER)())
    return module


def raising(error: BaseException):
    def run(args: Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize("prefix", ["", "store"])
def test_every_command_file_offers_the_interface(prefix: str) -> None:
    for name in cli.command_names(prefix):
        command = cli.load_command(prefix, name)
        assert name == command.NAME
        assert command.HELP
        assert not command.HELP.endswith(".")
        command.add_arguments(ArgumentParser())
        assert callable(command.run)


def test_version_is_printed_and_the_same_as_the_package() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    done = run_vdr("--version")
    assert (done.returncode, done.stdout) == (0, f"vdr {project['version']}\n")


def test_version_starts_without_the_heavy_packages() -> None:
    script = (
        "import sys; from vdrd.cli.main import main\n"
        "main(['--version'])\n"
        "print(sorted({'trio', 'httpx', 'native', 'numpy', 'cryptography', 'quart'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [[], ["store"]], ids=["bare", "store"])
def test_no_command_prints_the_overview_and_exits_usage(arguments: list[str]) -> None:
    done = run_vdr(*arguments)
    assert done.returncode == ExitCode.USAGE
    assert done.stdout == ""
    assert done.stderr.startswith("usage: vdr")


def test_unknown_command_exits_usage_with_one_line() -> None:
    done = run_vdr("storr")
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("vdr: unknown command: storr")


def test_a_vdr_error_becomes_its_exit_code_and_one_line(
    command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    command.run = raising(StorageLocked(path="/x", holder="process 7"))
    assert cli.main(["probe"]) == ExitCode.REFUSED
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "vdr: storage /x is in use by process 7. wait for it to end or stop it, then try again\n"


def test_a_vdr_error_with_json_is_the_document(
    command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    command.run = raising(StorageLocked(path="/x", holder="process 7"))
    assert cli.main(["probe", "--json"]) == ExitCode.REFUSED
    answer = json.loads(capsys.readouterr().out)
    assert answer["error"]["code"] == "storage-locked"
    assert answer["error"]["message"] == "storage /x is in use by process 7"


def test_a_vdr_error_after_the_document_prints_no_second_one(
    command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: Namespace) -> int:
        cli.JSON_ANSWER.print({"done": 1})
        raise VdrError(what="late")

    command.run = run
    assert cli.main(["probe", "--json"]) == ExitCode.FAILED
    assert json.loads(capsys.readouterr().out) == {"done": 1}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "/gone"), "no such file or directory: /gone"),
        (ValueError("a\nb"), "internal error: ValueError: a b. run again with VDR_DEBUG=1 to see where"),
    ],
    ids=["oserror", "bug"],
)
def test_an_unforeseen_error_is_one_line_and_fails(
    command: ModuleType, capsys: pytest.CaptureFixture[str], error: Exception, text: str
) -> None:
    command.run = raising(error)
    assert cli.main(["probe"]) == ExitCode.FAILED
    assert capsys.readouterr().err == f"vdr: {text}\n"


@pytest.mark.parametrize("error", [ValueError("a\nb"), KeyboardInterrupt()], ids=["bug", "ctrl-c"])
def test_an_unforeseen_ending_with_json_is_the_document(
    command: ModuleType, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    command.run = raising(error)
    assert cli.main(["probe", "--json"]) != ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "internal"


def test_sigterm_clears_up_like_ctrl_c_and_is_told(
    command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    cleared = []

    def run(args: Namespace) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            cleared.append(True)
        return 0

    command.run = run
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert cli.main(["probe", "--json"]) == 143
    finally:
        signal.signal(signal.SIGTERM, before)
    assert cleared
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["message"] == "interrupted"
    assert err == "vdr: interrupted\n"


def test_wrong_usage_with_json_is_the_document(
    command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["probe", "--json", "--nonsense"]) == ExitCode.USAGE
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "bad-input"


def test_an_unforeseen_error_with_debug_shows_where(
    command: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VDR_DEBUG", "1")
    command.run = raising(ValueError("bug"))
    with pytest.raises(ValueError, match="bug"):
        cli.main(["probe"])


def test_ctrl_c_exits_130_without_a_traceback(
    command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    command.run = raising(KeyboardInterrupt())
    assert cli.main(["probe"]) == 130
    assert capsys.readouterr().err == "vdr: interrupted\n"


def test_a_closed_pipe_ends_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([VDR, "--help"], stdout=write, stderr=subprocess.PIPE, check=False, env=buffered)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
