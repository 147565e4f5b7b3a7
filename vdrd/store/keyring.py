"""The keys of an open storage: finds the slot that opens, hands out what is derived from it."""

from pathlib import Path

from native.aead import Algorithm
from vdrd.formats import keys as key_format
from vdrd.formats.keys import DomainKeys, RootKeys
from vdrd.formats.point import PointKeys, public_key_of
from vdrd.formats.storage import StorageHeader
from vdrd.model.errors import Damaged, KeyMissing, StorageUnwritable, WrongKey
from vdrd.model.storage import Encryption, KeyMaterial


class Keyring:
    """Keys by domain and epoch. Immutable but for a cache."""

    def __init__(self, header: StorageHeader, roots: RootKeys) -> None:
        self.storage_id = header.storage_id
        self.algorithm: Algorithm = key_format.ALGORITHMS[header.info.encryption]
        self._roots = roots
        self._domains: dict[tuple[int, int], DomainKeys] = {}
        self._point_keys: dict[int, PointKeys] = {}

    @property
    def epoch(self) -> int:
        """The newest: what is written now is sealed under it."""
        return len(self._roots.epochs) - 1

    @property
    def epoch_count(self) -> int:
        """How many there are."""
        return len(self._roots.epochs)

    @property
    def record_key(self) -> bytes:
        """Key of the MACs over small files and index segments."""
        return self._roots.record_key()

    def domain(self, domain: int, epoch: int | None = None) -> DomainKeys:
        """Keys of a domain, for sealing (newest epoch) or for reading packs of an older one."""
        number = self.epoch if epoch is None else epoch
        if number > self.epoch:
            raise Damaged(what=f"key epoch {number}", reason="no key slot has it")
        key = (domain, number)
        if key not in self._domains:
            self._domains[key] = self._roots.domain(domain, number)
        return self._domains[key]

    def point_keys(self, epoch: int | None = None) -> PointKeys:
        """What writes points now, or reads those of an older epoch."""
        number = self.epoch if epoch is None else epoch
        if number > self.epoch:
            raise Damaged(what=f"key epoch {number}", reason="no key slot has it")
        if number not in self._point_keys:
            seed = self._roots.signing_seed(number)
            record_key = self._roots.record_key(number)
            self._point_keys[number] = PointKeys(
                self.algorithm, number, record_key, seed, public_key_of(seed)
            )
        return self._point_keys[number]


def slot_names(root: Path) -> list[str]:
    """Names of the slots of a storage, sorted."""
    return sorted(path.stem for path in (root / "keys").glob("*.json"))


def unlock(root: Path, header: StorageHeader, material: KeyMaterial | None) -> RootKeys:
    """Root keys of the storage at `root`.

    Raises KeyMissing when it is encrypted and no key was given, WrongKey when no slot opens, Damaged when
    there is no slot that could.
    """
    damage: Damaged | None = None
    encrypted = header.info.encryption is not Encryption.NONE
    if encrypted and material is None:
        raise KeyMissing(path=root)
    for name in slot_names(root):
        try:
            data = _read_slot(root / "keys" / f"{name}.json")
            roots = key_format.decode_slot(data, header.storage_id, material, name)
        except Damaged as error:
            damage = error
            continue
        if roots is not None:
            return roots
    if damage is not None:
        raise damage
    if encrypted:
        raise WrongKey(path=root)
    raise Damaged(what=f"storage {root}", reason="it has no key slot")


def _read_slot(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(key_format.SLOT_BYTES_MAX)
    except OSError as error:
        raise StorageUnwritable(path=path, reason=(error.strerror or "error").lower()) from error
