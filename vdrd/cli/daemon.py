"""`vdrd`: starts the daemons: `vdrd server`, `vdrd node`, `vdrd appliance` (both and the console). `vdrd
enrol-node`
and `vdrd enrol-console` get a certificate for a part that stands on a machine of its own.

Reads settings, makes what a first start needs, runs until SIGTERM or SIGINT. The only module of this folder
that knows server and node.
"""

import argparse
import json
import logging
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import trio

from schemas.api.words import Encryption
from schemas.control import StorageOpen
from vdrd import __version__
from vdrd.catalog import settings as catalog_settings
from vdrd.catalog import storages
from vdrd.cli.appliance import ApplianceConfig
from vdrd.cli.supervisor import Child, Supervisor
from vdrd.model import settings
from vdrd.model.errors import BadInput, ExitCode, NotFound, VdrError
from vdrd.net.address import NODE_PORT, SERVER_PORT, Address
from vdrd.net.enrol import enrol
from vdrd.net.keyfile import read_secret
from vdrd.net.token import Token
from vdrd.node import daemon as node_daemon
from vdrd.node.config import NodeConfig
from vdrd.node.storages import StorageKeeper
from vdrd.server import daemon as server_daemon
from vdrd.server import metadata
from vdrd.server.clock import wall_clock_ms
from vdrd.server.config import ServerConfig
from vdrd.server.launch import new_id
from vdrd.server.setup import ADMINISTRATOR, PASSWORD_FILE, Foundation, admit_console, admit_node, lay
from vdrd.store import metadata_folder

log = logging.getLogger("vdrd")

CONSOLE_PORT = 8443
CONSOLE_STATE = Path("/var/lib/vdr/console")
"""Where a console on its own keeps its identity, unless told otherwise."""
STATUS_FILE = "appliance.json"


class BadLevel(BadInput):
    """A log level nobody knows."""

    code = "settings-wrong"
    template = "{table}.log_level must be debug, info, warning or error, not {found}"


def check_level(table: str, level: str) -> None:
    """Raise BadLevel unless the logging knows it."""
    if level not in ("debug", "info", "warning", "error"):
        raise BadLevel(table=table, found=level)


def set_up_logging(level: str) -> None:
    """Log lines on standard error: time, level, module, text. Under systemd the journal adds the time
    again."""
    logging.basicConfig(
        level=level.upper(),
        stream=sys.stderr,
        format="%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        force=True,
    )
    # It logs whole addresses, and those of webhooks hold their keys.
    logging.getLogger("httpx").setLevel(logging.WARNING)


