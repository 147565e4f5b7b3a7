"""What people do on the pages of alerts and channels."""

import pytest

from schemas import api
from tests.console.conftest import World
from vdrd.model.errors import NotAuthorised


def test_ticked_alerts_are_acknowledged_and_the_bell_counts_the_rest(inside: World) -> None:
    alert = next(alert for alert in inside.server.alerts.values() if alert.state is api.AlertState.OPEN)
    assert 'class="bell bad"' in inside.text("/alerts")
    answer = inside.post("/alerts/acknowledge", {"id": alert.id, "back": "/alerts?state=open"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/alerts?state=open")
    assert inside.server.alerts[alert.id].state is api.AlertState.ACKNOWLEDGED
    assert 'class="bell"' in inside.text("/alerts")


def test_ticked_alerts_are_closed(inside: World) -> None:
    ids = [alert.id for alert in inside.server.alerts.values() if alert.state is not api.AlertState.CLOSED]
    inside.post("/alerts/close", {"id": ids})
    assert {alert.state for alert in inside.server.alerts.values()} == {api.AlertState.CLOSED}
    assert "vault-2" not in inside.text("/alerts")
    assert "vault-2" in inside.text("/alerts?state=closed")


def test_nothing_ticked_changes_nothing(inside: World) -> None:
    before = dict(inside.server.alerts)
    assert inside.post("/alerts/close", {}).status_code == 303
    assert inside.server.alerts == before


@pytest.mark.parametrize("address", ["//evil.example", "https://evil.example"])
def test_way_back_never_leaves_the_site(inside: World, address: str) -> None:
    assert inside.post("/alerts/close", {"back": address}).headers["Location"] == "/alerts"


def test_alerts_are_handled_only_with_the_right(world: World) -> None:
    world.log_in("operator")
    assert "/alerts/close" not in world.text("/alerts")
    alert = next(iter(world.server.alerts))
    assert world.post("/alerts/close", {"id": alert}).status_code == 403


MAIL = {
    "kind": "mail",
    "name": "night shift",
    "host": "smtp.example.com",
    "port": "465",
    "security": "tls",
    "user_name": "vdr",
    "password": "pässword",
    "sender": "vdr@example.com",
    "recipients": "a@example.com, b@example.com",
    "least_level": "critical",
}


def test_mail_channel_is_made_from_the_form(inside: World) -> None:
    assert inside.post("/channels/new", MAIL).status_code == 303
    _, request = inside.server.calls[-1]
    assert request == api.ChannelCreate(
        name="night shift",
        settings=api.MailSettings(
            host="smtp.example.com",
            port=465,
            security="tls",
            user_name="vdr",
            password="pässword",
            sender="vdr@example.com",
            recipients=["a@example.com", "b@example.com"],
        ),
        least_level=api.AlertLevel.CRITICAL,
    )
    assert "night shift" in inside.text("/channels")


@pytest.mark.parametrize(
    "wrong", [{"port": "many"}, {"recipients": ""}, {"sender": "nobody"}, {"host": "a b"}], ids=str
)
def test_mail_channel_that_cannot_work_is_not_made_and_keeps_what_was_typed(
    inside: World, wrong: dict[str, str]
) -> None:
    answer = inside.post("/channels/new", MAIL | wrong)
    assert answer.status_code == 422
    text = inside.body(answer)
    assert 'value="night shift"' in text
    assert "pässword" not in text
    assert "night shift" not in [channel.name for channel in inside.server.channels.values()]


def test_secret_left_empty_is_not_sent_with_a_change(inside: World) -> None:
    channel = next(c for c in inside.server.channels.values() if c.name == "pager")
    inside.post(f"/channels/{channel.id}", {"name": "pager 2", "url": "https://pager.example.com/in"})
    _, request = inside.server.calls[-1]
    assert isinstance(request, api.ChannelEdit)
    assert request.settings == api.WebhookSettings(url="https://pager.example.com/in")
    assert (request.name, request.is_enabled) == ("pager 2", False)


def test_test_message_is_sent(inside: World) -> None:
    channel = next(c for c in inside.server.channels.values() if c.name == "operators")
    assert inside.post(f"/channels/{channel.id}/test", {}).headers["Location"] == "/channels"
    assert inside.server.tested == ["operators"]


def test_channel_is_deleted_only_by_its_name(inside: World) -> None:
    channel = next(iter(inside.server.channels.values()))
    assert inside.post(f"/channels/{channel.id}/delete", {"typed": "other"}).status_code == 409
    assert channel.id in inside.server.channels
    inside.post(f"/channels/{channel.id}/delete", {"typed": channel.name})
    assert channel.id not in inside.server.channels


def test_page_is_shown_although_alerts_cannot_be_counted(inside: World) -> None:
    inside.server.refusals["alert.counts"] = NotAuthorised(reason="change the password you were given first")
    assert 'id="bell"' not in inside.text("/account")
