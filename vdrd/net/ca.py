"""The own certificate authority: one root key that signs the certificates of server, nodes, agents and
consoles.

Owns its key, its certificate and the revocation list; knows nothing of TLS or of who asks. Files:
`authority.key`, `authority.pem`, `revoked.pem`, all 0600 and replaced whole.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from uuid import uuid4

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vdrd.model.errors import CertificateRefused, KeyFileUnusable, RequestRefused, TargetRefused
from vdrd.net.identity import PeerIdentity, Role, uri_of
from vdrd.net.keyfile import read_secret, write_secret

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

ROOT_LIFETIME = timedelta(days=7300)
"""20 years: replacing the root means enrolling every host again."""
LEAF_LIFETIME = timedelta(days=365)
"""A host that was off for half a year still comes back by itself."""
BACKDATED = timedelta(hours=1)
"""Certificates begin a little in the past, so that a clock slightly behind accepts them."""
RENEWAL_PART = 3
"""Renew when less than a third of the lifetime is left."""
LIST_LIFETIME = timedelta(days=3650)
"""The revocation list is pushed, not polled; its end date only has to exist."""


def now_utc() -> datetime:
    """The clock; tests give another."""
    return datetime.now(UTC)


def new_key(algorithm: str = "ec-p256") -> PrivateKey:
    """A fresh private key: `ec-p256` (default: small and quick) or `rsa-3072`."""
    match algorithm:
        case "ec-p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "rsa-3072":
            return rsa.generate_private_key(public_exponent=65537, key_size=3072)
        case _:
            raise RequestRefused(reason=f"unknown key type {algorithm}")


def pem_of_key(key: PrivateKey) -> bytes:
    """The key as unencrypted PKCS#8; the file it goes into is 0600."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def new_request(key: PrivateKey) -> str:
    """A PKCS#10 request for `key`. It carries no names: the CA writes them."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def fingerprint_of_pem(certificate_pem: str) -> bytes:
    """SHA-256 of the certificate, 32 bytes. Raises CertificateRefused."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    except ValueError as error:
        raise CertificateRefused(peer="the authority", reason="it cannot be read") from error
    return sha256(certificate.public_bytes(Encoding.DER)).digest()


def is_renewal_due(not_before: datetime, not_after: datetime, now: datetime) -> bool:
    """True in the last third of the lifetime (and after it)."""
    return now >= not_after - (not_after - not_before) / RENEWAL_PART