async def until_signalled(work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` until it ends, or SIGTERM or SIGINT cancels it. Further signals do not hurry the end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # What is in force before and after the receiver: a second signal must not kill a daemon that is
        # stopping.
        signal.signal(number, signal.SIG_IGN)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                async for number in signals:
                    log.info("stopping signal=%s", signal.Signals(number).name)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            await work()
            nursery.cancel_scope.cancel()


def run_loop(work: Callable[[], Awaitable[None]]) -> None:
    """Run an event loop around `work`. A VdrError comes out as itself, not in a group."""
    try:
        trio.run(until_signalled, work)
    except BaseExceptionGroup as group:
        own, others = group.split(VdrError)
        if own is None or others is not None:
            raise
        raise _first(own) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


# ---- the daemons -------------------------------------------------------------------------------------------


def run_server(config: ServerConfig) -> None:
    """Run the server until it is told to stop."""
    foundation = lay(config.state_directory)
    if foundation.new_password is not None:
        _tell_password(config.state_directory)

    async def work() -> None:
        await server_daemon.serve(foundation, config)

    run_loop(work)


def run_node(config: NodeConfig) -> None:
    """Run a node until it is told to stop."""
    if not (config.state_directory / "identity" / "identity.pem").exists():
        raise NodeNotEnrolled(path=config.state_directory)

    async def work() -> None:
        await node_daemon.serve(config)

    run_loop(work)


class NodeNotEnrolled(VdrError):
    """The node has no certificate."""

    code = "node-not-enrolled"
    template = "this node has no certificate in {path}"
    hint = "make a token for a node in the console, then run here: vdrd enrol-node TOKEN"
    exit_code = ExitCode.UNAUTHORISED


def enrol_part(part: str, state_directory: Path, text: str) -> None:
    """Get the certificate of a node or console on this machine with a one-time token."""
    directory = state_directory / "identity"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def work() -> None:
        enrolled = await enrol(
            Token.parse(text), directory, host=socket.gethostname(), software=f"vdrd {__version__}"
        )
        print(f"enrolled as {part} {enrolled.identity}")
        print(f'set {part}.server = "{enrolled.servers[0]}" in its settings and start it')

    run_loop(work)


def restore_metadata(options: argparse.Namespace) -> None:
    """Make the state of an appliance from a metadata backup, in a file or in a storage that survived."""
    backup: Path = options.backup
    if backup.is_dir():
        found = metadata_folder.names(backup)
        if not found:
            raise NotFound(what="metadata backup in", name=str(backup))
        backup = backup / metadata_folder.FOLDER / found[0]
    passphrase = read_secret(options.passphrase_file).decode().rstrip("\r\n")
    state = (options.state or ApplianceConfig().state_directory).absolute()
    note = metadata.restore(backup, passphrase, state)
    print(f"restored the server {note['server_id']} as of {note['created']} into {state}")
    if (state / "conf.d").is_dir():
        print(
            f"its settings are in {state / 'conf.d'}: look through them, then copy them to"
            f" {options.config_dir}"
        )
    print("put the storages back in their places, then start it: vdrd appliance")


def _tell_password(state_directory: Path) -> None:
    """Say where the first password stands; the log is no place for the password itself."""
    log.warning(
        "first administrator made user=%s password_file=%s", ADMINISTRATOR, state_directory / PASSWORD_FILE
    )


def _first_storage(foundation: Foundation, config: ApplianceConfig, node_id: str) -> None:
    """Make the first storage, unless the catalog has one already."""
    if foundation.catalog.write_now(catalog_settings.get, "first_storage") is not None:
        return
    keeper = StorageKeeper(config.node_state / "keys")
    try:
        path = config.first_storage.absolute()
        is_there = (path / "storage.json").exists()
        storage_id = new_id()
        key_file = _found_key(config) if is_there else None
        answer = keeper.open(
            StorageOpen(
                storage_id=storage_id,
                name=config.storage_name,
                path=str(path),
                create=not is_there,
                encryption=Encryption(config.storage_encryption),
                key_file=key_file,
            )
        )
    finally:
        keeper.close()

    def work(connection: sqlite3.Connection) -> None:
        storages.create(
            connection,
            tenant_id=catalog_settings.TENANT_DEFAULT,
            node_id=node_id,
            name=config.storage_name,
            key_file=answer.key_file,
            announced=answer.storage,
            now_ms=wall_clock_ms(),
        )
        catalog_settings.put(connection, "first_storage", storage_id)

    foundation.catalog.write_now(work)


def _found_key(config: ApplianceConfig) -> str | None:
    """The key file of a storage that an interrupted first start has made, or that a new catalog finds."""
    keys = sorted((config.node_state / "keys").glob("*.key"))
    return str(keys[0]) if keys else None


def prepare_appliance(config: ApplianceConfig) -> None:
    """Make whatever of an appliance is missing. Repeating it is harmless, after an interruption too."""
    config.state_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    foundation = lay(config.server_state)
    try:
        if foundation.new_password is not None:
            _tell_password(config.server_state)
        node_id = admit_node(
            foundation, config.node_state / "identity", socket.gethostname(), wall_clock_ms()
        )
        admit_console(foundation, config.console_state / "identity", socket.gethostname(), wall_clock_ms())
        _first_storage(foundation, config, node_id)
    finally:
        foundation.catalog.close()


def run_appliance(config: ApplianceConfig, options: argparse.Namespace) -> None:
    """Run server, node and console, each in a process of its own, until told to stop."""
    # All settings first: a mistake in them leaves nothing half made.
    files = settings.read_files(options.config_dir)
    server = settings.load(ServerConfig, "server", files, options.set)
    node = settings.load(NodeConfig, "node", files, options.set)
    check_level("server", server.log_level)
    check_level("node", node.log_level)
    passed = [
        "--config-dir",
        str(options.config_dir),
        *(word for text in options.set for word in ("--set", text)),
    ]

    def child(name: str, module: str, words: list[str], state: Path, listen: Address) -> Child:
        own = ["--set", f"{name}.state_directory={json.dumps(str(state))}"]
        if name == "server":
            own += ["--set", f"server.metadata_beside={json.dumps(_beside(config, options.config_dir))}"]
        # Last, because the parts of an appliance keep their state below the appliance's, wherever else a file
        # puts it.
        argv = [sys.executable, "-m", module, *words, *passed, *own]
        return Child(name, argv, listen.port)

    server_address = Address.parse(server.listen[0], SERVER_PORT)
    children = [
        child("server", "vdrd.cli.daemon", ["server"], config.server_state, server_address),
        child(
            "node", "vdrd.cli.daemon", ["node"], config.node_state, Address.parse(node.listen[0], NODE_PORT)
        ),
    ]
    if not options.no_console:
        console_listen = Address.parse(_console_listen(files, options.set), CONSOLE_PORT)
        children.append(child("console", "console.main", [], config.console_state, console_listen))
    prepare_appliance(config)
    supervisor = Supervisor(children, config.stop_seconds)
    status_file = config.state_directory / STATUS_FILE

    def ready() -> None:
        log.info("appliance ready")
        status = {
            "pid": os.getpid(),
            "parts": supervisor.pids(),
            "server": str(server_address),
            "console": None if options.no_console else f"https://{console_listen}/",
            "user": ADMINISTRATOR,
            "password_file": str(config.server_state / PASSWORD_FILE),
            "started_unix_seconds": int(time.time()),
        }
        partial = status_file.with_suffix(".partial")
        partial.write_text(json.dumps(status, indent=2) + "\n", encoding="utf-8")
        partial.replace(status_file)

    async def work() -> None:
        await supervisor.run(ready)
        await trio.sleep_forever()

    status_file.unlink(missing_ok=True)
    try:
        run_loop(work)
    finally:
        status_file.unlink(missing_ok=True)


def _beside(config: ApplianceConfig, config_dir: Path) -> list[str]:
    """What of an appliance belongs into a metadata backup besides its server."""
    return [
        f"node/identity={config.node_state.absolute() / 'identity'}",
        f"node/keys={config.node_state.absolute() / 'keys'}",
        f"console/identity={config.console_state.absolute() / 'identity'}",
        f"conf.d={config_dir.absolute()}",
    ]


def _console_listen(files: list[tuple[str, str]], overrides: Sequence[str]) -> str:
    """First address of `console.listen`; the console's other settings are its own affair."""
    import tomllib

    found = f"127.0.0.1:{CONSOLE_PORT}"
    texts = [text for _, text in files] + [
        f"{name}={value}" for name, _, value in (o.partition("=") for o in overrides)
    ]
    for text in texts:
        try:
            listen = tomllib.loads(text).get("console", {}).get("listen")
        except (tomllib.TOMLDecodeError, AttributeError):
            continue
        if isinstance(listen, list) and listen:
            found = str(listen[0])
        elif isinstance(listen, str):
            found = listen
    return found


# ---- the command line --------------------------------------------------------------------------------------


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vdrd", description="The daemons of VDR.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"vdrd {__version__}")
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    for name, text in (
        ("server", "catalog, schedules, rights, enrolment"),
        ("node", "storages and data channels"),
        ("appliance", "server, node and console on this machine"),
        ("enrol-node", "get a certificate for the node on this machine"),
        ("enrol-console", "get a certificate for the console on this machine"),
        ("restore-metadata", "make the state of an appliance again from a metadata backup"),
    ):
        part = parts.add_parser(name, help=text, description=text, allow_abbrev=False)
        part.add_argument(
            "--config-dir", type=Path, default=settings.CONFIG_DIRECTORY, help="directory of *.toml files"
        )
        part.add_argument(
            "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="override one setting"
        )
        part.add_argument("--state", type=Path, help="state directory")
        part.add_argument("--show-config", action="store_true", help="print what is in force and exit")
        if name == "appliance":
            part.add_argument("--no-console", action="store_true", help="run server and node only")
        if name.startswith("enrol-"):
            part.add_argument("token", help="one-time token from the console")
        if name == "restore-metadata":
            part.add_argument("backup", type=Path, help="the file, or a storage that holds some: its newest")
            part.add_argument("--passphrase-file", type=Path, required=True, metavar="F")
    return parser.parse_args(argv)


def _run(options: argparse.Namespace) -> None:
    if options.part == "enrol-console":
        # The console's settings are its own affair; only its place counts here.
        set_up_logging("info")
        enrol_part("console", options.state or CONSOLE_STATE, options.token)
        return
    if options.part == "restore-metadata":
        restore_metadata(options)
        return
    files = settings.read_files(options.config_dir)
    kinds: dict[str, tuple[type[Any], str]] = {
        "server": (ServerConfig, "server"),
        "node": (NodeConfig, "node"),
        "enrol-node": (NodeConfig, "node"),
        "appliance": (ApplianceConfig, "appliance"),
    }
    kind, table = kinds[options.part]
    config = settings.load(kind, table, files, options.set, state_directory=options.state)
    if options.show_config:
        print(settings.shown(table, config))
        return
    check_level(table, config.log_level)
    set_up_logging(config.log_level)
    match options.part:
        case "server":
            run_server(config)
        case "node":
            run_node(config)
        case "enrol-node":
            enrol_part("node", config.state_directory, options.token)
        case _:
            run_appliance(config, options)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `vdrd`. Returns an exit code."""
    options = _arguments(sys.argv[1:] if argv is None else argv)
    try:
        _run(options)
    except VdrError as error:
        print(f"vdrd: {error.message}", file=sys.stderr)
        return int(error.exit_code)
    except OSError as error:
        if error.filename is None:
            raise
        # A state directory that is a file, cannot be written, or lies on a full or read-only file system.
        reason = (error.strerror or str(error)).lower()
        print(f"vdrd: cannot use {error.filename}: {reason}. see state_directory", file=sys.stderr)
        return int(ExitCode.FAILED)
    except KeyboardInterrupt:
        return 130
    return int(ExitCode.DONE)


if __name__ == "__main__":
    sys.exit(main())
