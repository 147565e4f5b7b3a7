"""First start of a server: authority, own certificate, catalog, the first administrator. Blocking; repeating
it is harmless."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from vdrd.catalog import accounts, certificates, nodes, settings
from vdrd.catalog.database import Catalog
from vdrd.catalog.times import from_ms, to_ms
from vdrd.model.settings import Secret
from vdrd.net import ca
from vdrd.net.ca import Authority
from vdrd.net.credentials import Credentials
from vdrd.net.identity import Role
from vdrd.net.keyfile import read_secret, write_secret
from vdrd.server.clock import Clock, wall_clock_ms
from vdrd.server.launch import new_id
from vdrd.server.passwords import hash_now, new_password
from vdrd.server.roles import SUPER_ADMINISTRATOR

ADMINISTRATOR = "admin"
PASSWORD_FILE = "administrator-password"
WEB_FILE = "web.pem"


@dataclass(frozen=True, slots=True)
class Foundation:
    """What a server stands on."""

    server_id: str
    catalog: Catalog
    authority: Authority
    credentials: Credentials
    new_password: Secret | None
    """Password of the first administrator if it was made just now."""


def _authority(directory: Path) -> Authority:
    if (directory / "authority.key").exists():
        return Authority.open(directory)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Authority.create(directory)


def issue_identity(
    authority: Authority, catalog: Catalog, credentials: Credentials, *, role: Role, ident: str, now_ms: int
) -> None:
    """Make a key and certificate for a program on this machine and keep them in its directory."""
    key = ca.new_key()
    issued = authority.issue(ca.new_request(key), role, ident)
    catalog.write_now(
        certificates.note,
        serial=issued.serial,
        role=issued.role,
        holder_id=issued.ident,
        not_after_ms=to_ms(issued.not_after),
        now_ms=now_ms,
    )
    credentials.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    credentials.store(ca.pem_of_key(key), issued.certificate_pem, authority.certificate_pem)


def lay(state_directory: Path, clock: Clock = wall_clock_ms) -> Foundation:
    """Open, and where missing make, everything a server stands on.

    The first administrator's password is written to a file of mode 0600 beside the catalog. Raises
    CatalogLocked and other
    errors of the catalog, KeyFileUnusable.
    """
    state_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    catalog = Catalog.open(state_directory / "catalog.sqlite")
    try:
        now_ms = clock()
        catalog.write_now(settings.ensure_default_tenant, now_ms)
        server_id = catalog.write_now(settings.get, "server_id")
        if server_id is None:
            server_id = new_id()
            catalog.write_now(settings.put, "server_id", server_id)
        authority = _authority(state_directory / "authority")
        credentials = Credentials(state_directory / "identity")
        if not credentials.exists:
            issue_identity(authority, catalog, credentials, role=Role.SERVER, ident=server_id, now_ms=now_ms)
        credentials.store_revocations(authority.revoked_pem)
        password = _first_administrator(catalog, state_directory, now_ms)
    except BaseException:
        catalog.close()
        raise
    return Foundation(server_id, catalog, authority, credentials, password)


def _first_administrator(catalog: Catalog, state_directory: Path, now_ms: int) -> Secret | None:
    if catalog.write_now(accounts.count):
        return None
    password = new_password()
    # The file first: a password nobody can read would lock everybody out.
    write_secret(state_directory / PASSWORD_FILE, f"{password}\n".encode())
    catalog.write_now(
        accounts.create,
        user_id=new_id(),
        tenant_id=settings.TENANT_DEFAULT,
        name=ADMINISTRATOR,
        display_name="Administrator",
        password_hash=hash_now(password),
        must_change_password=False,
        roles=frozenset({SUPER_ADMINISTRATOR}),
        now_ms=now_ms,
    )
    return Secret(password)


def admit_node(foundation: Foundation, directory: Path, name: str, now_ms: int) -> str:
    """Give a node on this machine an identity, unless it has one. Returns its id."""
    credentials = Credentials(directory)
    node_id = credentials.identity().ident if credentials.exists else new_id()
    if not credentials.exists:
        issue_identity(
            foundation.authority,
            foundation.catalog,
            credentials,
            role=Role.NODE,
            ident=node_id,
            now_ms=now_ms,
        )

    def work(connection: sqlite3.Connection) -> None:
        nodes.create(connection, node_id, name, now_ms)

    foundation.catalog.write_now(work)
    return node_id


def _is_old(certificate: x509.Certificate, now_ms: int) -> bool:
    return ca.is_renewal_due(
        certificate.not_valid_before_utc, certificate.not_valid_after_utc, from_ms(now_ms)
    )


def admit_console(foundation: Foundation, directory: Path, host_name: str, now_ms: int) -> None:
    """Give a console on this machine an identity for its link and a certificate for HTTPS, unless it has
    them."""
    credentials = Credentials(directory)
    if not credentials.exists or _is_old(credentials.certificate(), now_ms):
        issue_identity(
            foundation.authority,
            foundation.catalog,
            credentials,
            role=Role.CONSOLE,
            ident=credentials.identity().ident if credentials.exists else new_id(),
            now_ms=now_ms,
        )
    web = directory / WEB_FILE
    if not web.exists() or _is_old(x509.load_pem_x509_certificate(read_secret(web)), now_ms):
        key = ca.new_key()
        names = list(dict.fromkeys([host_name, "localhost", "127.0.0.1", "::1"]))
        certificate_pem = foundation.authority.issue_web(ca.new_request(key), names)
        pem = ca.pem_of_key(key).decode() + certificate_pem + foundation.authority.certificate_pem
        write_secret(web, pem.encode())
