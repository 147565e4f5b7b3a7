"""The default TLS profile: TLS 1.3 of Python's ssl, certificates of the own CA on both sides."""

import ssl
from collections.abc import Callable
from datetime import datetime

from vdrd.model.errors import (
    CertificateRefused,
    ClockWrong,
    KeyFileUnusable,
    ProtocolViolation,
    Unreachable,
    VdrError,
)
from vdrd.net.ca import now_utc
from vdrd.net.credentials import Credentials
from vdrd.net.identity import PeerIdentity, identity_of

_NOT_YET_VALID = 9
_EXPIRED = 10
_ALERTS = {
    "TLSV1_ALERT_UNKNOWN_CA": "it was signed by another authority than the peer trusts",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer finds it expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer finds it bad or not yet valid",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the peer finds it revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer cannot use it",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer wants one and we showed none",
}


class Tls13Engine:
    """`TlsEngine` over ssl.SSLObject."""

    def __init__(
        self,
        context: ssl.SSLContext,
        peer_name: str,
        *,
        server_side: bool,
        identify: Callable[[bytes, str], PeerIdentity] | None,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._peer_name = peer_name
        self._identify = identify
        self._peer: PeerIdentity | None = None
        self._may_be_stranger = server_side and context.verify_mode is not ssl.CERT_REQUIRED

    def handshake(self) -> bool:
        """As TlsEngine."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise _translated(error, self._peer_name) from error
        certificate = self.peer_certificate
        if self._identify is not None and certificate is not None:
            self._peer = self._identify(certificate, self._peer_name)
        elif self._identify is not None and not self._may_be_stranger:
            raise CertificateRefused(peer=self._peer_name, reason="it showed none")
        return True

    def feed(self, data: bytes | memoryview) -> None:
        """As TlsEngine."""
        if len(data):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def take_outgoing(self) -> bytes:
        """As TlsEngine."""
        return self._outgoing.read()

    def write(self, data: bytes | memoryview) -> None:
        """As TlsEngine."""
        try:
            self._object.write(data)
        except ssl.SSLError as error:
            raise _translated(error, self._peer_name) from error

    def read_into(self, buffer: bytearray | memoryview) -> int:
        """As TlsEngine."""
        try:
            return int(self._object.read(len(buffer), buffer)) or -1
        except ssl.SSLWantReadError:
            return 0
        except ssl.SSLZeroReturnError:
            return -1
        except ssl.SSLError as error:
            raise _translated(error, self._peer_name) from error

    def close(self) -> None:
        """As TlsEngine."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            # Wanted: our close_notify is out, the peer's has not come; or the connection is past saving.
            return

    @property
    def peer(self) -> PeerIdentity | None:
        """As TlsEngine."""
        return self._peer

    @property
    def peer_certificate(self) -> bytes | None:
        """As TlsEngine."""
        return self._object.getpeercert(binary_form=True)


class Tls13Profile:
    """`TlsProfile` with credentials from a directory."""

    name = "tls13"

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.reload()

    def reload(self) -> None:
        """As TlsProfile."""
        # First, so that a revocation counts before the contexts have taken their milliseconds.
        self._revoked = self.credentials.revoked()
        self._dialing = self._context(ssl.PROTOCOL_TLS_CLIENT, ssl.CERT_REQUIRED)
        self._listening = self._context(ssl.PROTOCOL_TLS_SERVER, ssl.CERT_REQUIRED)
        self._welcoming = self._context(ssl.PROTOCOL_TLS_SERVER, ssl.CERT_OPTIONAL)

    def listener(self, peer: str, *, admit_strangers: bool = False) -> Tls13Engine:
        """As TlsProfile."""
        context = self._welcoming if admit_strangers else self._listening
        return Tls13Engine(context, peer, server_side=True, identify=self._identify)

    def dialer(self, peer: str) -> Tls13Engine:
        """As TlsProfile."""
        return Tls13Engine(self._dialing, peer, server_side=False, identify=self._identify)

    def is_revoked(self, peer: PeerIdentity) -> bool:
        """As TlsProfile."""
        return peer.serial in self._revoked

    def _identify(self, certificate_der: bytes, peer_name: str) -> PeerIdentity:
        peer = identity_of(certificate_der, peer_name)
        if self.is_revoked(peer):
            raise CertificateRefused(peer=f"{peer} at {peer_name}", reason="it was revoked")
        return peer

    def _context(self, protocol: int, mode: ssl.VerifyMode) -> ssl.SSLContext:
        context = _bare_context(protocol)
        try:
            context.load_cert_chain(self.credentials.identity_path)
            context.load_verify_locations(cadata=self.credentials.authority_pem())
        except (OSError, ssl.SSLError) as error:
            path = self.credentials.identity_path
            raise KeyFileUnusable(path=path, reason=error.strerror or str(error)) from error
        context.verify_mode = mode
        return context


def stranger_engine(peer: str) -> Tls13Engine:
    """The dialling side of a host that has no certificate yet and trusts nobody:

    the caller verifies the peer's.
    """
    context = _bare_context(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_NONE
    return Tls13Engine(context, peer, server_side=False, identify=None)


def _bare_context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Peers are known by role and UUID in their certificate, not by host name.
    context.check_hostname = False
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        # No resumption: each connection proves itself anew, so a revocation counts at once.
        context.num_tickets = 0
    return context


def _translated(error: ssl.SSLError, peer: str, clock: Callable[[], datetime] = now_utc) -> VdrError:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
            state = "not valid yet" if error.verify_code == _NOT_YET_VALID else "expired"
            return ClockWrong(
                own=clock().strftime("%Y-%m-%d %H:%M UTC"), peer=peer, reason=f"its certificate is {state}"
            )
        return CertificateRefused(peer=peer, reason=error.verify_message or "our authority did not sign it")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Unreachable(peer=peer, reason="the connection was cut")
    if error.reason in _ALERTS:
        return CertificateRefused(peer="this machine", reason=f"{peer} said so: {_ALERTS[error.reason]}")
    if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return CertificateRefused(peer=peer, reason="it showed none")
    return ProtocolViolation(peer=peer, reason=f"TLS: {error.reason or error}")
