"""What the browser process and its parent say to each other: one question, one answer, and reads in between.

Every message is a 4-byte little-endian length and so many bytes: msgpack of one of these, or the plain bytes
that
answer a `NeedBytes`. No side takes a longer one than `MESSAGE_BYTES_MAX`.
"""

import os
from collections.abc import Callable
from contextlib import suppress

import msgspec
from msgspec import Struct

from vdrd.disk.volumes.file_system import Node

MESSAGE_BYTES_MAX = 8 << 20
LIST_ENTRIES_MAX = 1000
READ_BYTES_MAX = 1 << 20
RUNS_MAX = 10_000
RUNS_SHOWN = 8
"""Runs that come with an entry; a file with more is asked for."""
ATTRIBUTES_BYTES_MAX = 1 << 18


class NeedBytes(Struct, frozen=True, tag="need", array_like=True):
    """From the process: bytes of the disk, please."""

    offset: int
    length: int


class VolumesAsk(Struct, frozen=True, tag="volumes", array_like=True):
    """Which volumes are there?"""


class FindAsk(Struct, frozen=True, tag="find", array_like=True):
    """What stands at a path of a volume? Symbolic links are not followed."""

    volume: int
    names: list[bytes]
    with_details: bool = False


class ListAsk(Struct, frozen=True, tag="list", array_like=True):
    """Entries of a directory by name, from the one after `after`."""

    volume: int
    ref: int
    after: bytes | None
    limit: int
    with_details: bool = False
    """With attributes and the first runs."""


class RunsAsk(Struct, frozen=True, tag="runs", array_like=True):
    """Where does a file's content stand, from an offset on?"""

    volume: int
    ref: int
    offset: int


class ReadAsk(Struct, frozen=True, tag="read", array_like=True):
    """Content of a file that stands nowhere as it is."""

    volume: int
    ref: int
    offset: int
    length: int


class VolumeShown(Struct, frozen=True, array_like=True):
    """A volume; `problem` says why its files cannot be shown."""

    name: str
    size_bytes: int
    holds: str
    label: str
    uuid: str
    problem: str
    is_unclean: bool
    has_owners: bool
    root_ref: int
    places: list[tuple[int, int]]
    """Where it stands on the disk as (offset, length); empty if it has no place or too many of them."""


class EntryShown(Struct, frozen=True, array_like=True):
    """An entry of a directory."""

    name: bytes
    node: Node
    target: bytes = b""
    attributes: list[tuple[bytes, bytes]] = []
    runs: list[tuple[int, int]] | None = None
    """(length, place on the disk) of a file with few; None: ask for them."""
    problem: str = ""
    """What of it could not be read; kind 0 if nothing could."""


class Volumes(Struct, frozen=True, tag="volumes-answer", array_like=True):
    """Answers VolumesAsk."""

    volumes: list[VolumeShown]


class Found(Struct, frozen=True, tag="found", array_like=True):
    """Answers FindAsk; None: nothing is there."""

    entry: EntryShown | None


class Listed(Struct, frozen=True, tag="listed", array_like=True):
    """Answers ListAsk."""

    entries: list[EntryShown]
    has_more: bool


class Runs(Struct, frozen=True, tag="runs-answer", array_like=True):
    """Answers RunsAsk: (length, place on the disk, HOLE or CODED), from the offset asked for; empty at the
    end."""

    runs: list[tuple[int, int]]


class Content(Struct, frozen=True, tag="content", array_like=True):
    """Answers ReadAsk."""

    data: bytes


class Fault(Struct, frozen=True, tag="fault", array_like=True):
    """Answers any question: it cannot be."""

    reason: str


Ask = VolumesAsk | FindAsk | ListAsk | RunsAsk | ReadAsk
Answer = NeedBytes | Volumes | Found | Listed | Runs | Content | Fault
encode = msgspec.msgpack.Encoder().encode
decode_ask = msgspec.msgpack.Decoder(Ask).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode


class TooLong(Exception):
    """A message longer than any may be."""


def _is_ready() -> None:
    """For descriptors that block by themselves."""


def send(fd: int, message: bytes | memoryview, wait: Callable[[], None] = _is_ready) -> None:
    """Write one message; `wait` comes before each part. Raises OSError when nobody reads it."""
    parts = [memoryview(len(message).to_bytes(4, "little")), memoryview(message)]
    while parts:
        wait()
        written = 0
        with suppress(BlockingIOError):
            written = os.writev(fd, parts)
        while parts and written >= len(parts[0]):
            written -= len(parts.pop(0))
        if parts:
            parts[0] = parts[0][written:]


def receive_exactly(fd: int, length: int, wait: Callable[[], None] = _is_ready) -> bytes:
    """So many bytes; `wait` comes before each part. Raises EOFError when the other side is gone."""
    parts = []
    while length:
        wait()
        part = os.read(fd, min(length, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def receive(fd: int, wait: Callable[[], None] = _is_ready) -> bytes:
    """One message. Raises EOFError, TooLong."""
    length = int.from_bytes(receive_exactly(fd, 4, wait), "little")
    if length > MESSAGE_BYTES_MAX:
        raise TooLong
    return receive_exactly(fd, length, wait)
