"""Overlays of the C core: a writable disk over one that is never written.

Format: `docs/formats/overlay.md`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from native._core import ffi, lib
from native.buffer import readable
from native.disk import Disk
from native.err import check

VERSION: int = lib.VDR_OVERLAY_VERSION
HEADER_BYTES: int = lib.VDR_OVERLAY_HEADER_BYTES
SLOT_BYTES: int = lib.VDR_OVERLAY_SLOT_BYTES
SLOT_HEADER_BYTES: int = lib.VDR_OVERLAY_SLOT_HEADER_BYTES
BLOCKS_PER_PAGE: int = lib.VDR_OVERLAY_BLOCKS_PER_PAGE
BLOCK_BYTES_MIN: int = lib.VDR_OVERLAY_BLOCK_BYTES_MIN
BLOCK_BYTES_MAX: int = lib.VDR_OVERLAY_BLOCK_BYTES_MAX
TRAILER_BYTES: int = lib.VDR_OVERLAY_TRAILER_BYTES
CIPHER_NONE: int = lib.VDR_OVERLAY_PLAIN
CIPHER_AES_256_XTS: int = lib.VDR_OVERLAY_AES_256_XTS
KEY_BYTES: int = lib.VDR_XTS_KEY_BYTES

_EXTENTS_PER_CALL = 1024


@dataclass(frozen=True, slots=True)
class OverlayIdentity:
    """What an overlay belongs to."""

    overlay_id: bytes
    """16 random bytes that tie its two files together."""
    lower_id: bytes
    """32 bytes that name the disk below."""
    size_bytes: int
    block_bytes: int
    cipher: int = CIPHER_NONE
    key_epoch: int = 0
    """Which of the owner's keys; with the next one 0 where there is no cipher."""
    key_check: bytes = bytes(16)
    """Tells the key from another one; the caller's business."""


@dataclass(frozen=True, slots=True)
class OverlayStatistics:
    """How much an overlay holds."""

    blocks: int
    stored_bytes: int
    flushes: int
    torn_pages: int
    """Bitmap pages that fell back to their older state at the open."""


def create(data_fd: int, bitmap_fd: int, identity: OverlayIdentity) -> None:
    """Turn two empty files into an empty overlay, durable on return but for their directory entries."""
    raw = ffi.new("vdr_overlay_identity *")
    raw.overlay_id = identity.overlay_id
    raw.lower_id = identity.lower_id
    raw.size_bytes = identity.size_bytes
    raw.block_bytes = identity.block_bytes
    raw.cipher = identity.cipher
    raw.key_epoch = identity.key_epoch
    raw.key_check = identity.key_check
    check(lib.vdr_overlay_create(data_fd, bitmap_fd, raw), "create overlay")


def identify(bitmap_fd: int) -> OverlayIdentity:
    """What the bitmap file says it belongs to. NativeError `corrupt` or `version` if it cannot be used."""
    raw = ffi.new("vdr_overlay_identity *")
    check(lib.vdr_overlay_identify(bitmap_fd, raw), "read overlay header")
    return OverlayIdentity(
        bytes(raw.overlay_id),
        bytes(raw.lower_id),
        raw.size_bytes,
        raw.block_bytes,
        raw.cipher,
        raw.key_epoch,
        bytes(raw.key_check),
    )


class Overlay(Disk):
    """An open overlay. It holds a reference to the disk below and duplicates of its descriptors."""

    @classmethod
    def open_over(cls, lower: Disk, data_fd: int, bitmap_fd: int, key: bytes | None = None) -> "Overlay":
        """Open; the caller has compared the identity and holds the lock. With `key` it is an encrypted one.

        NativeError `argument` when the files are encrypted and there is no key, or the other way round.
        """
        out = ffi.new("vdr_disk **")
        if key is None:
            check(lib.vdr_overlay_open(lower.handle, data_fd, bitmap_fd, out), "open overlay")
        else:
            raw = readable(key)
            if len(raw) != KEY_BYTES:
                raise ValueError(f"the key of an overlay has {KEY_BYTES} bytes")
            check(lib.vdr_overlay_open_encrypted(lower.handle, data_fd, bitmap_fd, raw, out), "open overlay")
        return cls(out[0])

    def set_limit(self, limit_bytes: int) -> None:
        """How much its data may take, about; 0: no limit. Writes that need more fail with ENOSPC."""
        check(lib.vdr_overlay_set_limit(self.handle, limit_bytes), "limit overlay")

    def changed(self) -> Iterator[tuple[int, int, int]]:
        """Yield (offset, length, kind) of every range that the overlay holds, in order."""
        batch = ffi.new("vdr_extent[]", _EXTENTS_PER_CALL)
        offset = 0
        while offset < self.size_bytes:
            left = self.size_bytes - offset
            count = check(
                lib.vdr_overlay_changed(self.handle, offset, left, batch, _EXTENTS_PER_CALL), "list changes"
            )
            if count == 0:
                return
            for extent in batch[0:count]:
                yield extent.offset_bytes, extent.length_bytes, extent.kind
                offset = extent.offset_bytes + extent.length_bytes

    def statistics(self) -> OverlayStatistics:
        """How much it holds now."""
        raw = ffi.new("vdr_overlay_statistics *")
        check(lib.vdr_overlay_statistics_get(self.handle, raw), "overlay statistics")
        return OverlayStatistics(raw.blocks, raw.stored_bytes, raw.flushes, raw.torn_pages)
