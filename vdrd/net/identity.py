"""Who a certificate speaks for: a role and a UUID in its SAN URI `vdr:<role>/<uuid>`. No TLS, no I/O."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from vdrd.model.errors import CertificateRefused

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_URI = re.compile(rf"vdr:([a-z]+)/({_UUID})")


class Role(StrEnum):
    """What a program may be to another."""

    SERVER = "server"
    NODE = "node"
    AGENT = "agent"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """A proven peer: its certificate was signed by our CA, is valid now and not revoked."""

    role: Role
    ident: str
    """UUID."""
    serial: int
    fingerprint: str
    """SHA-256 of the certificate, hex."""
    not_after: datetime

    def __str__(self) -> str:
        return f"{self.role}/{self.ident}"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a dialler insists on. None = any."""

    role: Role
    ident: str | None = None
    fingerprint: str | None = None

    def check(self, peer: PeerIdentity) -> None:
        """Raises CertificateRefused when `peer` is somebody else."""
        if peer.role is not self.role:
            raise CertificateRefused(peer=peer, reason=f"it is a {peer.role}, not a {self.role}")
        if self.ident is not None and peer.ident != self.ident:
            raise CertificateRefused(peer=peer, reason=f"expected {self.role}/{self.ident}")
        if self.fingerprint is not None and peer.fingerprint != self.fingerprint:
            raise CertificateRefused(peer=peer, reason="its fingerprint is not the expected one")


def uri_of(role: Role, ident: str) -> str:
    """The SAN URI of a certificate."""
    return f"vdr:{role}/{ident}"


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256 of the whole certificate, hex."""
    return sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def identity_of(certificate_der: bytes, peer: str) -> PeerIdentity:
    """Read who a verified certificate speaks for. Raises CertificateRefused."""
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        raise CertificateRefused(peer=peer, reason=f"it names no role ({error})") from error
    matches = [match for uri in uris if (match := _URI.fullmatch(uri))]
    if len(matches) != 1 or matches[0][1] not in list(Role):
        raise CertificateRefused(peer=peer, reason="it must name exactly one role and UUID")
    return PeerIdentity(
        role=Role(matches[0][1]),
        ident=matches[0][2],
        serial=certificate.serial_number,
        fingerprint=fingerprint_of(certificate),
        not_after=certificate.not_valid_after_utc.astimezone(UTC),
    )
