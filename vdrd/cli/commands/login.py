"""`vdr login`: open a session with a console and keep it."""

import argparse
import getpass
import os
import sys
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from vdrd.cli.output import JSON_ANSWER
from vdrd.cli.rest_commands import add_json
from vdrd.model.errors import BadInput, CertificateRefused, ExitCode, NotFound

NAME = "login"
HELP = "open a session with a console"

PASSWORD_VARIABLE = "VDR_PASSWORD"
_FILE_BYTES_MAX = 64 << 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    from vdrd.cli.rest_session import DEFAULT_ADDRESS

    parser.add_argument(
        "address",
        metavar="ADDRESS",
        nargs="?",
        default=DEFAULT_ADDRESS,
        help=f"of the console ({DEFAULT_ADDRESS})",
    )
    parser.add_argument("--user", metavar="NAME", default="admin", help="user name (admin)")
    parser.add_argument(
        "--password-file",
        metavar="F",
        type=Path,
        help=f"password in a file (or {PASSWORD_VARIABLE}; else a prompt)",
    )
    proof = parser.add_mutually_exclusive_group()
    proof.add_argument(
        "--ca", metavar="FILE", type=Path, help="authority that must have signed the console's certificate"
    )
    proof.add_argument("--fingerprint", metavar="SHA256", help="of that authority, in place of the file")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Log in and keep the session."""
    from vdrd.cli.rest import Rest
    from vdrd.cli.rest_session import Session, save_session

    address = _address(args.address)
    authority_pem = _authority(args, address)
    with Rest(Session(address, authority_pem, "", args.user)) as rest:
        reply = rest.post("/sessions", user_name=args.user, password=_password(args))
    save_session(Session(address, authority_pem, reply["session_token"], reply["user"]["user_name"]))
    if args.json:
        JSON_ANSWER.print({"address": address, "user": reply["user"], "expires_at": reply["expires_at"]})
    else:
        print(f"logged in to {address} as {reply['user']['user_name']}")
    return ExitCode.DONE


def _address(text: str) -> str:
    address = text if "://" in text else f"https://{text}"
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.hostname:
        raise BadInput(what=f"{text} is no address of a console; write https://host:8443")
    return f"https://{parts.netloc}"


def _read(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_FILE_BYTES_MAX).decode()
    except FileNotFoundError as error:
        raise NotFound(what=what, name=path) from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(what=f"cannot read {what} {path}: {error}") from error


def _password(args: argparse.Namespace) -> str:
    if args.password_file is not None:
        return _read(args.password_file, "password file").rstrip("\r\n")
    if (password := os.environ.get(PASSWORD_VARIABLE)) is not None:
        return password
    if not sys.stdin.isatty():
        raise BadInput(what=f"no password: give --password-file or set {PASSWORD_VARIABLE}")
    return getpass.getpass(f"password of {args.user}: ", stream=sys.stderr)


def _authority(args: argparse.Namespace, address: str) -> str:
    """PEM of the authority to insist on; empty for those this machine trusts."""
    if args.ca is not None:
        text = _read(args.ca, "authority")
        if "-----BEGIN CERTIFICATE-----" not in text:
            raise BadInput(what=f"{args.ca} holds no certificate in PEM")
        return text
    if args.fingerprint is None:
        return ""
    wanted = args.fingerprint.replace(":", "").lower().removeprefix("sha256")
    for pem, der in _shown_chain(address):
        if sha256(der).hexdigest() == wanted:
            return pem
    raise CertificateRefused(peer=address, reason=f"no certificate it shows has the fingerprint {wanted}")


def _shown_chain(address: str) -> list[tuple[str, bytes]]:
    """The certificates a console shows, unchecked: only one with the right fingerprint is insisted on."""
    import socket

    from cryptography.hazmat.primitives.serialization import Encoding
    from OpenSSL import SSL

    from vdrd.model.errors import Unreachable

    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), timeout=10) as plain:
            # pyOpenSSL wants a blocking socket; the time limit stays in the kernel.
            plain.settimeout(None)
            connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), plain)
            connection.set_tlsext_host_name((parts.hostname or "").encode())
            connection.set_connect_state()
            connection.do_handshake()
            chain = connection.get_peer_cert_chain(as_cryptography=True) or []
    except (OSError, SSL.Error) as error:
        raise Unreachable(peer=address, reason=str(error) or "no TLS there") from error
    return [(c.public_bytes(Encoding.PEM).decode(), c.public_bytes(Encoding.DER)) for c in chain]
