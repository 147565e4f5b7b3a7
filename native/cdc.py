"""Content-defined cuts (contract: `csrc/cdc.h`)."""

from native import buffer
from native._core import ffi, lib
from native.buffer import Buffer
from native.err import check

MIN_BYTES: int = lib.VDR_CDC_MIN_BYTES
AVERAGE_BYTES: int = lib.VDR_CDC_AVERAGE_BYTES
MAX_BYTES: int = lib.VDR_CDC_MAX_BYTES


class Cutter:
    """Cuts streams by a 32-byte key. Immutable: threads may share it."""

    def __init__(
        self,
        key: Buffer,
        min_bytes: int = MIN_BYTES,
        average_bytes: int = AVERAGE_BYTES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        handle = lib.vdr_cdc_open(buffer.key(key, 32), min_bytes, average_bytes, max_bytes)
        if handle == ffi.NULL:
            raise ValueError(f"cannot cut to lengths {min_bytes} <= {average_bytes} <= {max_bytes}")
        self._handle = ffi.gc(handle, lib.vdr_cdc_close)
        self.min_bytes = min_bytes

    def cut(self, data: Buffer, *, final: bool) -> memoryview:
        """Lengths (a view of uint32) of the chunks at the front of `data`, which begins at a cut.

        Without `final`, bytes after the last returned chunk belong in front of the next data.
        """
        array = buffer.readable(data)
        lengths = bytearray(4 * (len(array) // self.min_bytes + 1))
        count = lib.vdr_cdc_cut(
            self._handle, array, len(array), final, buffer.writable(lengths, "uint32_t"), len(lengths) // 4
        )
        return memoryview(lengths)[: 4 * check(count, "cdc")].cast("I")
