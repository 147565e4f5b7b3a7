"""The authority, credentials and key files: what is signed, what is refused, what is on disk."""

import os
import stat
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from vdrd.model.errors import CertificateRefused, KeyFileUnusable, RequestRefused, TargetRefused
from vdrd.net import ca
from vdrd.net.ca import Authority
from vdrd.net.credentials import Credentials, self_issue
from vdrd.net.identity import Role, identity_of
from vdrd.net.keyfile import read_secret, write_secret

IDENT = "12345678-1234-1234-1234-123456789abc"


def load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


@pytest.fixture
def authority(tmp_path):
    return Authority.create(tmp_path / "ca")


def test_create_writes_private_files_and_opens_again(authority):
    directory = authority.directory
    for name in ("authority.key", "authority.pem", "revoked.pem"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    again = Authority.open(directory)
    assert again.fingerprint == authority.fingerprint == ca.fingerprint_of_pem(authority.certificate_pem)
    assert again.revoked() == frozenset()


def test_create_where_an_authority_stands_is_refused_and_changes_nothing(authority):
    before = {path.name: path.read_bytes() for path in authority.directory.iterdir()}
    with pytest.raises(TargetRefused):
        Authority.create(authority.directory)
    assert {path.name: path.read_bytes() for path in authority.directory.iterdir()} == before


@pytest.mark.parametrize("algorithm", ["ec-p256", "rsa-3072"])
def test_issue_names_one_role_and_serves_both_sides(tmp_path, algorithm):
    authority = Authority.create(tmp_path / algorithm, algorithm=algorithm)
    issued = authority.issue(ca.new_request(ca.new_key(algorithm)), Role.NODE, IDENT)
    certificate = load(issued.certificate_pem)
    certificate.verify_directly_issued_by(load(authority.certificate_pem))
    peer = identity_of(certificate.public_bytes(Encoding.DER), "p")
    assert (peer.role, peer.ident, peer.serial) == (Role.NODE, IDENT, issued.serial)
    assert str(peer) == f"node/{IDENT}"
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert len(list(usages)) == 2
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def weak_requests() -> dict[str, str]:
    def made(key) -> str:
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    good = ca.new_request(ca.new_key())
    body = good.splitlines()
    flipped = body[2][:10] + ("A" if body[2][10] != "A" else "B") + body[2][11:]
    return {
        "no pem": "hello",
        "flipped": "\n".join([*body[:2], flipped, *body[3:]]) + "\n",
        "rsa 1024": made(rsa.generate_private_key(65537, 1024)),
        "p-384": made(ec.generate_private_key(ec.SECP384R1())),
    }


@pytest.mark.parametrize("what", ["no pem", "flipped", "rsa 1024", "p-384"])
def test_issue_for_a_bad_request_is_refused(authority, what):
    with pytest.raises(RequestRefused):
        authority.issue(weak_requests()[what], Role.AGENT, IDENT)


def test_names_in_a_request_do_not_reach_the_certificate(authority):
    key = ca.new_key()
    names = [x509.UniformResourceIdentifier(f"vdr:server/{uuid4()}"), x509.DNSName("evil")]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    request = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    certificate = load(authority.issue(request, Role.AGENT, IDENT).certificate_pem)
    assert identity_of(certificate.public_bytes(Encoding.DER), "p").role is Role.AGENT


def test_renew_keeps_role_and_uuid_and_is_refused_once_revoked(authority, tmp_path):
    peer = self_issue(authority, tmp_path / "agent", Role.AGENT, IDENT).identity()
    renewed = authority.renew(ca.new_request(ca.new_key()), peer)
    assert (renewed.role, renewed.ident) == (peer.role, peer.ident)
    assert renewed.serial != peer.serial
    authority.revoke(peer.serial)
    with pytest.raises(CertificateRefused, match="revoked"):
        authority.renew(ca.new_request(ca.new_key()), peer)


def test_revoke_adds_up_and_survives_reopening(authority):
    authority.revoke(5)
    authority.revoke(7, 5)
    assert Authority.open(authority.directory).revoked() == {5, 7}


def test_revocation_list_of_another_authority_is_refused_and_not_kept(authority, tmp_path):
    credentials = self_issue(authority, tmp_path / "agent", Role.AGENT, IDENT)
    foreign = Authority.create(tmp_path / "other").revoke(1)
    with pytest.raises(CertificateRefused, match="did not sign"):
        credentials.store_revocations(foreign)
    assert credentials.revoked() == frozenset()
    assert credentials.store_revocations(authority.revoke(9)) == {9}
    assert credentials.revoked() == {9}


@pytest.mark.parametrize(("day", "due"), [(0, False), (240, False), (244, True), (365, True), (400, True)])
def test_renewal_is_due_in_the_last_third(authority, tmp_path, day, due):
    credentials = self_issue(authority, tmp_path / "agent", Role.AGENT, IDENT)
    assert credentials.is_renewal_due(datetime.now(UTC) + timedelta(days=day)) is due


def test_leaf_never_outlives_its_authority(tmp_path):
    authority = Authority.create(tmp_path / "ca", clock=lambda: datetime.now(UTC) - timedelta(days=7200))
    near_end = Authority.open(tmp_path / "ca")
    issued = near_end.issue(ca.new_request(ca.new_key()), Role.AGENT, IDENT)
    assert issued.not_after == load(authority.certificate_pem).not_valid_after_utc


@pytest.mark.parametrize("content", [b"", b"rubbish", None], ids=["empty", "rubbish", "another key"])
def test_open_with_a_damaged_key_is_refused(authority, content):
    other = ca.pem_of_key(ca.new_key())
    write_secret(authority.directory / "authority.key", other if content is None else content)
    with pytest.raises(KeyFileUnusable):
        Authority.open(authority.directory)


@pytest.mark.parametrize(
    "uris",
    [[], [f"vdr:boss/{IDENT}"], ["vdr:agent/not-a-uuid"], [f"vdr:agent/{IDENT}", f"vdr:node/{IDENT}"]],
    ids=["none", "unknown role", "no uuid", "two roles"],
)
def test_certificate_that_does_not_name_exactly_one_role_is_refused(uris):
    key = ca.new_key()
    name = x509.Name([])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now)
    )  # fmt: skip
    names = [x509.UniformResourceIdentifier(uri) for uri in uris]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    with pytest.raises(CertificateRefused):
        identity_of(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER), "p")


def test_write_secret_failing_leaves_the_old_content_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "secret"
    write_secret(path, b"old")

    def broken(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(KeyFileUnusable, match="No space left"):
        write_secret(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_read_secret_open_to_others_or_too_long_is_refused(tmp_path):
    path = tmp_path / "secret"
    write_secret(path, b"x" * 100)
    with pytest.raises(KeyFileUnusable, match="longer than 50"):
        read_secret(path, bytes_max=50)
    path.chmod(0o640)
    with pytest.raises(KeyFileUnusable, match="chmod 600"):
        read_secret(path)
    with pytest.raises(KeyFileUnusable):
        read_secret(tmp_path / "missing")


def test_identity_file_without_certificate_is_refused(tmp_path):
    credentials = Credentials(tmp_path / "agent")
    write_secret(credentials.identity_path, b"no pem in here")
    with pytest.raises(KeyFileUnusable):
        credentials.certificate()
