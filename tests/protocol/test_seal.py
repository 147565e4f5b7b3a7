"""Sealed records: both ends agree, and every change, replay, reorder, cut or turned direction is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdrd.model.errors import ProtocolViolation
from vdrd.protocol.seal import HEADER, RECORD_BYTES_MAX, ChannelSeal, choose, record_bytes

SECRET, TICKET = b"s" * 32, b"t" * 32
NAMES = ["aes-256-gcm", "sm4-gcm"]


def ends(name="aes-256-gcm", **options):
    return (
        ChannelSeal(name, SECRET, TICKET, is_agent=True, peer="node", **options),
        ChannelSeal(name, SECRET, TICKET, is_agent=False, peer="agent", **options),
    )


def seal(end: ChannelSeal, plain: bytes) -> bytearray:
    record = bytearray(record_bytes(len(plain)))
    end.seal_into(memoryview(plain), memoryview(record))
    return record


def unseal(end: ChannelSeal, record: bytes) -> bytes:
    header = bytes(record[: HEADER.size])
    out = bytearray(end.plain_bytes(header))
    end.unseal_into(header, memoryview(record)[HEADER.size :], memoryview(out))
    return bytes(out)


@pytest.mark.parametrize("name", NAMES)
def test_records_cross_in_both_directions(name):
    agent, node = ends(name)
    for plain in (b"x", b"second", bytes(100_000)):
        assert unseal(node, seal(agent, plain)) == plain
        assert unseal(agent, seal(node, plain)) == plain


def test_keys_are_replaced_after_their_share_on_both_ends():
    agent, node = ends(rekey_records=3)
    records = [seal(agent, b"same") for _ in range(10)]
    assert len({bytes(record) for record in records}) == 10
    assert [unseal(node, record) for record in records] == [b"same"] * 10


@settings(max_examples=60)
@given(st.binary(min_size=1, max_size=64), st.integers(0, 10_000), st.integers(0, 7))
def test_one_changed_bit_anywhere_is_refused(plain, place, bit):
    agent, node = ends()
    record = seal(agent, plain)
    record[place % len(record)] ^= 1 << bit
    with pytest.raises((ProtocolViolation, ValueError)):
        unseal(node, record)


@pytest.mark.parametrize(
    "what", ["replayed", "swapped", "dropped", "reflected", "other ticket", "other secret"]
)
def test_record_out_of_its_place_is_refused(what):
    agent, node = ends()
    first, second = seal(agent, b"first"), seal(agent, b"other")
    match what:
        case "replayed":
            unseal(node, first)
            wrong, end = first, node
        case "swapped" | "dropped":
            wrong, end = second, node
        case "reflected":
            wrong, end = first, agent
        case "other ticket":
            wrong, end = first, ChannelSeal("aes-256-gcm", SECRET, b"T" * 32, is_agent=False, peer="p")
        case _:
            wrong, end = first, ChannelSeal("aes-256-gcm", b"S" * 32, TICKET, is_agent=False, peer="p")
    with pytest.raises(ProtocolViolation, match="changed"):
        unseal(end, wrong)


@pytest.mark.parametrize("length", [0, RECORD_BYTES_MAX + 1, (1 << 32) - 1])
def test_record_length_outside_the_bounds_is_refused(length):
    with pytest.raises(ProtocolViolation):
        ends()[0].plain_bytes(HEADER.pack(length))


def test_seal_not_offered_or_without_secret_is_refused():
    for name, secret in (("rot13", SECRET), ("aes-256-gcm", b"short")):
        with pytest.raises(ProtocolViolation):
            ChannelSeal(name, secret, TICKET, is_agent=True, peer="p")


def test_choose_takes_the_first_accepted_that_was_offered():
    assert choose(["sm4-gcm", "aes-256-gcm"], ("aes-256-gcm", "sm4-gcm")) == "aes-256-gcm"
    assert choose(["sm4-gcm"], ("aes-256-gcm", "sm4-gcm")) == "sm4-gcm"
    assert choose([], ("aes-256-gcm",)) == choose(["new"], ("aes-256-gcm",)) == "tls"
