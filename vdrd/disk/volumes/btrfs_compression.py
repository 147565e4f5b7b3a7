"""Compressed extents of btrfs: zlib, LZO and zstd, never more than was announced."""

import zlib

import zstandard

from vdrd.disk.volumes.ranges import Unreadable

_NONE, _ZLIB, _LZO, _ZSTD = 0, 1, 2, 3


def decompressed(kind: int, raw: bytes, plain_bytes: int, sector_bytes: int) -> bytes:
    """At most `plain_bytes` of what `raw` holds. Raises Unreadable."""
    if kind == _NONE:
        return raw[:plain_bytes]
    try:
        if kind == _ZLIB:
            return zlib.decompressobj().decompress(raw, plain_bytes)
        if kind == _ZSTD:
            with zstandard.ZstdDecompressor().stream_reader(raw) as reader:
                return bytes(reader.read(plain_bytes))
        if kind == _LZO:
            return _lzo_segments(raw, plain_bytes, sector_bytes)
    except (zlib.error, zstandard.ZstdError, IndexError) as error:
        raise Unreadable("a compressed run is damaged") from error
    raise Unreadable(f"a compression that is not known here ({kind})")


def _lzo_segments(raw: bytes, plain_bytes: int, sector_bytes: int) -> bytes:
    """Segments of at most a sector each; a header never crosses the end of one."""
    total = int.from_bytes(raw[:4], "little")
    out = bytearray()
    at = 4
    while at < min(total, len(raw)) and len(out) < plain_bytes:
        if sector_bytes - at % sector_bytes < 4:
            at += sector_bytes - at % sector_bytes
        length = int.from_bytes(raw[at : at + 4], "little")
        at += 4
        out += lzo_decompressed(raw[at : at + length], sector_bytes)
        at += length
    return bytes(out[:plain_bytes])


def lzo_decompressed(data: bytes, plain_bytes_max: int) -> bytes:  # noqa: PLR0915 (one state machine)
    """LZO1X as lib/lzo of Linux reads it (Documentation/staging/lzo.rst). Raises Unreadable, IndexError."""
    out = bytearray()
    at = 0
    state = 0

    def long_length(base: int) -> int:
        nonlocal at
        length = base
        while data[at] == 0:
            length += 255
            at += 1
            if length > plain_bytes_max + 512:
                raise Unreadable("a compressed run is damaged")
        length += data[at]
        at += 1
        return length

    def literals(count: int) -> None:
        nonlocal at
        if at + count > len(data) or len(out) + count > plain_bytes_max:
            raise Unreadable("a compressed run is damaged")
        out.extend(data[at : at + count])
        at += count

    def match(distance: int, length: int) -> None:
        begin = len(out) - distance
        if begin < 0 or len(out) + length > plain_bytes_max:
            raise Unreadable("a compressed run is damaged")
        if distance >= length:
            out.extend(out[begin : begin + length])
        else:
            piece = bytes(out[begin:])
            out.extend((piece * (length // distance + 1))[:length])

    if data[0] > 17:
        count = data[0] - 17
        at = 1
        literals(count)
        state = 4 if count >= 4 else count
    while True:
        code = data[at]
        at += 1
        if code < 16:
            if state == 0:
                literals((long_length(15) if code == 0 else code) + 3)
                state = 4
                continue
            after = code & 3
            second = data[at]
            at += 1
            if state < 4:
                match((second << 2) + (code >> 2) + 1, 2)
            else:
                match((second << 2) + (code >> 2) + 2049, 3)
        elif code >= 64:
            second = data[at]
            at += 1
            after = code & 3
            match((second << 3) + (code >> 2 & 7) + 1, (code >> 5) + 1)
        else:
            mask = 31 if code >= 32 else 7
            length = (long_length(mask) if code & mask == 0 else code & mask) + 2
            pair = data[at] | data[at + 1] << 8
            at += 2
            after = pair & 3
            if code >= 32:
                match((pair >> 2) + 1, length)
            else:
                distance = ((code & 8) << 11) + (pair >> 2)
                if distance == 0:
                    return bytes(out)
                match(distance + 16384, length)
        state = after
        literals(after)
