"""Enrolment over a real listener: the host sends nothing before the server is proven, a token works once."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import trio

from vdrd.model.errors import (
    CertificateRefused,
    ClockWrong,
    TokenRefused,
    TokenUnreadable,
    Unreachable,
    VdrError,
)
from vdrd.net import ca
from vdrd.net.address import Address
from vdrd.net.ca import Authority
from vdrd.net.credentials import Credentials, self_issue
from vdrd.net.dial import dial
from vdrd.net.enrol import EnrolDesk, Renewal, enrol
from vdrd.net.identity import Expected, Role
from vdrd.net.link import DeafHandler
from vdrd.net.tls13 import Tls13Profile
from vdrd.net.token import Token, TokenBook
from vdrd.server.reception import check_facts


class Clock:
    def __init__(self):
        self.ahead = timedelta()

    def __call__(self):
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def book(tmp_path, clock):
    return TokenBook(tmp_path / "tokens.json", clock)


@pytest.fixture
def desk(world, book):
    return EnrolDesk(world.authority, book, (Address("127.0.0.1", 1),))


@pytest.fixture
async def served(world, desk):
    """The address of a server that enrols."""
    async with world.listening(world.profile(Role.SERVER), enrol=desk) as (_, address):
        desk.servers = (address,)
        yield address


def untouched(directory) -> bool:
    return not directory.exists() or list(directory.iterdir()) == []


async def test_enrol_gives_credentials_that_open_a_link(world, desk, served, tmp_path):
    seen = []

    async def register(admission):
        seen.append(admission)

    desk._register = register
    token, record = desk.give_token(label="web-1")
    directory = tmp_path / "host"
    answer = await enrol(Token.parse(token.text()), directory, host="web", facts={"mode": "active"})
    credentials = Credentials(directory)
    identity = credentials.identity()
    assert (identity.role, identity.ident) == (Role.AGENT, answer.identity)
    assert answer.servers == [str(served)]
    assert (seen[0].host, seen[0].facts, seen[0].token.label) == ("web", {"mode": "active"}, "web-1")
    assert seen[0].token.token_id == record.token_id
    profile = Tls13Profile(credentials)
    async with dial(served, profile, expected=world.expected, handler=DeafHandler()) as link:
        assert (await link.request(world.Echo("in"), world.Echo)).text == "IN"


async def test_token_used_twice_is_refused_and_the_second_host_gets_nothing(desk, served, tmp_path, caplog):
    token, _ = desk.give_token()
    await enrol(token, tmp_path / "first", host="a")
    with pytest.raises(TokenRefused, match="it was used at") as caught:
        await enrol(token, tmp_path / "second", host="b")
    assert "make a new token" in caught.value.message
    assert untouched(tmp_path / "second")
    assert "connection refused" in caplog.text


async def test_bad_address_of_a_passive_host_does_not_cost_its_token(desk, served, tmp_path):
    desk._check = check_facts
    token, _ = desk.give_token()
    facts = {"mode": "passive", "address": "web:not-a-port"}
    with pytest.raises(VdrError, match="is no address"):
        await enrol(token, tmp_path / "host", host="web", facts=facts)
    assert untouched(tmp_path / "host")
    await enrol(token, tmp_path / "host", host="web", facts=facts | {"address": "web:4512"})


async def test_token_used_by_two_at_the_same_moment_lets_one_in(desk, served, tmp_path):
    token, _ = desk.give_token()
    outcomes = []

    async def one(number):
        try:
            await enrol(token, tmp_path / str(number), host="x")
            outcomes.append("in")
        except TokenRefused:
            outcomes.append("refused")

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(one, number)
    assert sorted(outcomes) == ["in", "refused", "refused", "refused"]


async def test_token_expired_withdrawn_or_guessed_is_refused(desk, served, book, clock, tmp_path):
    expired, _ = desk.give_token()
    withdrawn, record = desk.give_token()
    assert book.withdraw(record.token_id)
    good, _ = desk.give_token()
    guessed = Token(good.addresses, good.fingerprint, good.credential[:16] + b"?" * 32)
    clock.ahead = timedelta(days=2)
    for token, reason in (
        (expired, "it expired at"),
        (withdrawn, "does not know"),
        (guessed, "does not know"),
    ):
        with pytest.raises(TokenRefused, match=reason):
            await enrol(token, tmp_path / "host", host="x")
    assert untouched(tmp_path / "host")


async def test_server_of_another_authority_is_refused_before_anything_is_sent(desk, served, tmp_path, book):
    token, _ = desk.give_token()
    other = Authority.create(tmp_path / "other-ca")
    misled = Token(token.addresses, other.fingerprint, token.credential)
    with pytest.raises(CertificateRefused, match="not the one the token names"):
        await enrol(misled, tmp_path / "host", host="x")
    assert untouched(tmp_path / "host")
    assert book.records()[0].used_at is None


async def test_server_showing_a_foreign_authority_certificate_is_refused(world, desk, tmp_path, book):
    """Somebody in between hands out the right authority, but cannot have a certificate of it."""
    imposter_ca = Authority.create(tmp_path / "imposter-ca")
    imposter = Tls13Profile(self_issue(imposter_ca, tmp_path / "imposter", Role.SERVER, str(uuid4())))
    async with world.listening(imposter, enrol=desk) as (_, address):
        desk.servers = (address,)
        token, _ = desk.give_token()
        with pytest.raises(CertificateRefused, match="did not sign it"):
            await enrol(token, tmp_path / "host", host="x")
    assert book.records()[0].used_at is None


async def test_agent_in_place_of_the_server_is_refused(world, desk, tmp_path, book):
    async with world.listening(world.profile(Role.AGENT), enrol=desk) as (_, address):
        desk.servers = (address,)
        token, _ = desk.give_token()
        with pytest.raises(CertificateRefused, match="not a server"):
            await enrol(token, tmp_path / "host", host="x")
    assert book.records()[0].used_at is None


@pytest.mark.parametrize(("days", "word"), [(365, "ahead of"), (-365, "behind")])
async def test_clock_off_by_a_year_is_named_before_anything_is_sent(desk, served, tmp_path, book, days, word):
    token, _ = desk.give_token()
    wrong = (datetime.now(UTC) + timedelta(days=days)).timestamp()
    with pytest.raises(ClockWrong) as caught:
        await enrol(token, tmp_path / "host", host="x", wall_seconds=lambda: wrong)
    assert f"365 days {word} the server's" in caught.value.message
    assert "set the clocks" in caught.value.message
    assert book.records()[0].used_at is None
    await enrol(token, tmp_path / "host", host="x")


async def test_nobody_at_the_address_raises_and_the_next_address_is_tried(desk, served, tmp_path):
    token, _ = desk.give_token()
    nowhere = Address("127.0.0.1", 9)
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        await enrol(Token((nowhere,), token.fingerprint, token.credential), tmp_path / "host", host="x")
    both = Token((nowhere, served), token.fingerprint, token.credential)
    await enrol(both, tmp_path / "host", host="x")


async def test_registration_failing_tells_the_host(desk, served, tmp_path):
    async def register(admission):
        raise TokenRefused(reason="the licence is full")

    desk._register = register
    token, _ = desk.give_token()
    with pytest.raises(TokenRefused, match="licence"):
        await enrol(token, tmp_path / "host", host="x")
    assert untouched(tmp_path / "host")


def test_token_text_survives_line_breaks_and_hides_its_secret(desk):
    token, _ = desk.give_token()
    text = token.text()
    assert text.startswith("vdr1.")
    broken = f"  {text[:40]}\n  {text[40:]}\n"
    assert Token.parse(broken) == token
    assert token.credential[16:].hex() not in repr(token)
    assert repr(token.credential[16:]) not in repr(token)


@pytest.mark.parametrize(
    "spoil",
    [lambda text: "", lambda text: "hello", lambda text: text[:-1], lambda text: text[:20] + text[21:],
     lambda text: text + "A", lambda text: text.replace("vdr1.", "vdr2."), lambda text: text[:-2] + "!!"],
    ids=["empty", "another word", "end cut", "middle cut", "longer", "other version", "odd characters"],
)  # fmt: skip
def test_token_spoilt_is_refused_as_unreadable(desk, spoil):
    token, _ = desk.give_token()
    with pytest.raises(TokenUnreadable) as caught:
        Token.parse(spoil(token.text()))
    assert "copy the whole token" in caught.value.message


def test_book_keeps_no_secret_and_forgets_old_tokens(book, desk, clock, tmp_path):
    token, record = desk.give_token()
    assert token.credential[16:] not in (tmp_path / "tokens.json").read_bytes()
    assert token.credential[16:].hex().encode() not in (tmp_path / "tokens.json").read_bytes()
    assert [kept.token_id for kept in TokenBook(tmp_path / "tokens.json").records()] == [record.token_id]
    clock.ahead = timedelta(days=32)
    assert book.records() == []


async def test_renewal_replaces_the_identity_and_keeps_who_we_are(world):
    credentials = world.credentials(Role.AGENT)
    old = credentials.identity()
    renewal = Renewal.begin()
    new = renewal.finish(credentials, world.authority.renew(renewal.request_pem, old).certificate_pem)
    assert (new.role, new.ident) == (old.role, old.ident)
    assert credentials.identity() == new
    async with world.listening() as (_, address):
        profile = Tls13Profile(credentials)
        async with dial(address, profile, expected=Expected(Role.SERVER), handler=DeafHandler()) as link:
            assert link.is_open


@pytest.mark.parametrize("what", ["other authority", "other identity", "other key", "no pem"])
def test_renewal_with_a_wrong_certificate_keeps_the_old_identity(world, tmp_path, what):
    credentials = world.credentials(Role.AGENT)
    before = credentials.identity_path.read_bytes()
    ident = credentials.identity().ident
    renewal = Renewal.begin()
    request = renewal.request_pem
    certificate = {
        "other authority": lambda: (
            Authority.create(tmp_path / "o").issue(request, Role.AGENT, ident).certificate_pem
        ),
        "other identity": lambda: world.authority.issue(request, Role.SERVER, ident).certificate_pem,
        "other key": lambda: (
            world.authority.issue(ca.new_request(ca.new_key()), Role.AGENT, ident).certificate_pem
        ),
        "no pem": lambda: "hello",
    }[what]()
    with pytest.raises(CertificateRefused):
        renewal.finish(credentials, certificate)
    assert credentials.identity_path.read_bytes() == before
