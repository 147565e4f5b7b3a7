"""The control link's core: two ends joined by bytes, and an end against garbage."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import link
from schemas.link import (
    CONTROL_BYTES_MAX,
    GREETING_BYTES_MAX,
    Abort,
    Chunks,
    Claim,
    Claimed,
    Commit,
    Committed,
    Enrol,
    Enrolled,
    Fault,
    Fetch,
    FilesRootRecord,
    Goodbye,
    Hello,
    Notify,
    Open,
    Opened,
    Ping,
    Pong,
    Put,
    PutDone,
    Refused,
    Reply,
    Request,
    Welcome,
    Withdraw,
    Working,
)
from vdrd.model.errors import MessageTooLarge, ProtocolViolation, VersionUnsupported
from vdrd.protocol.codec import frame_of, raw_of
from vdrd.protocol.connection import ControlConnection, Side
from vdrd.protocol.greeting import Versions, negotiate
from vdrd.protocol.states import CONTROL, DATA, ENROLMENT, GREETING, Machine, State, Way, turned


class Body(msgspec.Struct, tag="body", tag_field="t"):
    number: int = 0


BODY = raw_of(Body())
MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


def pair() -> tuple[ControlConnection, ControlConnection]:
    """A dialler and a listener after their greeting."""
    dialer, listener = ControlConnection(Side.DIALER, "listener"), ControlConnection(Side.LISTENER, "dialer")
    listener.feed(dialer.hello(Hello(1, 1, "control")))
    assert isinstance(listener.next_message(), Hello)
    dialer.feed(listener.welcome(Welcome(1)))
    assert isinstance(dialer.next_message(), Welcome)
    return dialer, listener


def sent(connection: ControlConnection, frame: bytes):
    connection.feed(frame)
    return connection.next_message()


def test_request_and_reply_cross_in_both_directions():
    dialer, listener = pair()
    for asker, answerer in ((dialer, listener), (listener, dialer)):
        number, frame = asker.request(BODY)
        request = sent(answerer, frame)
        assert (type(request), request.id, bytes(request.body)) == (Request, number, bytes(BODY))
        reply = sent(asker, answerer.reply(number, BODY))
        assert (type(reply), reply.id) == (Reply, number)


def test_reply_after_withdraw_is_swallowed():
    dialer, listener = pair()
    number, frame = dialer.request(BODY)
    sent(listener, frame)
    late = listener.reply(number, BODY)
    assert isinstance(sent(listener, dialer.withdraw(number)), Withdraw)
    assert dialer.withdraw(number) == b""
    assert sent(dialer, late) is None


def test_reply_given_twice_is_a_defect_of_ours():
    dialer, listener = pair()
    number, frame = dialer.request(BODY)
    sent(listener, frame)
    listener.reply(number, BODY)
    with pytest.raises(RuntimeError):
        listener.reply(number, BODY)


@pytest.mark.parametrize(
    "message",
    [Reply(7, BODY), Fault(7, "c", "m"), Pong(3), Hello(1, 1, "control"), Welcome(1), Refused("c", "m")],
    ids=lambda message: type(message).__name__,
)
def test_message_nobody_asked_for_is_a_violation(message):
    dialer, _ = pair()
    with pytest.raises(ProtocolViolation):
        sent(dialer, frame_of(message))


def test_request_number_used_twice_is_a_violation():
    _, listener = pair()
    sent(listener, frame_of(Request(5, BODY)))
    for number in (5, 4):
        with pytest.raises(ProtocolViolation, match="used twice"):
            sent(listener, frame_of(Request(number, BODY)))


def test_answers_still_cross_after_goodbye_but_nothing_new():
    dialer, listener = pair()
    number, frame = dialer.request(BODY)
    sent(listener, frame)
    assert isinstance(sent(dialer, listener.goodbye("done")), Goodbye)
    assert listener.state is State.CLOSING
    assert dialer.state is State.CLOSED
    assert isinstance(listener.fault(Fault(number, "c", "m")), bytes)
    assert dialer.pong(Ping(1)) == b""
    with pytest.raises(RuntimeError):
        listener.notify(BODY)


def test_frame_too_large_is_refused_by_its_sender_and_changes_nothing():
    dialer, listener = pair()
    with pytest.raises(MessageTooLarge):
        dialer.notify(raw_of("x" * CONTROL_BYTES_MAX))
    number, frame = dialer.request(BODY)
    assert sent(listener, frame).id == number == 1


def test_greeting_larger_than_its_bound_is_a_violation():
    listener = ControlConnection(Side.LISTENER, "dialer")
    with pytest.raises(ProtocolViolation, match="at most 16384"):
        sent(listener, (GREETING_BYTES_MAX + 1).to_bytes(4, "little"))


def test_stream_cut_in_a_frame_is_a_violation_at_its_end_only():
    dialer, listener = pair()
    listener.end()
    listener.feed(dialer.ping()[:-1])
    with pytest.raises(ProtocolViolation, match="cut"):
        listener.end()


@pytest.mark.parametrize(
    ("peer", "own", "chosen"),
    [((1, 1), (1, 1), 1), ((1, 5), (1, 3), 3), ((2, 4), (1, 9), 4), ((3, 3), (1, 2), None),
     ((1, 1), (2, 3), None), ((5, 4), (1, 9), None)],
    ids=["same", "older-listener", "older-dialler", "dialler-too-new", "dialler-too-old", "upside-down"],
)  # fmt: skip
def test_negotiate_versions_gives_the_newest_common_one(peer, own, chosen):
    if chosen is None:
        with pytest.raises(VersionUnsupported):
            negotiate(Hello(*peer, "control"), Versions(*own))
    else:
        assert negotiate(Hello(*peer, "control"), Versions(*own)) == chosen


def test_welcome_with_a_version_not_offered_is_a_violation():
    dialer = ControlConnection(Side.DIALER, "listener")
    dialer.hello(Hello(1, 1, "control"))
    with pytest.raises(ProtocolViolation, match="not offered"):
        sent(dialer, frame_of(Welcome(2)))


def test_hello_with_unknown_purpose_is_a_violation():
    with pytest.raises(ProtocolViolation, match="purpose"):
        sent(ControlConnection(Side.LISTENER, "p"), frame_of(Hello(1, 1, "mischief")))


def test_field_of_a_newer_peer_is_ignored():
    newer = msgspec.msgpack.encode(
        {"t": "hello", "version_min": 1, "version_max": 9, "purpose": "control", "colour": "blue"}
    )
    listener = ControlConnection(Side.LISTENER, "p")
    hello = sent(listener, len(newer).to_bytes(4, "little") + newer)
    assert negotiate(hello, Versions()) == 1


@settings(max_examples=300)
@given(st.binary(max_size=200), st.booleans())
def test_garbage_is_a_violation_or_nothing(data, framed):
    _, listener = pair()
    listener.feed(len(data).to_bytes(4, "little") + data if framed else data)
    try:
        while (message := listener.next_message()) is not None:
            assert isinstance(message, link.Message)
    except ProtocolViolation:
        return


EMPTY = memoryview(b"")
EXAMPLES = [
    Hello(1, 1, "data"), Welcome(1), Refused("c", "m"), Enrol(b"", ""), Enrolled("", "", ""),
    Request(1, BODY), Reply(1, BODY), Fault(1, "c", "m"), Withdraw(1), Notify(BODY), Ping(1), Pong(1),
    Goodbye(), Open(b""),
    Opened("", "tls"), Claim(b""), Claimed(b""), Put(b"", b"", EMPTY), PutDone(1), Fetch(b""),
    Chunks(False, b"", EMPTY), Commit("", "full", FilesRootRecord(None, 0, 0), "", "", 0, 0, 0, MOMENT),
    Committed("", MOMENT), Working(), Abort(),
]  # fmt: skip
tags = sorted(message.__struct_config__.tag for family in link.FAMILIES.values() for message in family)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.text(max_size=5)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    [
        "id",
        "body",
        "number",
        "code",
        "message",
        "fields",
        "reason",
        "ids",
        "table",
        "payload",
        "wanted",
        "root",
    ]
)


@settings(max_examples=300)
@given(st.sampled_from(tags), st.dictionaries(names, values, max_size=5))
def test_message_with_any_fields_is_a_violation_or_well_typed(tag, fields):
    body = msgspec.msgpack.encode({"t": tag, **fields})
    _, listener = pair()
    listener.feed(len(body).to_bytes(4, "little") + body)
    try:
        message = listener.next_message()
    except ProtocolViolation:
        return
    assert message is None or isinstance(message, Request | Notify | Ping | Withdraw | Goodbye)


@pytest.mark.parametrize(
    "table", [GREETING, ENROLMENT, CONTROL, DATA], ids=["greeting", "enrolment", "control", "data"]
)
def test_table_turned_twice_is_itself_and_every_state_is_reached(table):
    assert turned(turned(table)) == table
    reached = {State.START, State.READY}
    for rows in table.values():
        reached |= set(rows.values())
    assert set(table) <= reached


@pytest.mark.parametrize(
    "table", [GREETING, ENROLMENT, CONTROL, DATA], ids=["greeting", "enrolment", "control", "data"]
)
def test_machine_takes_exactly_what_the_table_says(table):
    assert {type(one) for one in EXAMPLES} == {one for family in link.FAMILIES.values() for one in family}
    for state in State:
        for instance in EXAMPLES:
            message = type(instance)
            for way in Way:
                machine = Machine(table, state, "p")
                target = table.get(state, {}).get((way, message))
                step = machine.sent if way is Way.OUT else machine.received
                if target is None:
                    with pytest.raises(RuntimeError if way is Way.OUT else ProtocolViolation):
                        step(instance)
                    assert machine.state is state
                else:
                    step(instance)
                    assert machine.state is target
