"""`vdr-agent enrol`: get a certificate with a token, or take one over that was carried here. Knows no
daemon."""

import platform
import socket
import ssl
import tempfile
from pathlib import Path

import trio

from agent.state import AgentState, Enrolment
from vdrd import __version__
from vdrd.model.errors import TargetRefused, TokenUnreadable
from vdrd.net.credentials import Credentials
from vdrd.net.enrol import enrol
from vdrd.net.token import Token

SOFTWARE = f"vdr-agent {__version__}"
MODES = ("active", "passive")
_END = "-----END CERTIFICATE-----"


def operating_system() -> str:
    """The host's system, for people: `Debian GNU/Linux 12 (bookworm), Linux 6.1.0`."""
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name}, {platform.system()} {platform.release()}"


def refuse_if_enrolled(state: AgentState, *, again: bool) -> None:
    """Raises TargetRefused when there is a certificate already and `again` is not given."""
    if state.credentials.exists and not again:
        raise TargetRefused(
            path=state.credentials.directory, reason="this host is enrolled already; --again enrols it anew"
        )


def enrol_with_token(
    state: AgentState, text: str, *, mode: str = "active", address: str = "", again: bool = False
) -> str:
    """Enrol and return the host's identity. After an error everything is as it was.

    `address` is where a passive agent is to be dialled, empty: where the server sees it.
    """
    refuse_if_enrolled(state, again=again)
    token = Token.parse(text)
    facts = {"mode": mode, "operating_system": operating_system()[:200]}
    if mode == "passive" and address:
        facts["address"] = address

    async def run() -> tuple[str, list[str]]:
        answer = await enrol(
            token, state.credentials.directory, host=socket.gethostname(), facts=facts, software=SOFTWARE
        )
        return answer.identity, answer.servers

    identity, servers = trio.run(run)
    state.store(Enrolment(servers or [str(one) for one in token.addresses], mode))
    return identity


def enrol_with_bundle(state: AgentState, bundle: str, *, again: bool = False) -> str:
    """Take over an identity the server made (key, certificate and authority in PEM) for a host that is
    dialled.

    Returns the host's identity. Raises TokenUnreadable when the bundle is not whole; nothing changes then.
    """
    refuse_if_enrolled(state, again=again)
    key, separator, rest = bundle.partition("-----BEGIN CERTIFICATE-----")
    certificate, _, authority = (separator + rest).partition(_END)
    certificate, authority = certificate + _END + "\n", authority.strip() + "\n"
    with tempfile.TemporaryDirectory() as scratch:
        trial = Credentials(Path(scratch) / "identity")
        trial.store(key.encode(), certificate, authority)
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=authority)
            context.load_cert_chain(trial.identity_path)
        except (ssl.SSLError, ValueError) as error:
            reason = "it does not hold a key, its certificate and the authority"
            raise TokenUnreadable(reason=reason) from error
        identity = trial.identity()
    state.credentials.store(key.encode(), certificate, authority)
    state.store(Enrolment([], "passive"))
    return identity.ident
