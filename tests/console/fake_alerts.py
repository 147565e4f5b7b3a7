"""Alerts and channels of the fake server."""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from schemas import api
from vdrd.model.errors import Conflict, NotFound
from vdrd.server.carriers import without_secrets


class FakeAlerts:
    """The alert family of calls."""

    now: Callable[[], datetime]

    def __init__(self) -> None:
        self.alerts: dict[str, api.AlertInfo] = {}
        self.channels: dict[str, api.ChannelInfo] = {}
        self.deliveries: list[api.DeliveryInfo] = []
        self.tested: list[str] = []

    def add_alert(self, kind: api.AlertKind, subject: str, **fields: Any) -> api.AlertInfo:
        values: dict[str, Any] = {
            "id": hashlib.sha256(f"{kind}{subject}".encode()).hexdigest()[:32],
            "kind": kind,
            "level": api.AlertLevel.CRITICAL,
            "state": api.AlertState.OPEN,
            "subject": subject,
            "text": "the disk is gone. look at its cable",
            "job_id": None,
            "host_id": None,
            "storage_id": None,
            "node_id": None,
            "run_id": None,
            "count": 3,
            "opened_at": self.now() - timedelta(hours=2),
            "last_at": self.now(),
            "acknowledged_by": "",
            "acknowledged_at": None,
            "closed_by": "",
            "closed_at": None,
        }
        alert = api.AlertInfo(**{**values, **fields})
        self.alerts[alert.id] = alert
        return alert

    def add_channel(self, name: str, settings: Any, **fields: Any) -> api.ChannelInfo:
        values: dict[str, Any] = {
            "id": hashlib.sha256(name.encode()).hexdigest()[:32],
            "name": name,
            "settings": without_secrets(settings),
            "service": "",
            "least_level": api.AlertLevel.WARNING,
            "is_enabled": True,
            "last_sent_at": None,
            "last_error": "",
            "failed_count": 0,
        }
        channel = api.ChannelInfo(**{**values, **fields})
        self.channels[channel.id] = channel
        return channel

    def populate_alerts(self) -> None:
        """Some of each."""
        self.add_alert(api.AlertKind.NODE_OFFLINE, "vault-2")
        self.add_alert(
            api.AlertKind.STORAGE_SPACE,
            "main",
            level=api.AlertLevel.WARNING,
            state=api.AlertState.ACKNOWLEDGED,
            acknowledged_by="operator",
            acknowledged_at=self.now(),
        )
        self.add_alert(
            api.AlertKind.RUN_WARNINGS,
            "Files on web-01",
            level=api.AlertLevel.WARNING,
            state=api.AlertState.CLOSED,
            closed_by="system",
            closed_at=self.now(),
        )
        mail = self.add_channel(
            "operators",
            api.MailSettings(host="mail", sender="vdr@example.com", recipients=["ops@example.com"]),
        )
        self.add_channel(
            "pager", api.WebhookSettings(url="https://pager.example.com/in"), last_error="pager answered 500"
        )
        self.add_channel("wecom", api.ServiceSettings(), service="WeCom Bot", is_enabled=False)
        for number, state in enumerate(api.DeliveryState, 1):
            self.deliveries.append(
                api.DeliveryInfo(
                    id=number,
                    alert_id=next(iter(self.alerts)),
                    channel_id=mail.id,
                    channel_name=mail.name,
                    subject="vault-2",
                    event="opened",
                    state=state,
                    attempts=1,
                    error="" if state is api.DeliveryState.SENT else "mail answered 451 later",
                    created_at=self.now(),
                    ended_at=None,
                )
            )

    def on_alert_list(self, request: api.AlertList, _: str) -> api.AlertPage:
        found = [
            alert
            for alert in self.alerts.values()
            if alert.state in (request.states or list(api.AlertState))
            and alert.level in (request.levels or list(api.AlertLevel))
        ]
        return api.AlertPage(items=found[: request.limit])

    def on_alert_counts(self, _request: api.AlertCounts, _: str) -> api.AlertCountsReply:
        levels = [alert.level for alert in self.alerts.values() if alert.state is api.AlertState.OPEN]
        states = [alert.state for alert in self.alerts.values()]
        return api.AlertCountsReply(
            critical=levels.count(api.AlertLevel.CRITICAL),
            warning=levels.count(api.AlertLevel.WARNING),
            info=levels.count(api.AlertLevel.INFO),
            acknowledged=states.count(api.AlertState.ACKNOWLEDGED),
        )

    def on_alert_acknowledge(self, request: api.AlertAcknowledge, _: str) -> api.AlertsChanged:
        return self._move(request.ids, api.AlertState.ACKNOWLEDGED)

    def on_alert_close(self, request: api.AlertClose, _: str) -> api.AlertsChanged:
        return self._move(request.ids, api.AlertState.CLOSED)

    def _move(self, ids: list[str], state: api.AlertState) -> api.AlertsChanged:
        known = [ident for ident in ids if ident in self.alerts]
        for ident in known:
            self.alerts[ident] = msgspec.structs.replace(self.alerts[ident], state=state)
        return api.AlertsChanged(count=len(known))

    def on_channel_list(self, request: api.ChannelList, _: str) -> api.ChannelPage:
        return api.ChannelPage(items=list(self.channels.values())[: request.limit])

    def on_channel_create(self, request: api.ChannelCreate, _: str) -> api.ChannelInfo:
        if any(channel.name == request.name for channel in self.channels.values()):
            raise Conflict(what=f"there is a channel {request.name} already", remedy="choose another name")
        return self.add_channel(request.name, request.settings, least_level=request.least_level)

    def on_channel_edit(self, request: api.ChannelEdit, _: str) -> api.ChannelInfo:
        changes = {
            name: value
            for name in ("name", "settings", "least_level", "is_enabled")
            if (value := getattr(request, name)) is not msgspec.UNSET
        }
        self.channels[request.id] = msgspec.structs.replace(self._channel(request.id), **changes)
        return self.channels[request.id]

    def _channel(self, ident: str) -> api.ChannelInfo:
        if ident not in self.channels:
            raise NotFound(what="channel", name=ident)
        return self.channels[ident]

    def on_channel_delete(self, request: api.ChannelDelete, _: str) -> api.Done:
        del self.channels[self._channel(request.id).id]
        return api.Done()

    def on_channel_test(self, request: api.ChannelTest, _: str) -> api.Done:
        self.tested.append(self._channel(request.id).name)
        return api.Done()

    def on_delivery_list(self, request: api.DeliveryList, _: str) -> api.DeliveryPage:
        found = [d for d in self.deliveries if request.channel_id in (None, d.channel_id)]
        return api.DeliveryPage(items=found[: request.limit])
