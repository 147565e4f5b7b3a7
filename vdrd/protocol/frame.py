"""Frames:

u32 little-endian length, then that many bytes of one msgpack message. Knows lengths, not messages.
"""

import struct
from typing import Final

from vdrd.model.errors import ProtocolViolation

HEADER: Final = struct.Struct("<I")


def header_of(body_bytes: int) -> bytes:
    """The four bytes before a body of this length."""
    return HEADER.pack(body_bytes)


def body_bytes_of(header: bytes | bytearray | memoryview, bytes_max: int, peer: str) -> int:
    """Length announced by `header`. Raises ProtocolViolation before anything of that length is allocated."""
    length: int = HEADER.unpack(header)[0]
    if length == 0:
        raise ProtocolViolation(peer=peer, reason="empty frame")
    if length > bytes_max:
        raise ProtocolViolation(peer=peer, reason=f"frame of {length} bytes, at most {bytes_max} allowed")
    return length


class FrameReader:
    """Cuts a byte stream into frames.

    Holds at most one frame that is not complete, plus what was fed last.
    """

    def __init__(self, bytes_max: int, peer: str = "?") -> None:
        self.bytes_max = bytes_max
        """May be raised between frames, when the greeting is over."""
        self.peer = peer
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> None:
        """Add bytes that arrived."""
        self._buffer += data

    def next_frame(self) -> bytes | None:
        """The next whole body, None when more bytes are needed. Raises ProtocolViolation."""
        if len(self._buffer) < HEADER.size:
            return None
        length = body_bytes_of(self._buffer[: HEADER.size], self.bytes_max, self.peer)
        end = HEADER.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(memoryview(self._buffer)[HEADER.size : end])
        del self._buffer[:end]
        return body

    @property
    def has_partial(self) -> bool:
        """True in the middle of a frame: an end of stream now is a cut, not a close."""
        return bool(self._buffer)
