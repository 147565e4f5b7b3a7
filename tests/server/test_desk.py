import pytest
import trio

from schemas import api
from vdrd.model.errors import (
    BadArgument,
    Conflict,
    LockedOut,
    LoginFailed,
    NotAuthorised,
    NotFound,
    SessionEnded,
)
from vdrd.server.calls import HANDLERS
from vdrd.server.roles import ROLES, permissions_of

from .conftest import Client, FakeWallClock


def test_every_call_but_login_has_a_handler() -> None:
    assert set(HANDLERS) == set(api.CALLS) - {"session.login"}


async def test_login_with_the_right_password_opens_a_session(client: Client) -> None:
    await client.login()
    who = await client.ask("session.who_am_i", api.WhoAmI())
    assert (who.user_name, who.roles) == ("admin", ["super-administrator"])
    assert set(who.permissions) == set(api.Permission)


@pytest.mark.parametrize("token", ["", "x", "A" * 43], ids=["none", "short", "unknown"])
async def test_call_without_a_session_is_refused(client: Client, token: str) -> None:
    with pytest.raises(SessionEnded):
        await client.ask("system.status", api.SystemStatus(), token=token)


async def test_logout_ends_the_session(client: Client) -> None:
    await client.login()
    await client.ask("session.logout", api.Logout())
    with pytest.raises(SessionEnded):
        await client.ask("session.who_am_i", api.WhoAmI())


@pytest.mark.parametrize("hours", [8, 24 * 8], ids=["idle", "too-old"])
async def test_session_after_its_time_is_refused(
    client: Client, wall_clock: FakeWallClock, hours: int
) -> None:
    await client.login()
    wall_clock.added_ms += hours * 3_600_000
    with pytest.raises(SessionEnded):
        await client.ask("session.who_am_i", api.WhoAmI())


async def test_wrong_passwords_lock_the_user_out_for_a_while(
    client: Client, wall_clock: FakeWallClock
) -> None:
    for number in range(5):
        with pytest.raises(LoginFailed):
            await client.login(password="wrong", address=f"192.0.2.{number}")
    with pytest.raises(LockedOut):
        await client.login(address="192.0.2.99")
    wall_clock.added_ms += 16 * 60_000
    await client.login()


async def test_wrong_passwords_from_one_address_lock_the_address_out(client: Client) -> None:
    for number in range(8):
        with pytest.raises(LoginFailed):
            await client.login(user=f"nobody{number}", password="wrong")
    with pytest.raises(LockedOut):
        await client.login()
    await client.login(address="192.0.2.200")


async def test_guesses_sent_all_at_once_are_locked_out_as_well(client: Client) -> None:
    outcomes: list[str] = []

    async def guess(number: int) -> None:
        try:
            await client.login(password="wrong", address=f"192.0.2.{number}")
        except (LockedOut, LoginFailed) as error:
            outcomes.append(error.code)

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(guess, number)
    assert sorted(outcomes) == ["locked-out"] * 35 + ["login-failed"] * 5
    with pytest.raises(LockedOut):
        await client.login(address="192.0.2.99")


async def test_many_pages_that_wait_for_news_do_not_shut_out_the_rest(client: Client) -> None:
    await client.login()
    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(client.ask, "events.poll", api.EventsPoll(wait_seconds=20))
        with trio.fail_after(60):
            await client.ask("system.status", api.SystemStatus())
        nursery.cancel_scope.cancel()


async def make_user(client: Client, name: str, roles: list[str]) -> str:
    await client.login()
    request = api.UserCreate(name=name, password="first password", roles=roles)
    user = await client.ask("user.create", request)
    await client.login(name, "first password")
    change = api.PasswordChange(old_password="first password", new_password="second password")
    await client.ask("session.change_password", change)
    return str(user.id)


async def test_wrong_old_passwords_count_as_failed_log_ins(client: Client, wall_clock: FakeWallClock) -> None:
    """Whoever found an open session must not guess the password there."""
    await make_user(client, "eve", ["operator"])
    guess = api.PasswordChange(old_password="wrong", new_password="third password")
    for _ in range(5):
        with pytest.raises(LoginFailed):
            await client.ask("session.change_password", guess)
    right = api.PasswordChange(old_password="second password", new_password="third password")
    with pytest.raises(LockedOut):
        await client.ask("session.change_password", right)
    with pytest.raises(LockedOut):
        await client.login("eve", "second password")
    wall_clock.added_ms += 901_000
    await client.login("eve", "second password")
    await client.ask("session.change_password", right)
    await client.login("eve", "third password")


async def test_user_with_a_given_password_may_only_change_it(client: Client) -> None:
    await client.login()
    request = api.UserCreate(name="eve", password="first password", roles=["operator"])
    await client.ask("user.create", request)
    await client.login("eve", "first password")
    with pytest.raises(NotAuthorised, match="change the password"):
        await client.ask("job.list", api.JobList())


