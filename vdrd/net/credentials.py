"""What a program shows to its peers: its certificate and key, the authority it trusts, the revocation list.

One directory: `identity.pem` (key and certificate in one file, so that a renewal replaces both at once),
`authority.pem`, `revoked.pem`. Knows nothing of TLS.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from vdrd.model.errors import KeyFileUnusable
from vdrd.net import ca
from vdrd.net.ca import Authority
from vdrd.net.identity import PeerIdentity, Role, identity_of
from vdrd.net.keyfile import read_secret, write_secret


@dataclass(frozen=True, slots=True)
class Credentials:
    """A directory with an identity in it. Reads are cheap; changes are atomic."""

    directory: Path

    @property
    def identity_path(self) -> Path:
        """Key and certificate."""
        return self.directory / "identity.pem"

    @property
    def authority_path(self) -> Path:
        """The root that signs all peers."""
        return self.directory / "authority.pem"

    @property
    def exists(self) -> bool:
        """True once enrolled."""
        return self.identity_path.exists()

    def store(self, key_pem: bytes, certificate_pem: str, authority_pem: str) -> None:
        """Keep a new identity; durable on return. The identity comes last: with it the enrolment is done."""
        write_secret(self.authority_path, authority_pem.encode())
        write_secret(self.identity_path, key_pem + certificate_pem.encode())

    def replace_identity(self, key_pem: bytes, certificate_pem: str) -> None:
        """Put a renewed certificate in place of the old one."""
        write_secret(self.identity_path, key_pem + certificate_pem.encode())

    def store_revocations(self, revoked_pem: str) -> frozenset[int]:
        """Keep a revocation list that was pushed.

        Raises CertificateRefused unless our authority signed it.
        """
        serials = ca.read_revocations(revoked_pem, self.authority_pem())
        write_secret(self.directory / "revoked.pem", revoked_pem.encode())
        return serials

    def revoked(self) -> frozenset[int]:
        """Serials to refuse; empty when no list was ever pushed."""
        path = self.directory / "revoked.pem"
        if not path.exists():
            return frozenset()
        return ca.read_revocations(read_secret(path, bytes_max=64 << 20).decode(), self.authority_pem())

    def authority_pem(self) -> str:
        """The root's certificate. Raises KeyFileUnusable."""
        return read_secret(self.authority_path).decode()

    def certificate(self) -> x509.Certificate:
        """Our certificate. Raises KeyFileUnusable."""
        content = read_secret(self.identity_path)
        start = content.find(b"-----BEGIN CERTIFICATE-----")
        try:
            return x509.load_pem_x509_certificate(content[max(start, 0) :])
        except ValueError as error:
            raise KeyFileUnusable(path=self.identity_path, reason="it holds no certificate") from error

    def identity(self) -> PeerIdentity:
        """Who we are."""
        return identity_of(self.certificate().public_bytes(Encoding.DER), str(self.identity_path))

    def is_renewal_due(self, now: datetime) -> bool:
        """True in the last third of our certificate's lifetime."""
        certificate = self.certificate()
        return ca.is_renewal_due(certificate.not_valid_before_utc, certificate.not_valid_after_utc, now)


def self_issue(authority: Authority, directory: Path, role: Role, ident: str) -> Credentials:
    """Credentials for a program that lives beside its authority (the server, the nodes of an appliance)."""
    credentials = Credentials(directory)
    key = ca.new_key()
    issued = authority.issue(ca.new_request(key), role, ident)
    credentials.store(ca.pem_of_key(key), issued.certificate_pem, authority.certificate_pem)
    return credentials
