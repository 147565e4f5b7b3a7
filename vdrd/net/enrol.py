"""Enrolment: how a host without certificate gets one, and how a certificate is renewed.

The host proves itself by a one-time token; the server by its CA, whose fingerprint the token carries. The
host sends nothing before that fits.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import trio
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from schemas import link
from schemas.link import Enrol, Enrolled, Refused, Welcome
from vdrd.model.errors import CertificateRefused, ClockWrong, ProtocolViolation, Unreachable, VdrError
from vdrd.net import ca
from vdrd.net.address import Address
from vdrd.net.ca import Authority, Issued
from vdrd.net.credentials import Credentials
from vdrd.net.dial import DIAL_SECONDS, connect, greet
from vdrd.net.identity import Expected, PeerIdentity, Role, identity_of
from vdrd.net.stream import TlsStream
from vdrd.net.tls13 import stranger_engine
from vdrd.net.token import Token, TokenBook, TokenRecord
from vdrd.protocol.codec import Decoder, frame_of
from vdrd.protocol.faults import error_of
from vdrd.protocol.frame import FrameReader

CLOCK_SECONDS_MAX = 1800
"""Clocks further apart are refused at enrolment: certificates begin one hour in the past."""
_ANSWER: Decoder[Enrolled | Refused] = Decoder(link.Enrolled | link.Refused)


@dataclass(frozen=True, slots=True)
class Admission:
    """A host that was just let in. Its certificate is signed already; registering it is the owner's work."""

    issued: Issued
    token: TokenRecord
    host: str
    facts: dict[str, str]
    address: str


async def _nothing(_admission: Admission) -> None:
    return None


class EnrolDesk:
    """The server's side: `EnrolReception` of a listener."""

    def __init__(
        self,
        authority: Authority,
        book: TokenBook,
        servers: tuple[Address, ...],
        register: Callable[[Admission], Awaitable[None]] = _nothing,
        check: Callable[[Enrol], None] = lambda _: None,
    ) -> None:
        """`check` looks at what a host says about itself, and raises what is wrong with it, before its token
        is spent."""
        self.authority = authority
        self.book = book
        self.servers = servers
        self._register = register
        self._check = check

    @property
    def authority_pem(self) -> str:
        """The CA's certificate."""
        return self.authority.certificate_pem

    def give_token(self, **options: object) -> tuple[Token, TokenRecord]:
        """A token for this server; options as `TokenBook.give`. Blocking: a short file write."""
        return self.book.give(self.servers, self.authority.fingerprint, **options)  # type: ignore[arg-type]

    async def enrol(self, request: Enrol, address: str) -> Enrolled:
        """Spend the token and sign. Raises TokenRefused, RequestRefused, and what `check` and `register`
        raise."""
        admission = await trio.to_thread.run_sync(self._admit, request, address)
        await self._register(admission)
        issued = admission.issued
        servers = [str(server) for server in self.servers]
        return Enrolled(issued.ident, issued.certificate_pem, self.authority_pem, servers)

    def _admit(self, request: Enrol, address: str) -> Admission:
        # The request first: a bad one does not cost the token.
        ca.check_request(request.request_pem)
        self._check(request)
        token = self.book.use(request.token)
        issued = self.authority.issue(request.request_pem, Role(token.role), token.ident or str(uuid4()))
        return Admission(issued, token, request.host, dict(request.facts), address)


async def enrol(
    token: Token,
    directory: Path,
    *,
    host: str,
    facts: dict[str, str] | None = None,
    software: str = "",
    seconds: float = DIAL_SECONDS,
    wall_seconds: Callable[[], float] = time.time,
) -> Enrolled:
    """The host's side: get a certificate with a token and keep it in `directory`; durable on return.

    Raises Unreachable, CertificateRefused (the server's CA is not the token's; nothing was sent), ClockWrong
    (nothing was sent), TokenRefused, VersionUnsupported. After an error `directory` is as it was.
    """
    failure: VdrError | None = None
    for address in token.addresses:
        stream: TlsStream | None = None
        try:
            with trio.fail_after(seconds):
                stream = await connect(address, stranger_engine)
                return await _enrol_at(
                    stream,
                    token,
                    directory,
                    about=(host, facts or {}),
                    software=software,
                    wall_seconds=wall_seconds,
                )
        except Unreachable as error:
            failure = error
        except trio.TooSlowError:
            failure = Unreachable(peer=address, reason=f"no answer within {seconds:g} seconds")
        finally:
            if stream is not None:
                stream.abandon()
    assert failure is not None
    raise failure


