"""Calls about alerts and the channels that carry them."""

import sqlite3

import trio
from msgspec import UNSET

from schemas.api.alerts import (
    AlertAcknowledge,
    AlertClose,
    AlertCounts,
    AlertCountsReply,
    AlertList,
    AlertPage,
    AlertsChanged,
    ChannelCreate,
    ChannelDelete,
    ChannelEdit,
    ChannelInfo,
    ChannelList,
    ChannelPage,
    ChannelTest,
    DeliveryList,
    DeliveryPage,
    ServiceSettings,
)
from schemas.api.values import Done
from vdrd.catalog import alerts, channels
from vdrd.server import carriers
from vdrd.server.accounts import Caller
from vdrd.server.launch import new_id
from vdrd.server.services import Services
from vdrd.server.vault import SecretLost


async def list_alerts(services: Services, caller: Caller, request: AlertList) -> AlertPage:
    """Alerts, newest first."""
    items, cursor = await services.catalog.read(alerts.list_page, caller.tenant_id, request)
    return AlertPage(items=items, next_cursor=cursor)


async def count_alerts(services: Services, caller: Caller, _request: AlertCounts) -> AlertCountsReply:
    """How many need somebody."""
    return await services.catalog.read(alerts.counts, caller.tenant_id)


async def acknowledge(services: Services, caller: Caller, request: AlertAcknowledge) -> AlertsChanged:
    """The caller looks after them."""
    changed = await services.catalog.write(
        alerts.acknowledge, caller.tenant_id, request.ids, caller.name, services.clock()
    )
    for alert_id in changed:
        services.feed.publish("alert", alert_id)
    return AlertsChanged(count=len(changed))


async def close(services: Services, caller: Caller, request: AlertClose) -> AlertsChanged:
    """The caller is done with them."""
    now_ms = services.clock()

    def work(connection: sqlite3.Connection) -> list[str]:
        closed = alerts.close(connection, caller.tenant_id, request.ids, caller.name, now_ms)
        for alert_id in closed:
            channels.queue_ended(connection, alert_id, now_ms)
        return closed

    closed = await services.catalog.write(work)
    for alert_id in closed:
        services.feed.publish("alert", alert_id)
    services.messenger.wake()
    return AlertsChanged(count=len(closed))


def _info(services: Services, channel: channels.Channel) -> ChannelInfo:
    try:
        settings, problem = services.messenger.unseal(channel.channel_id, channel.sealed), ""
    except SecretLost as error:
        # One lost secret must not hide the other channels, nor itself: it can be entered again.
        settings, problem = ServiceSettings(), error.message
    return ChannelInfo(
        id=channel.channel_id,
        name=channel.name,
        settings=carriers.without_secrets(settings),
        service=carriers.service_name(settings),
        least_level=channel.least_level,
        is_enabled=channel.is_enabled,
        last_sent_at=channel.last_sent_at,
        last_error=problem or channel.last_error,
        failed_count=channel.failed_count,
    )


async def _told(services: Services, caller: Caller, channel_id: str) -> ChannelInfo:
    channel = await services.catalog.read(channels.get, caller.tenant_id, channel_id, services.clock())
    services.feed.publish("channel", channel_id)
    return await trio.to_thread.run_sync(_info, services, channel)


async def list_channels(services: Services, caller: Caller, request: ChannelList) -> ChannelPage:
    """Channels by name."""
    found, cursor = await services.catalog.read(
        channels.list_page, caller.tenant_id, request, services.clock()
    )
    items = await trio.to_thread.run_sync(lambda: [_info(services, channel) for channel in found])
    return ChannelPage(items=items, next_cursor=cursor)


async def create_channel(services: Services, caller: Caller, request: ChannelCreate) -> ChannelInfo:
    """Make a channel."""
    await trio.to_thread.run_sync(carriers.check, request.settings)
    channel_id = new_id()
    await services.catalog.write(
        channels.create,
        channel_id=channel_id,
        tenant_id=caller.tenant_id,
        name=request.name,
        sealed=services.messenger.seal(channel_id, request.settings),
        least_level=request.least_level,
        now_ms=services.clock(),
    )
    return await _told(services, caller, channel_id)


async def edit_channel(services: Services, caller: Caller, request: ChannelEdit) -> ChannelInfo:
    """Change what is given."""
    channel = await services.catalog.read(channels.get, caller.tenant_id, request.id, services.clock())
    sealed = channel.sealed
    if request.settings is not UNSET:
        try:
            before = services.messenger.unseal(request.id, channel.sealed)
            settings = carriers.with_secrets_of(request.settings, before)
        except SecretLost:
            settings = request.settings
        await trio.to_thread.run_sync(carriers.check, settings)
        sealed = services.messenger.seal(request.id, settings)
    await services.catalog.write(
        channels.change,
        request.id,
        name=channel.name if request.name is UNSET else request.name,
        sealed=sealed,
        least_level=channel.least_level if request.least_level is UNSET else request.least_level,
        is_enabled=channel.is_enabled if request.is_enabled is UNSET else request.is_enabled,
    )
    await _hurry(services, request.id)
    return await _told(services, caller, request.id)


async def _hurry(services: Services, channel_id: str) -> None:
    """The channel may work again: what waits goes now."""
    await services.catalog.write(channels.hurry, channel_id, services.clock())
    services.messenger.wake()


async def delete_channel(services: Services, caller: Caller, request: ChannelDelete) -> Done:
    """Delete a channel."""
    await services.catalog.write(channels.delete, caller.tenant_id, request.id)
    services.feed.publish("channel", request.id)
    return Done()


async def test_channel(services: Services, caller: Caller, request: ChannelTest) -> Done:
    """Send a test message now."""
    channel = await services.catalog.read(channels.get, caller.tenant_id, request.id, services.clock())
    settings = services.messenger.unseal(request.id, channel.sealed)
    text = (
        f"This is a test of the channel {channel.name}, sent by {caller.name}. Alerts will arrive like this."
    )
    await services.messenger.deliver(
        settings, "[VDR] Test", text, {"event": "test", "channel": channel.name, "text": text}
    )
    await _hurry(services, request.id)
    return Done()


async def list_deliveries(services: Services, caller: Caller, request: DeliveryList) -> DeliveryPage:
    """Messages, newest first."""
    items, cursor = await services.catalog.read(channels.list_deliveries, caller.tenant_id, request)
    return DeliveryPage(items=items, next_cursor=cursor)


HANDLERS = {
    "alert.list": list_alerts,
    "alert.counts": count_alerts,
    "alert.acknowledge": acknowledge,
    "alert.close": close,
    "channel.list": list_channels,
    "channel.create": create_channel,
    "channel.edit": edit_channel,
    "channel.delete": delete_channel,
    "channel.test": test_channel,
    "delivery.list": list_deliveries,
}