def read_revocations(revoked_pem: str, authority_pem: str) -> frozenset[int]:
    """Serials of a revocation list. Raises CertificateRefused unless the authority signed it."""
    try:
        listed = x509.load_pem_x509_crl(revoked_pem.encode())
        authority = x509.load_pem_x509_certificate(authority_pem.encode())
        genuine = listed.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateRefused(peer="the revocation list", reason="it cannot be read") from error
    if not genuine:
        raise CertificateRefused(peer="the revocation list", reason="the authority did not sign it")
    return frozenset(entry.serial_number for entry in listed)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate just signed."""

    certificate_pem: str
    role: Role
    ident: str
    serial: int
    not_after: datetime


class Authority:
    """The CA. Thread-safe; every change is durable on return."""

    def __init__(
        self, directory: Path, key: PrivateKey, certificate: x509.Certificate, clock: Callable[[], datetime]
    ) -> None:
        self.directory = directory
        self._key = key
        self._certificate = certificate
        self._clock = clock
        self._lock = threading.Lock()

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        algorithm: str = "ec-p256",
        clock: Callable[[], datetime] = now_utc,
    ) -> "Authority":
        """Make a new root in `directory`. Raises TargetRefused when there is one already."""
        if (directory / "authority.key").exists():
            raise TargetRefused(path=directory, reason="it holds an authority already")
        key = new_key(algorithm)
        now = clock()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"VDR authority {uuid4()}")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + ROOT_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        authority = cls(directory, key, certificate, clock)
        write_secret(directory / "authority.pem", certificate.public_bytes(Encoding.PEM))
        authority._write_revocations(frozenset())
        # The key last: with it the authority exists.
        write_secret(directory / "authority.key", pem_of_key(key))
        return authority

    @classmethod
    def open(cls, directory: Path, *, clock: Callable[[], datetime] = now_utc) -> "Authority":
        """Open an existing root. Raises KeyFileUnusable."""
        path = directory / "authority.key"
        try:
            key = serialization.load_pem_private_key(read_secret(path), None)
            certificate = x509.load_pem_x509_certificate(read_secret(directory / "authority.pem"))
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFileUnusable(path=path, reason="it is no PEM key") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise KeyFileUnusable(path=path, reason="its key is neither EC nor RSA")
        if key.public_key() != certificate.public_key():
            raise KeyFileUnusable(path=path, reason="it does not belong to authority.pem")
        return cls(directory, key, certificate, clock)

    @property
    def certificate_pem(self) -> str:
        """The root certificate, public."""
        return self._certificate.public_bytes(Encoding.PEM).decode()

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the root certificate, 32 bytes."""
        return sha256(self._certificate.public_bytes(Encoding.DER)).digest()

    def issue(self, request_pem: str, role: Role, ident: str, lifetime: timedelta = LEAF_LIFETIME) -> Issued:
        """Sign the key of a request for `role` and `ident`. Raises RequestRefused."""
        request = check_request(request_pem)
        now = self._clock()
        not_after = min(now + lifetime, self._certificate.not_valid_after_utc)
        public = request.public_key()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"vdr {role} {ident[:8]}")]))
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                # Either side of a link may dial, so every certificate serves both.
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri_of(role, ident))]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return Issued(
            certificate.public_bytes(Encoding.PEM).decode(),
            role,
            ident,
            certificate.serial_number,
            certificate.not_valid_after_utc,
        )

    def issue_web(self, request_pem: str, names: Sequence[str], lifetime: timedelta = LEAF_LIFETIME) -> str:
        """A certificate in PEM for an HTTPS server that is reached by `names` (host names, IP addresses).

        It names no role, so no link accepts it. Raises RequestRefused.
        """
        request = check_request(request_pem)
        now = self._clock()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
            .issuer_name(self._certificate.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(min(now + lifetime, self._certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_web_name(name) for name in names]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM).decode()

    def renew(self, request_pem: str, peer: PeerIdentity) -> Issued:
        """A new certificate for a proven peer:

        same role and UUID. Raises RequestRefused, CertificateRefused.
        """
        if peer.serial in self.revoked():
            raise CertificateRefused(peer=peer, reason="it was revoked")
        return self.issue(request_pem, peer.role, peer.ident)

    def revoke(self, *serials: int) -> str:
        """Add serials to the revocation list and return it as PEM, to be pushed to nodes and agents."""
        with self._lock:
            self._write_revocations(self.revoked() | set(serials))
        return self.revoked_pem

    def revoked(self) -> frozenset[int]:
        """Serials revoked so far."""
        return read_revocations(self.revoked_pem, self.certificate_pem)

    @property
    def revoked_pem(self) -> str:
        """The signed revocation list."""
        return read_secret(self.directory / "revoked.pem", bytes_max=64 << 20).decode()

    def _write_revocations(self, serials: frozenset[int]) -> None:
        now = self._clock()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - BACKDATED)
            .next_update(now + LIST_LIFETIME)
        )
        for serial in sorted(serials):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        listed = builder.sign(self._key, hashes.SHA256())
        write_secret(self.directory / "revoked.pem", listed.public_bytes(Encoding.PEM))


def pem_of_public(key: object) -> bytes:
    """A public key in one comparable form."""
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    return key.public_bytes(Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_of_pem(key_pem: bytes) -> bytes:
    """The public half of a private key, as `pem_of_public`."""
    return pem_of_public(serialization.load_pem_private_key(key_pem, None).public_key())


def check_request(request_pem: str) -> x509.CertificateSigningRequest:
    """The request, if it is genuine and its key strong enough. Raises RequestRefused."""
    try:
        request = x509.load_pem_x509_csr(request_pem.encode())
        public = request.public_key()
        genuine = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise RequestRefused(reason="it cannot be read") from error
    if not genuine:
        raise RequestRefused(reason="its signature is wrong")
    is_ec = isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1)
    is_rsa = isinstance(public, rsa.RSAPublicKey) and 3072 <= public.key_size <= 8192
    if not (is_ec or is_rsa):
        raise RequestRefused(reason="its key is of another type")
    return request


def _web_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