async def _enrol_at(
    stream: TlsStream,
    token: Token,
    directory: Path,
    *,
    about: tuple[str, dict[str, str]],
    software: str,
    wall_seconds: Callable[[], float],
) -> Enrolled:
    await stream.handshake()
    connection, welcome = await greet(stream, "enrol", software=software)
    connection.check_nothing_follows()
    _check_server(stream, welcome, token, wall_seconds())
    key = ca.new_key()
    host, facts = about
    await stream.send_all(frame_of(Enrol(token.credential, ca.new_request(key), host[:200], facts)))
    answer = await _answer_of(stream)
    credentials = Credentials(directory)
    await trio.to_thread.run_sync(
        credentials.store, ca.pem_of_key(key), answer.certificate_pem, answer.authority_pem
    )
    return answer


async def _answer_of(stream: TlsStream) -> Enrolled:
    reader = FrameReader(link.GREETING_BYTES_MAX * 2, stream.peer_name)
    while (body := reader.next_frame()) is None:
        data = await stream.receive_some()
        if not data:
            raise Unreachable(peer=stream.peer_name, reason="the server closed before it answered")
        reader.feed(data)
    answer = _ANSWER.decode(body, stream.peer_name)
    if isinstance(answer, Refused):
        raise error_of(answer)
    return answer


def _check_server(stream: TlsStream, welcome: Welcome, token: Token, own_seconds: float) -> None:
    """The authority is the token's, it signed this server's certificate, and the clocks fit.

    Nothing was sent yet.
    """
    peer = stream.peer_name
    if ca.fingerprint_of_pem(welcome.authority_pem) != token.fingerprint:
        raise CertificateRefused(peer=peer, reason="its authority is not the one the token names")
    shown = stream.peer_certificate
    if shown is None:
        raise ProtocolViolation(peer=peer, reason="it showed no certificate")
    authority = x509.load_pem_x509_certificate(welcome.authority_pem.encode())
    try:
        certificate = x509.load_der_x509_certificate(shown)
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CertificateRefused(peer=peer, reason="the token's authority did not sign it") from error
    Expected(Role.SERVER).check(identity_of(shown, peer))
    own = datetime.fromtimestamp(own_seconds, UTC)
    difference = own_seconds - welcome.unix_seconds
    if abs(difference) > CLOCK_SECONDS_MAX:
        direction = "ahead of" if difference > 0 else "behind"
        theirs = f"{datetime.fromtimestamp(welcome.unix_seconds, UTC):%Y-%m-%d %H:%M} UTC"
        reason = f"it is {_duration(abs(difference))} {direction} the server's ({theirs})"
        raise ClockWrong(own=f"{own:%Y-%m-%d %H:%M} UTC", peer=peer, reason=reason)
    if not certificate.not_valid_before_utc <= own <= certificate.not_valid_after_utc:
        raise ClockWrong(
            own=f"{own:%Y-%m-%d %H:%M} UTC",
            peer=peer,
            reason=f"its certificate is valid from {certificate.not_valid_before_utc:%Y-%m-%d}"
            f" to {certificate.not_valid_after_utc:%Y-%m-%d}",
        )


def _duration(seconds: float) -> str:
    for unit_seconds, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit_seconds:
            return f"{seconds / unit_seconds:.0f} {name}"
    return f"{seconds:.0f} seconds"


@dataclass(frozen=True, slots=True)
class Renewal:
    """A certificate renewal under way: a fresh key whose request goes to the server over the control link."""

    request_pem: str
    key_pem: bytes

    @classmethod
    def begin(cls) -> "Renewal":
        """A fresh key and its request."""
        key = ca.new_key()
        return cls(ca.new_request(key), ca.pem_of_key(key))

    def finish(self, credentials: Credentials, certificate_pem: str) -> PeerIdentity:
        """Put the new identity in place of the old one, durable on return.

        Raises CertificateRefused when the certificate is not ours to use; the old identity then stays.
        """
        old = credentials.identity()
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
            authority = x509.load_pem_x509_certificate(credentials.authority_pem().encode())
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise CertificateRefused(
                peer="the renewed identity", reason="our authority did not sign it"
            ) from error
        new = identity_of(certificate.public_bytes(Encoding.DER), "the renewed identity")
        if (new.role, new.ident) != (old.role, old.ident):
            raise CertificateRefused(peer="the renewed identity", reason=f"it names {new}, we are {old}")
        if ca.pem_of_public(certificate.public_key()) != ca.public_of_pem(self.key_pem):
            raise CertificateRefused(peer="the renewed identity", reason="it is for another key")
        credentials.replace_identity(self.key_pem, certificate_pem)
        return new
