"""The key slots of a storage: finding the one that opens, adding, removing, and rotating the root key.

Order of a rotation: every slot gets the new root key, then what is dropped goes, then `storage.json` names
it; from then on it is in force. Until then the storage is opened with the keys it had. Knows no packs and
no points.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vdrd.formats import recovery
from vdrd.formats import slots as slot_format
from vdrd.formats import storage as header_format
from vdrd.formats.keys import EPOCHS_MAX, RootKeys
from vdrd.formats.point import public_key_of
from vdrd.formats.slots import Slot
from vdrd.formats.storage import StorageHeader
from vdrd.model.errors import (
    BadInput,
    Conflict,
    Damaged,
    KeyMissing,
    NotFound,
    StorageLocked,
    StorageNotFound,
    StorageUnwritable,
    WrongKey,
)
from vdrd.model.storage import Encryption, KeyMaterial, SlotKind
from vdrd.store.directory import StorageDirectory

LOCK_NAME = "keys/lock"


def read_header(path: Path) -> StorageHeader:
    """`storage.json` of the storage at `path`. Raises StorageNotFound, StorageNewer, Damaged."""
    try:
        with (path / "storage.json").open("rb") as file:
            data = file.read(header_format.FILE_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StorageNotFound(path=path) from error
    except OSError as error:
        raise StorageUnwritable(path=path, reason=(error.strerror or "error").lower()) from error
    return header_format.decode_header(data, path)


def slot_name(name: str) -> str:
    """Path of a slot below the storage."""
    return f"keys/{name}.json"


@dataclass(frozen=True, slots=True)
class Unlocked:
    """A storage's header, and the root keys that are in force."""

    header: StorageHeader
    roots: RootKeys


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did."""

    unlocked: Unlocked
    slots: tuple[str, ...]
    """Names of those that open the storage from now on."""
    dropped: tuple[str, ...]
    recovery_key: str | None
    """The text of a recovery key that was made anew, to be shown once."""


class KeySlots:
    """The slots of a storage directory. Blocking; the changing calls exclude each other across processes."""

    def __init__(self, directory: StorageDirectory) -> None:
        self._directory = directory
        self._path = directory.root

    # ---- reading ----

    def read(self) -> tuple[dict[str, Slot], dict[str, Damaged]]:
        """All slots by name, and those that cannot be understood."""
        found, damages = {}, {}
        for path in sorted((self._path / "keys").glob("*.json")):
            try:
                with path.open("rb") as file:
                    data = file.read(slot_format.SLOT_BYTES_MAX)
                found[path.stem] = slot_format.decode_slot(data, path.stem)
            except FileNotFoundError:
                continue  # removed since it was listed
            except Damaged as error:
                damages[path.stem] = error
            except OSError as error:
                raise StorageUnwritable(path=path, reason=(error.strerror or "error").lower()) from error
        return found, damages

    def unlock(self, material: KeyMaterial | None) -> Unlocked:
        """The root keys in force.

        Raises KeyMissing when the storage is encrypted and no key was given, WrongKey when no slot opens,
        Damaged when none could, or when header and slot do not belong together.
        """
        # The header first: slots are ahead of it, never behind.
        header = read_header(self._path)
        if material is None and header.info.encryption is not Encryption.NONE:
            raise KeyMissing(path=self._path)
        slots, damages = self.read()
        stale: str | None = None
        for name, slot in slots.items():
            roots = slot_format.unwrap(slot, header.storage_id, material, name)
            if roots is not None and slot.epoch_count < header.epoch_count:
                stale = name
            elif roots is not None:
                return self._checked(header, roots)
        if stale is not None:
            raise Damaged(
                what=f"key slot {stale}", reason="it is older than the last rotation and lacks its key"
            )
        if damages:
            raise next(iter(damages.values()))
        if header.info.encryption is Encryption.NONE:
            raise Damaged(what=f"storage {self._path}", reason="it has no key slot")
        raise WrongKey(path=self._path)

    def _checked(self, header: StorageHeader, roots: RootKeys) -> Unlocked:
        in_force = roots.first(header.epoch_count)
        header_format.check_header(header, in_force.record_key(header.epoch_count - 1), self._path)
        return Unlocked(header, in_force)

    # ---- changing ----

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from changing slots meanwhile. Does not wait: raises StorageLocked."""
        path = self._directory.path(LOCK_NAME)
        with self._directory.step("create", LOCK_NAME):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StorageLocked(path=self._path, holder="another change of its keys") from error
            yield
        finally:
            os.close(fd)

    def add(self, material: KeyMaterial | None, secret: KeyMaterial, kind: SlotKind | None = None) -> str:
        """Let `secret` open what `material` opens; returns the new slot's name, durable.

        Raises BadInput for a secret that is too short, Conflict when it opens the storage already.
        """
        with self._alone():
            unlocked = self._encrypted(material)
            for name in self._opened_by(unlocked, [secret]):
                raise Conflict(what=f"this secret opens slot {name} already", remedy="give another one")
            return self._write(self._free_name(), unlocked, unlocked.roots, secret, kind)

    def add_recovery(self, material: KeyMaterial | None) -> tuple[str, str]:
        """Make a recovery key; returns the new slot's name and the key's text, which is kept nowhere."""
        text = recovery.generate()
        return self.add(material, _typed(text), SlotKind.RECOVERY), text

    def remove(self, material: KeyMaterial | None, name: str) -> None:
        """Let a slot open no more. Durable on return.

        Raises NotFound, and Conflict for the last slot and for the only one that `material` opens: whoever
        removes must be able to come back.
        """
        with self._alone():
            unlocked = self._encrypted(material)
            slots, damages = self.read()
            if name not in slots and name not in damages:
                raise NotFound(what="key slot", name=name)
            if material is not None and set(self._opened_by(unlocked, [material])) <= {name}:
                raise Conflict(
                    what=f"slot {name} is the only one that this key opens",
                    remedy="add another slot and open the storage with that one to remove this",
                )
            self._remove(name)

    def rotate(
        self,
        materials: Sequence[KeyMaterial],
        *,
        drop: Iterable[str] = (),
        renew_recovery: bool = False,
    ) -> Rotation:
        """Add an epoch: a new root key for what is written from now on. No data is written again.

        A slot can only take the new key if its secret is among `materials`, the first of which opens the
        storage. Every other slot must be named in `drop`, or be a recovery slot with `renew_recovery`, which
        puts a new recovery key in the place of all there are. The caller must hold the writer's lock.

        Raises Conflict naming the slots that would be left behind, NotFound for one to drop that is not
        there; nothing has changed then.
        """
        with self._alone():
            unlocked = self._encrypted(materials[0] if materials else None)
            if unlocked.header.epoch_count == EPOCHS_MAX:
                raise BadInput(
                    what=f"the key was rotated {EPOCHS_MAX - 1} times, which is as often as can be"
                )
            slots, damages = self.read()
            dropped = self._to_drop(slots, damages, drop, renew_recovery=renew_recovery)
            holders = {
                name: material for name, material in self._holders(unlocked, materials) if name not in dropped
            }
            self._check_none_left_behind({*slots, *damages} - dropped, slots, set(holders))
            roots = unlocked.roots.rotated()
            for name, material in holders.items():
                self._write(name, unlocked, roots, material, slot=slots[name])
            text = recovery.generate() if renew_recovery else None
            if text is not None:
                name = self._write(self._free_name(), unlocked, roots, _typed(text), SlotKind.RECOVERY)
                holders[name] = _typed(text)
            for name in sorted(dropped):
                self._remove(name)
            return Rotation(
                self._put_in_force(unlocked.header, roots),
                tuple(sorted(holders)),
                tuple(sorted(dropped)),
                text,
            )

    def _to_drop(
        self,
        slots: dict[str, Slot],
        damages: dict[str, Damaged],
        names: Iterable[str],
        *,
        renew_recovery: bool,
    ) -> set[str]:
        dropped = set(names)
        for name in sorted(dropped):
            if name not in slots and name not in damages:
                raise NotFound(what="key slot", name=name)
        if renew_recovery:
            dropped |= {name for name, slot in slots.items() if slot.kind is SlotKind.RECOVERY}
        return dropped

    def _check_none_left_behind(self, names: set[str], slots: dict[str, Slot], at_hand: set[str]) -> None:
        if left := sorted(names - at_hand):
            kinds = [f"{name} ({slots[name].kind if name in slots else 'damaged'})" for name in left]
            raise Conflict(
                what=f"the new key cannot be put into these slots without their secrets: {', '.join(kinds)}",
                remedy="give their secrets too, or say that they are to be dropped",
            )
        if not at_hand:
            raise Conflict(what="no slot would be left", remedy="leave one that opens the storage")

    def settle(self, material: KeyMaterial | None) -> Unlocked:
        """`unlock` for a writer: ends a rotation that was broken off after every slot had the new key."""
        unlocked = self.unlock(material)
        if self._are_ahead(unlocked.header):
            with self._alone():
                for name, slot in self.read()[0].items() if self._are_ahead(unlocked.header) else ():
                    roots = slot_format.unwrap(slot, unlocked.header.storage_id, material, name)
                    if roots is not None:
                        return self._put_in_force(unlocked.header, roots)
        return unlocked

    def _are_ahead(self, header: StorageHeader) -> bool:
        """True when all slots hold one and the same key that `storage.json` does not name yet."""
        slots, damages = self.read()
        newest = {(slot.epoch_count, slot.newest) for slot in slots.values()}
        return not damages and len(newest) == 1 and {count for count, _ in newest} == {header.epoch_count + 1}

    # ---- steps ----

    def _encrypted(self, material: KeyMaterial | None) -> Unlocked:
        unlocked = self.unlock(material)
        if unlocked.header.info.encryption is Encryption.NONE:
            raise BadInput(what=f"storage {self._path} is not encrypted: it has no keys to change")
        return unlocked

    def _holders(
        self, unlocked: Unlocked, materials: Sequence[KeyMaterial]
    ) -> Iterator[tuple[str, KeyMaterial]]:
        """Slots that one of these opens, each with the one that does."""
        for name, slot in self.read()[0].items():
            for material in materials:
                roots = slot_format.unwrap(slot, unlocked.header.storage_id, material, name)
                # A slot that lacks a key in force may have it again: its secret is at hand.
                if roots is not None:
                    yield name, material
                    break

    def _opened_by(self, unlocked: Unlocked, materials: Sequence[KeyMaterial]) -> list[str]:
        """Slots with which these open the storage."""
        slots = self.read()[0]
        return [
            name
            for name, _ in self._holders(unlocked, materials)
            if slots[name].epoch_count >= unlocked.header.epoch_count
        ]

    def _free_name(self) -> str:
        while True:
            name = os.urandom(4).hex()
            if not self._directory.path(slot_name(name)).exists():
                return name

    def _write(
        self,
        name: str,
        unlocked: Unlocked,
        roots: RootKeys,
        material: KeyMaterial,
        kind: SlotKind | None = None,
        *,
        slot: Slot | None = None,
    ) -> str:
        """Write a slot, or an existing one again; durable on return."""
        storage_id = unlocked.header.storage_id
        if slot is None:
            slot = slot_format.new_slot(roots, storage_id, material, created=datetime.now(UTC), kind=kind)
        else:
            slot = slot_format.wrap(roots, storage_id, material, slot)
        self._directory.write_file(slot_name(name), slot_format.encode_slot(slot))
        return name

    def _remove(self, name: str) -> None:
        self._directory.remove(slot_name(name))
        self._directory.sync_directory("keys")

    def _put_in_force(self, header: StorageHeader, roots: RootKeys) -> Unlocked:
        epoch = len(roots.epochs) - 1
        keys = (*header.signing_keys, public_key_of(roots.signing_seed(epoch)))
        data = header_format.encode_header(header.info, keys, roots.record_key(epoch))
        self._directory.write_file("storage.json", data)
        return Unlocked(header_format.decode_header(data, self._path), roots)


def _typed(text: str) -> KeyMaterial:
    return KeyMaterial(text.encode(), is_passphrase=True)
