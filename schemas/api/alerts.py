"""Calls about alerts, and about the channels that carry them to people."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, field

from schemas.api.values import ById, Id, Message, Name, Page, PageRequest, Time
from schemas.api.words import AlertKind, AlertLevel, AlertState, DeliveryState

MailAddress = Annotated[str, Meta(max_length=320, pattern=r"^[^@\s<>,;\x00-\x1f]+@[^@\s<>,;\x00-\x1f]+$")]
Secret = Annotated[str, Meta(max_length=4096)]


class AlertInfo(Message, frozen=True, kw_only=True):
    """Something somebody must look at. One alert per condition and subject, however often it shows."""

    id: Id
    kind: AlertKind
    level: AlertLevel
    state: AlertState
    subject: str
    """What it is about, by name: a job on a host, a storage, a node."""
    text: str
    """What happened and what to do, as sentences."""
    job_id: Id | None
    host_id: Id | None
    storage_id: Id | None
    node_id: Id | None
    run_id: Id | None
    """The latest run that showed it."""
    count: int
    """How often it showed since it was opened."""
    opened_at: Time
    last_at: Time
    acknowledged_by: str
    acknowledged_at: Time | None
    closed_by: str
    """A user, or `system` when the condition ended."""
    closed_at: Time | None


class AlertList(PageRequest, frozen=True, kw_only=True):
    """Lists alerts, newest first."""

    states: list[AlertState] = field(default_factory=list)
    levels: list[AlertLevel] = field(default_factory=list)
    kinds: list[AlertKind] = field(default_factory=list)
    host_id: Id | None = None
    job_id: Id | None = None
    storage_id: Id | None = None
    since: Time | None = None
    until: Time | None = None


class AlertPage(Page, frozen=True, kw_only=True):
    """Some alerts."""

    items: list[AlertInfo]


class AlertCounts(Message, frozen=True, kw_only=True):
    """Asks how many alerts are open."""


class AlertCountsReply(Message, frozen=True, kw_only=True):
    """Alerts that are open and not acknowledged, and those that are acknowledged."""

    critical: int
    warning: int
    info: int
    acknowledged: int


class AlertAcknowledge(Message, frozen=True, kw_only=True):
    """Says that somebody looks after these alerts. Those acknowledged or closed already stay as they are."""

    ids: Annotated[list[Id], Meta(min_length=1, max_length=1000)]


class AlertClose(Message, frozen=True, kw_only=True):
    """Closes alerts by hand. One whose condition still holds stays silent until the condition has ended."""

    ids: Annotated[list[Id], Meta(min_length=1, max_length=1000)]


class AlertsChanged(Message, frozen=True, kw_only=True):
    """How many alerts were changed."""

    count: int


class MailSettings(Struct, frozen=True, kw_only=True, tag="mail"):
    """Mail through an SMTP server."""

    host: Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\s/@]+$")]
    port: Annotated[int, Meta(ge=1, le=65535)] = 587
    security: Annotated[str, Meta(pattern="^(none|starttls|tls)$")] = "starttls"
    """How the connection is protected; with starttls and tls the server's certificate is checked."""
    user_name: Annotated[str, Meta(max_length=320)] = ""
    password: Secret | None = None
    """Never given back; None keeps the one there is."""
    sender: MailAddress
    recipients: Annotated[list[MailAddress], Meta(min_length=1, max_length=100)]


class WebhookSettings(Struct, frozen=True, kw_only=True, tag="webhook"):
    """A JSON document by POST, signed when there is a secret."""

    url: Annotated[str, Meta(max_length=2048, pattern=r"^https?://[^\s@]+$")]
    secret: Secret | None = None
    """Key of the HMAC-SHA-256 in the header `X-VDR-Signature`. Never given back; None keeps what there is."""


class ServiceSettings(Struct, frozen=True, kw_only=True, tag="service"):
    """One of the services of the Apprise library: WeCom, WeChat gateways, SMS gateways and many more."""

    url: Secret | None = None
    """An Apprise address, such as `wecombot://KEY`. Holds secrets, so it is never given back; None keeps what
    there is."""


ChannelSettings = MailSettings | WebhookSettings | ServiceSettings


class ChannelInfo(Message, frozen=True, kw_only=True):
    """A way to reach people."""

    id: Id
    name: str
    settings: ChannelSettings
    """Without its secrets."""
    service: str
    """Of a service: which, by name; else empty."""
    least_level: AlertLevel
    is_enabled: bool
    last_sent_at: Time | None
    last_error: str
    """Of the latest delivery; empty when it went through."""
    failed_count: int
    """Deliveries given up within the last week."""


class ChannelList(PageRequest, frozen=True, kw_only=True):
    """Lists the channels by name."""


class ChannelPage(Page, frozen=True, kw_only=True):
    """Some channels."""

    items: list[ChannelInfo]


class ChannelCreate(Message, frozen=True, kw_only=True):
    """Makes a channel."""

    name: Name
    settings: ChannelSettings
    least_level: AlertLevel = AlertLevel.WARNING


class ChannelEdit(ById, frozen=True, kw_only=True):
    """Changes what is given. Secrets left out of the settings stay as they are."""

    name: Name | UnsetType = UNSET
    settings: ChannelSettings | UnsetType = UNSET
    least_level: AlertLevel | UnsetType = UNSET
    is_enabled: bool | UnsetType = UNSET


class ChannelDelete(ById, frozen=True, kw_only=True):
    """Deletes a channel and what waits to be sent through it."""


class ChannelTest(ById, frozen=True, kw_only=True):
    """Sends a test message now and waits for the outcome."""


class DeliveryList(PageRequest, frozen=True, kw_only=True):
    """Lists messages to people, newest first."""

    channel_id: Id | None = None
    alert_id: Id | None = None
    state: DeliveryState | None = None


class DeliveryInfo(Message, frozen=True, kw_only=True):
    """A message about an alert on its way through a channel."""

    id: int
    alert_id: Id
    channel_id: Id
    channel_name: str
    subject: str
    """What the alert is about."""
    event: str
    """`opened`, `escalated` or `closed`."""
    state: DeliveryState
    attempts: int
    error: str
    created_at: Time
    ended_at: Time | None


class DeliveryPage(Page, frozen=True, kw_only=True):
    """Some messages."""

    items: list[DeliveryInfo]
