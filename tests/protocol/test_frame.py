"""Frames: whatever way the bytes come in, the same frames come out, and nothing is held beyond the bound."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdrd.model.errors import ProtocolViolation
from vdrd.protocol.frame import FrameReader, body_bytes_of, header_of

BOUND = 64
bodies = st.lists(st.binary(min_size=1, max_size=BOUND), max_size=8)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def frames_of(reader: FrameReader) -> list[bytes]:
    found = []
    while (body := reader.next_frame()) is not None:
        found.append(body)
    return found


@given(bodies, st.lists(st.integers(0, 10_000), max_size=12))
def test_frames_cut_anywhere_come_out_whole_and_in_order(wanted, places):
    reader = FrameReader(BOUND)
    found = []
    for part in cut(b"".join(header_of(len(body)) + body for body in wanted), places):
        reader.feed(part)
        found += frames_of(reader)
    assert found == wanted
    assert not reader.has_partial


@given(bodies, st.integers(1, BOUND + 3))
def test_stream_ending_inside_a_frame_is_seen_as_partial(whole, missing):
    last = header_of(BOUND) + bytes(BOUND)
    reader = FrameReader(BOUND)
    reader.feed(b"".join(header_of(len(body)) + body for body in whole) + last[:-missing])
    assert frames_of(reader) == whole
    assert reader.has_partial


@pytest.mark.parametrize("length", [0, BOUND + 1, 1 << 20, (1 << 32) - 1])
def test_length_outside_the_bound_is_refused_before_its_body(length):
    reader = FrameReader(BOUND, "peer-1")
    reader.feed(struct.pack("<I", length))
    with pytest.raises(ProtocolViolation, match="peer-1"):
        reader.next_frame()


@given(st.binary(max_size=300))
def test_garbage_gives_frames_within_the_bound_or_a_violation(data):
    reader = FrameReader(BOUND)
    reader.feed(data)
    try:
        found = frames_of(reader)
    except ProtocolViolation:
        return
    assert all(0 < len(body) <= BOUND for body in found)
    assert sum(4 + len(body) for body in found) <= len(data)


def test_length_at_the_bound_is_accepted():
    assert body_bytes_of(header_of(BOUND), BOUND, "p") == BOUND
