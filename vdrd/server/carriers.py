"""One message out of the house: by mail, by webhook, or through a service that Apprise knows. Blocking,
bounded in time.

Knows neither catalog nor loop. What goes wrong is a `NotDelivered` whose text a person can act on and that
holds no secret.
"""

import hashlib
import hmac
import json
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any

import httpx
import msgspec

from schemas.api.alerts import ChannelSettings, MailSettings, ServiceSettings, WebhookSettings
from vdrd.model.errors import BadArgument, ExitCode, VdrError

SECONDS = 20.0
"""For each step of a delivery."""
_TEXT_MAX = 300


class NotDelivered(VdrError):
    """A message did not go through."""

    code = "not-delivered"
    template = "the message was not delivered: {reason}"
    exit_code = ExitCode.UNREACHABLE
    retryable = True


def deliver(settings: ChannelSettings, subject: str, text: str, document: dict[str, Any]) -> None:
    """Send one message. Raises NotDelivered, whatever the libraries below make of strange settings."""
    try:
        match settings:
            case MailSettings():
                _mail(settings, subject, text)
            case WebhookSettings():
                _post(settings, document)
            case ServiceSettings():
                _notify(settings, subject, text)
    except VdrError:
        raise
    except Exception as error:
        # Not its text, which may hold a password that the library could not encode.
        raise NotDelivered(reason=f"the settings cannot be used ({type(error).__name__})") from error


def check(settings: ChannelSettings) -> None:
    """Raise BadArgument for settings that cannot work, before they are kept."""
    match settings:
        case MailSettings(security="none", user_name=str(name)) if name:
            raise BadArgument(field="settings.security", reason="a password is not sent without encryption")
        case ServiceSettings(url=None):
            raise BadArgument(field="settings.url", reason="it is missing")
        case ServiceSettings(url=str(url)):
            if _service(url) is None:
                raise BadArgument(field="settings.url", reason="Apprise does not know such an address")
        case _:
            pass


def service_name(settings: ChannelSettings) -> str:
    """Which service an Apprise address means; empty for mail and webhooks."""
    if not isinstance(settings, ServiceSettings) or settings.url is None:
        return ""
    service = _service(settings.url)
    return "" if service is None else str(service.service_name)


def without_secrets(settings: ChannelSettings) -> ChannelSettings:
    """The same, to be shown."""
    match settings:
        case MailSettings():
            return msgspec.structs.replace(settings, password=None)
        case WebhookSettings():
            return msgspec.structs.replace(settings, secret=None)
        case ServiceSettings():
            return ServiceSettings()


def with_secrets_of(settings: ChannelSettings, before: ChannelSettings) -> ChannelSettings:
    """New settings with the secrets of the old ones where they name none and are of the same kind.

    A password goes with the server it was given for: other host, user or address, and it must be given again.
    """
    match settings, before:
        case MailSettings(password=None), MailSettings() if (settings.host, settings.user_name) == (
            before.host,
            before.user_name,
        ):
            return msgspec.structs.replace(settings, password=before.password)
        case WebhookSettings(secret=None), WebhookSettings() if settings.url == before.url:
            return msgspec.structs.replace(settings, secret=before.secret)
        case ServiceSettings(url=None), ServiceSettings():
            return before
        case _:
            return settings


def _mail(settings: MailSettings, subject: str, text: str) -> None:
    mail = EmailMessage()
    mail["Subject"] = subject
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.recipients)
    mail["Date"] = formatdate()
    mail["Message-ID"] = make_msgid(domain=settings.sender.rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text)
    context = ssl.create_default_context()
    try:
        if settings.security == "tls":
            link: smtplib.SMTP = smtplib.SMTP_SSL(
                settings.host, settings.port, timeout=SECONDS, context=context
            )
        else:
            link = smtplib.SMTP(settings.host, settings.port, timeout=SECONDS)
        with link:
            if settings.security == "starttls":
                link.starttls(context=context)
            if settings.user_name:
                link.login(settings.user_name, settings.password or "")
            refused = link.send_message(mail)
    except smtplib.SMTPAuthenticationError as error:
        raise NotDelivered(reason=f"{settings.host} refused the user name or password") from error
    except smtplib.SMTPResponseException as error:
        answer = error.smtp_error
        said = answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)
        raise NotDelivered(reason=f"{settings.host} answered {error.smtp_code} {said}"[:_TEXT_MAX]) from error
    except smtplib.SMTPRecipientsRefused as error:
        raise NotDelivered(reason=f"{settings.host} refused every recipient") from error
    except ssl.SSLCertVerificationError as error:
        reason = f"the certificate of {settings.host} does not hold: {error.verify_message}"
        raise NotDelivered(reason=reason) from error
    except (OSError, smtplib.SMTPException) as error:
        raise NotDelivered(reason=f"{settings.host}:{settings.port}: {error}"[:_TEXT_MAX]) from error
    if refused:
        raise NotDelivered(reason=f"{settings.host} refused {', '.join(sorted(refused))}"[:_TEXT_MAX])


def signature(secret: str, body: bytes) -> str:
    """What the header `X-VDR-Signature` holds: HMAC-SHA-256 of the body, hex."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _post(settings: WebhookSettings, document: dict[str, Any]) -> None:
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "vdr"}
    if settings.secret:
        headers["X-VDR-Signature"] = signature(settings.secret, body)
    try:
        # Redirects are not followed: they would carry the document to where nobody said it should go.
        answer = httpx.post(settings.url, content=body, headers=headers, timeout=SECONDS)
    except httpx.HTTPError as error:
        raise NotDelivered(reason=f"{httpx.URL(settings.url).host}: {error}"[:_TEXT_MAX]) from error
    if not answer.is_success:
        raise NotDelivered(reason=f"{answer.url.host} answered {answer.status_code}")


def _service(url: str) -> Any:
    # Imported here: it takes half a second and most installations never need it.
    import apprise  # noqa: PLC0415

    if url.strip().split(":", 1)[0].lower() in _NO_SERVICES:
        return None
    return apprise.Apprise.instantiate(url, suppress_exceptions=True)


_NO_SERVICES = frozenset({"syslog", "dbus", "glib", "kde", "qt", "gnome", "macosx", "windows", "file"})
"""Apprise addresses that act on the server itself instead of reaching people."""


def _notify(settings: ServiceSettings, subject: str, text: str) -> None:
    service = _service(settings.url or "")
    if service is None:
        raise NotDelivered(reason="Apprise does not know the address any more")
    if not service.notify(title=subject, body=text):
        raise NotDelivered(reason=f"{service.service_name} did not take it; see that its address is right")
