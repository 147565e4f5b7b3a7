"""How far a verification of all data has come, kept so that a later one can go on from there."""

import time
from contextlib import suppress

from vdrd.formats.verified import decode_verified, encode_verified
from vdrd.model.errors import Damaged, VdrError
from vdrd.store.directory import StorageDirectory
from vdrd.store.keyring import Keyring

NAME = "index/verified.bin"
_SAVE_SECONDS = 5.0
"""So much work is lost at worst when a verification is killed."""


class VerifyProgress:
    """Packs that a verification has read and found whole. Where nothing can be written, nothing is kept."""

    def __init__(self, directory: StorageDirectory, keyring: Keyring) -> None:
        self._directory = directory
        self._keyring = keyring
        self.done: set[bytes] = set()
        self._saved_at = time.monotonic()

    def resume(self) -> None:
        """Take over what an unfinished verification has done."""
        with suppress(OSError, Damaged):
            data = self._directory.path(NAME).read_bytes()
            self.done |= decode_verified(data, self._keyring.storage_id, self._keyring.record_key)

    def add(self, pack_id: bytes) -> None:
        """A pack is whole."""
        self.done.add(pack_id)
        if time.monotonic() - self._saved_at >= _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Keep it."""
        data = encode_verified(self.done, self._keyring.storage_id, self._keyring.record_key)
        with suppress(VdrError):
            self._directory.write_file(NAME, data)
        self._saved_at = time.monotonic()

    def finish(self) -> None:
        """Everything was read: the next verification begins anew."""
        with suppress(VdrError):
            self._directory.remove(NAME)