_SAMPLES: dict[str, api.Message] = {
    "host.rename": api.HostRename(id="x", name="x"),
    "host.add_passive": api.HostAddPassive(name="x", address="192.0.2.1"),
    "node.drain": api.NodeDrain(id="x", is_draining=True),
    "storage.create": api.StorageCreate(name="x", path="/x", node_id="x"),
    "job.create": api.JobCreate(
        name="x", kind=api.ObjectKind.FILES, sources=[api.JobSource(host_id="x", paths=["/"])]
    ),
    "job.clone": api.JobClone(id="x", name="x"),
    "point.read": api.PointRead(id="x", path="/x"),
    "point.forget": api.PointForget(ids=["x"]),
    "restore.start": api.RestoreStart(point_id="x"),
    "export.start": api.ExportStart(point_id="x"),
    "alert.acknowledge": api.AlertAcknowledge(ids=["x"]),
    "alert.close": api.AlertClose(ids=["x"]),
    "channel.create": api.ChannelCreate(name="x", settings=api.WebhookSettings(url="http://192.0.2.1/")),
    "metadata.read": api.MetadataRead(name="x"),
    "user.create": api.UserCreate(name="x", password="x" * 10, roles=["nonsense"]),
    "session.change_password": api.PasswordChange(old_password="x", new_password="x" * 10),
    "events.poll": api.EventsPoll(wait_seconds=0),
}


def sample(name: str) -> api.Message:
    if name in _SAMPLES:
        return _SAMPLES[name]
    request = api.CALLS[name].request
    return request(id="x") if issubclass(request, api.ById) else request()


@pytest.mark.parametrize("roles", [[role] for role in ROLES] + [[]], ids=[*ROLES, "no-role"])
async def test_each_call_is_allowed_exactly_as_the_table_of_rights_says(
    client: Client, roles: list[str]
) -> None:
    await make_user(client, "eve", roles)
    rights = permissions_of(roles)
    for name, call in api.CALLS.items():
        if call.is_open or name == "session.logout":
            continue
        allowed = call.permission is None or call.permission in rights
        try:
            await client.ask(name, sample(name))
            refused = False
        except NotAuthorised as error:
            refused = "lacks the right" in str(error)
        except (NotFound, BadArgument, Conflict):
            refused = False
        assert refused != allowed, f"{name} for {roles}"


async def test_arguments_that_do_not_fit_name_the_field(client: Client) -> None:
    await client.login()
    with pytest.raises(BadArgument, match="name"):
        await client.ask("user.create", api.UserCreate(name="no spaces", password="x" * 10))
    with pytest.raises(NotFound):
        await client.link.request(
            api.Call(name="no.such", arguments=api_raw(), session_token=client.token), api.CallReply
        )


def api_raw() -> object:
    import msgspec

    return msgspec.Raw(msgspec.msgpack.encode({}))


async def test_last_super_administrator_cannot_be_taken_away(client: Client) -> None:
    await client.login()
    me = (await client.ask("session.who_am_i", api.WhoAmI())).user_id
    for request in (api.UserEdit(id=me, roles=[]), api.UserEdit(id=me, is_enabled=False)):
        with pytest.raises(Conflict, match="nobody would be left"):
            await client.ask("user.edit", request)
    assert (await client.ask("session.who_am_i", api.WhoAmI())).roles == ["super-administrator"]


async def test_changes_and_refusals_are_in_the_audit_log_without_secrets(client: Client) -> None:
    await make_user(client, "eve", ["auditor"])
    with pytest.raises(NotAuthorised):
        await client.ask("user.delete", api.UserDelete(id="someone"))
    page = await client.ask("audit.list", api.AuditList())
    newest = page.items[0]
    assert (newest.user_name, newest.action, newest.state, newest.address) == (
        "eve",
        "user.delete",
        "refused",
        "192.0.2.1",
    )
    assert [entry.action for entry in page.items if entry.state == "ok"] == [
        "session.change_password",
        "session.login",
        "user.create",
        "session.login",
    ]
    text = repr(page)
    assert "first password" not in text
    assert client.password not in text


async def test_events_tell_of_changes_and_of_a_reader_left_behind(client: Client) -> None:
    await client.login()
    start = await client.ask("events.poll", api.EventsPoll(wait_seconds=0))
    await client.ask("user.create", api.UserCreate(name="eve", password="x" * 10))
    news = await client.ask("events.poll", api.EventsPoll(after_sequence=start.next_sequence, wait_seconds=5))
    assert [event.topic for event in news.items] == ["user"]
    assert not news.has_missed
    old = await client.ask("events.poll", api.EventsPoll(after_sequence=5, wait_seconds=5))
    assert old.has_missed
