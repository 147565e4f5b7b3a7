"""Messages on real servers: SMTP by aiosmtpd, with and without TLS; HTTP by the standard library."""

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from schemas.api import MailSettings, ServiceSettings, WebhookSettings
from vdrd.model.errors import BadArgument
from vdrd.server import carriers
from vdrd.server.carriers import NotDelivered, deliver

# Apprise imports what Python 3.13 will drop, and knows how to do without it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

DOCUMENT = {"event": "opened", "subject": "nightly on 网站-1"}


class Box:
    """Keeps the mails that arrive; refuses when told to."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.answer = "250 kept"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if self.answer.startswith("250"):
            self.mails.append(envelope)
        return self.answer


def check_password(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    is_right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"vdr", b"right")
    return AuthResult(success=is_right, handled=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, key_path = directory / "mail.pem", directory / "mail.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, key_path


async def _end(server: asyncio.Server) -> None:
    server.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


@pytest.fixture(params=["none", "starttls", "tls"])
def post(
    request: pytest.FixtureRequest, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Box, dict[str, Any]]]:
    """A mail server, and the settings that reach it."""
    security = request.param
    box = Box()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    options: dict[str, Any] = {"hostname": "mail"}
    if security == "starttls":
        options |= {"tls_context": context, "require_starttls": True, "authenticator": check_password}
    elif security == "tls":
        options |= {"authenticator": check_password, "auth_require_tls": False}
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    serving = loop.create_server(
        lambda: SMTP(box, loop=loop, **options),
        "127.0.0.1",
        0,
        ssl=context if security == "tls" else None,
    )
    server = asyncio.run_coroutine_threadsafe(serving, loop).result(60)
    port = server.sockets[0].getsockname()[1]
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "security": security,
        "sender": "vdr@example.com",
        "recipients": ["admin@example.com", "ops@example.com"],
    }
    if security != "none":
        settings |= {"user_name": "vdr", "password": "right"}
    yield box, settings
    asyncio.run_coroutine_threadsafe(_end(server), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_mail_arrives_whole_at_every_recipient(post: tuple[Box, dict[str, Any]]) -> None:
    box, settings = post
    deliver(MailSettings(**settings), "[VDR] Critical: 网站", "The latest run failed.\n\nLook.", {})
    (mail,) = box.mails
    assert mail.rcpt_tos == ["admin@example.com", "ops@example.com"]
    content = mail.content.decode()
    assert "The latest run failed." in content
    assert "Auto-Submitted: auto-generated" in content


def test_refusal_of_the_mail_server_is_told(post: tuple[Box, dict[str, Any]]) -> None:
    box, settings = post
    box.answer = "552 mailbox full"
    with pytest.raises(NotDelivered, match="552 mailbox full"):
        deliver(MailSettings(**settings), "subject", "text", {})
    assert box.mails == []


@pytest.mark.parametrize("post", ["starttls", "tls"], indirect=True)
def test_wrong_password_is_told_without_showing_it(post: tuple[Box, dict[str, Any]]) -> None:
    _box, settings = post
    with pytest.raises(NotDelivered, match="refused the user name or password") as refused:
        deliver(MailSettings(**settings | {"password": "wr0ng-secret"}), "subject", "text", {})
    assert "wr0ng-secret" not in refused.value.message


@pytest.mark.parametrize("post", ["starttls", "tls"], indirect=True)
def test_mail_server_nobody_vouches_for_gets_neither_password_nor_mail(
    post: tuple[Box, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    box, settings = post
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(NotDelivered, match=r"certificate of 127\.0\.0\.1 does not hold"):
        deliver(MailSettings(**settings), "subject", "text", {})
    assert box.mails == []


def test_mail_server_that_is_down_is_told() -> None:
    settings = MailSettings(host="127.0.0.1", port=1, sender="a@b.c", recipients=["d@e.f"])
    with pytest.raises(NotDelivered, match=r"127\.0\.0\.1:1"):
        deliver(settings, "subject", "text", {})


class Hook(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    kept: list[tuple[str, dict[str, str], bytes]] = []
    status = 204

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.kept.append((self.path, dict(self.headers), body))
        self.send_response(self.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[tuple[type[Hook], str]]:
    class Fresh(Hook):
        kept: list[tuple[str, dict[str, str], bytes]] = []

    server = HTTPServer(("127.0.0.1", 0), Fresh)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Fresh, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_webhook_gets_the_document_signed(hook: tuple[type[Hook], str]) -> None:
    kept, address = hook
    deliver(WebhookSettings(url=f"{address}/in", secret="key"), "subject", "text", DOCUMENT)
    ((path, headers, body),) = kept.kept
    assert path == "/in"
    assert json.loads(body) == DOCUMENT
    assert headers["X-VDR-Signature"] == carriers.signature("key", body)


@pytest.mark.parametrize("status", [301, 404, 500], ids=["redirect", "missing", "broken"])
def test_webhook_that_does_not_take_it_is_told_and_not_followed(
    hook: tuple[type[Hook], str], status: int
) -> None:
    kept, address = hook
    kept.status = status
    with pytest.raises(NotDelivered, match=f"answered {status}"):
        deliver(WebhookSettings(url=f"{address}/in"), "subject", "text", DOCUMENT)
    assert [path for path, _, _ in kept.kept] == ["/in"]


def test_service_message_goes_through_its_library(hook: tuple[type[Hook], str]) -> None:
    kept, address = hook
    settings = ServiceSettings(url=address.replace("http://", "json://") + "/wecom")
    carriers.check(settings)
    assert carriers.service_name(settings) == "JSON"
    deliver(settings, "subject", "text", {})
    ((path, _, body),) = kept.kept
    assert path.rstrip("/") == "/wecom"
    assert json.loads(body)["message"] == "text"


@pytest.mark.parametrize(
    "settings",
    [
        ServiceSettings(),
        ServiceSettings(url="nonsense"),
        ServiceSettings(url="syslog://"),
        ServiceSettings(url=" syslog://"),
        MailSettings(
            host="mail", security="none", user_name="vdr", password="x", sender="a@b.c", recipients=["d@e.f"]
        ),
    ],
    ids=[
        "no-address",
        "unknown-address",
        "acts-on-the-server",
        "the-same-with-a-space",
        "password-in-the-clear",
    ],
)
def test_settings_that_cannot_work_are_refused(settings: Any) -> None:
    with pytest.raises(BadArgument):
        carriers.check(settings)


def test_secrets_are_never_shown() -> None:
    mail = MailSettings(host="mail", user_name="vdr", password="x", sender="a@b.c", recipients=["d@e.f"])
    assert carriers.without_secrets(mail).password is None  # type: ignore[union-attr]
    assert carriers.without_secrets(WebhookSettings(url="https://a", secret="x")) == WebhookSettings(
        url="https://a"
    )
    assert carriers.without_secrets(ServiceSettings(url="wecombot://x")) == ServiceSettings()


def test_password_is_not_kept_for_another_mail_server() -> None:
    mail = MailSettings(host="mail", user_name="vdr", password="x", sender="a@b.c", recipients=["d@e.f"])
    asked = MailSettings(host="mail", user_name="vdr", sender="a@b.c", recipients=["new@e.f"])
    assert carriers.with_secrets_of(asked, mail).password == "x"  # type: ignore[union-attr]
    asked = MailSettings(host="evil", user_name="vdr", sender="a@b.c", recipients=["new@e.f"])
    assert carriers.with_secrets_of(asked, mail).password is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "settings",
    [
        MailSettings(host="mail..example.com", sender="a@b.c", recipients=["d@e.f"]),
        MailSettings(host="127.0.0.1", port=1, sender="a@[b", recipients=["d@e.f"]),
        WebhookSettings(url="http://[::1/"),
        WebhookSettings(url="https://xn--/"),
    ],
    ids=["host", "sender", "address", "name"],
)
def test_settings_that_a_library_chokes_on_are_told_like_any_failure(settings: Any) -> None:
    with pytest.raises(NotDelivered):
        deliver(settings, "subject", "text", DOCUMENT)


@pytest.mark.parametrize("post", ["starttls"], indirect=True)
def test_password_outside_ascii_is_told_and_not_shown(post: tuple[Box, dict[str, Any]]) -> None:
    _box, settings = post
    with pytest.raises(NotDelivered) as refused:
        deliver(MailSettings(**settings | {"password": "密码秘密"}), "subject", "text", {})
    assert "密码" not in refused.value.message
