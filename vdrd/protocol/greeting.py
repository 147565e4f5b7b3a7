"""The greeting:

which version both speak, what the connection is for, whose clock is wrong. No I/O, no states.
"""

from dataclasses import dataclass

from schemas.link import PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, Hello, Welcome
from vdrd.model.errors import ProtocolViolation, VersionUnsupported

PURPOSES = ("control", "data", "enrol")


@dataclass(frozen=True, slots=True)
class Versions:
    """Range of protocol versions a program speaks."""

    oldest: int = PROTOCOL_VERSION_MIN
    newest: int = PROTOCOL_VERSION


def negotiate(hello: Hello, own: Versions) -> int:
    """The newest version both speak. Raises VersionUnsupported."""
    version = min(hello.version_max, own.newest)
    if hello.version_min > hello.version_max or version < max(hello.version_min, own.oldest):
        raise VersionUnsupported(
            peer_min=hello.version_min, peer_max=hello.version_max, own_min=own.oldest, own_max=own.newest
        )
    return version


def check_welcome(welcome: Welcome, own: Versions, peer: str) -> int:
    """The version the listener chose. Raises ProtocolViolation when it was not offered."""
    if not own.oldest <= welcome.version <= own.newest:
        raise ProtocolViolation(peer=peer, reason=f"chose version {welcome.version}, which was not offered")
    return welcome.version


def check_hello(hello: Hello, peer: str) -> None:
    """Raises ProtocolViolation when the purpose is none of PURPOSES."""
    if hello.purpose not in PURPOSES:
        raise ProtocolViolation(peer=peer, reason=f"unknown purpose {hello.purpose!r}")
