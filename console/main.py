"""`vdr-console`: reads settings, opens state and link, serves HTTPS until SIGTERM or SIGINT."""

import argparse
import asyncio
import logging
import signal
import ssl
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from hypercorn.asyncio import serve
from hypercorn.config import Config as HypercornConfig

from console.app import create_app
from console.config import ConsoleConfig
from console.context import Parts
from console.link import LinkSettings, ServerLink
from console.sessions import SessionStore
from vdrd import __version__
from vdrd.model.errors import BadInput, ExitCode, VdrError
from vdrd.model.settings import CONFIG_DIRECTORY, load, read_files, shown

log = logging.getLogger("console")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class CertificateUnusable(BadInput):
    """The certificate for HTTPS cannot be used."""

    code = "certificate-unusable"
    template = "cannot use {path} for HTTPS: {reason}"
    hint = (
        "the server makes it when the console is admitted; "
        "or name your own in [console] certificate and certificate_key"
    )


class NotListening(VdrError):
    """The console cannot listen where it should."""

    code = "not-listening"
    template = "cannot listen on {address}: {reason}"
    hint = "another program may use the port; see [console] listen"


class _Https(HypercornConfig):
    """Hypercorn with TLS 1.2 or newer and our own idea of a log."""

    def create_ssl_context(self) -> ssl.SSLContext | None:
        context = super().create_ssl_context()
        if context is not None:
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def _https(config: ConsoleConfig) -> _Https:
    """Raises CertificateUnusable."""
    own = config.state_directory / "identity" / "web.pem"
    if not own.exists():
        own = config.state_directory / "identity" / "identity.pem"
    certificate = Path(config.certificate) if config.certificate else own
    key = Path(config.certificate_key) if config.certificate_key else certificate
    made = _Https()
    made.bind = list(config.listen)
    made.certfile, made.keyfile = str(certificate), str(key)
    made.graceful_timeout = config.stop_seconds
    made.include_server_header = False
    made.accesslog = None
    made.errorlog = logging.getLogger("console.http")
    made.keep_alive_timeout = 60
    try:
        made.create_ssl_context()
    except (OSError, ssl.SSLError) as error:
        raise CertificateUnusable(path=certificate, reason=error.strerror or str(error)) from error
    return made


async def run(config: ConsoleConfig, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Raises CertificateUnusable, NotListening."""
    https = _https(config)
    async with AsyncExitStack() as stack:
        sessions = await stack.enter_async_context(
            SessionStore(
                config.state_directory / "console.sqlite",
                idle_seconds=config.session_idle_seconds,
                longest_seconds=config.session_seconds,
            )
        )
        link = await stack.enter_async_context(
            ServerLink(LinkSettings(config.server, config.state_directory / "identity"))
        )
        app = create_app(Parts(link, sessions, is_stopping=stop.is_set))
        log.info("console started version=%s addresses=%s", __version__, ",".join(config.listen))
        try:
            await serve(app, https, shutdown_trigger=stop.wait)
        except OSError as error:
            raise NotListening(
                address=", ".join(config.listen), reason=(error.strerror or str(error)).lower()
            ) from error
        log.info("console stopped")


async def _until_signal(config: ConsoleConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(config, stop)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="vdr-console", description="Web pages and REST API of VDR.", allow_abbrev=False
    )
    parser.add_argument(
        "--config-dir", type=Path, default=CONFIG_DIRECTORY, metavar="DIR", help="where the .toml files are"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        dest="overrides",
        help="override one setting",
    )
    parser.add_argument("--show-config", action="store_true", help="print the settings in force and end")
    parser.add_argument("--version", action="version", version=f"vdr-console {__version__}")
    return parser.parse_args(arguments)


def _set_up_logging(level: int) -> None:
    """Log lines on standard error, in the form of the other daemons."""
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format="%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    # What the web server says while all is well is not ours to say.
    logging.getLogger("console.http").setLevel(max(level, logging.WARNING))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns an exit code of the product's table."""
    given = _arguments(arguments)
    try:
        config = load(ConsoleConfig, "console", read_files(given.config_dir), given.overrides)
        if given.show_config:
            print(shown("console", config))
            return ExitCode.DONE
        if config.log_level not in _LEVELS:
            raise BadLevel(found=config.log_level)
        _set_up_logging(_LEVELS[config.log_level])
        asyncio.run(_until_signal(config))
    except VdrError as error:
        print(f"vdr-console: {error.message}", file=sys.stderr)
        return error.exit_code
    return ExitCode.DONE


class BadLevel(BadInput):
    """A log level nobody knows."""

    code = "settings-wrong"
    template = "console.log_level must be debug, info, warning or error, not {found}"


if __name__ == "__main__":
    sys.exit(main())
