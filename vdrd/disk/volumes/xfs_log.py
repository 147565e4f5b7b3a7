"""Whether the log of an XFS was emptied by an unmount."""

import struct

from vdrd.disk.volumes.ranges import Range

_SECTOR_BYTES = 512
_MAGIC = 0xFEEDBABE
_UNMOUNT = 0x20
_BACK_SECTORS_MAX = 1024
_HEADER_COVERS_BYTES = 32768


def is_log_clean(volume: Range, start: int, length: int) -> bool:
    """True if its last record is that of an unmount. What it changes is not replayed here."""
    sectors = length // _SECTOR_BYTES

    def sector(number: int) -> bytes:
        return volume.read(start + number % sectors * _SECTOR_BYTES, _SECTOR_BYTES)

    def cycle(number: int) -> int:
        first, second = struct.unpack_from(">II", sector(number))
        return int(second if first == _MAGIC else first)

    if sectors < 2:
        return False
    # The log is a ring: sectors before the head have the newest cycle, those behind it the one before.
    newest = cycle(0)
    low, high = 0, sectors
    if cycle(sectors - 1) == newest:
        low = sectors
    else:
        while low < high:
            middle = (low + high) // 2
            if cycle(middle) == newest:
                low = middle + 1
            else:
                high = middle
    for back in range(1, min(_BACK_SECTORS_MAX, sectors)):
        raw = sector(low - back)
        if struct.unpack_from(">I", raw)[0] == _MAGIC:
            version, count = struct.unpack_from(">I", raw, 8)[0], struct.unpack_from(">I", raw, 40)[0]
            size = struct.unpack_from(">I", raw, 320)[0] if version & 2 else 0
            headers = max(1, -(-size // _HEADER_COVERS_BYTES))
            return bool(count == 1 and sector(low - back + headers)[9] & _UNMOUNT)
    return False
