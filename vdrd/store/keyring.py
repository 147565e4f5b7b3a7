"""The keys of an open storage: what is derived from its root keys, by domain and epoch."""

from native.aead import Algorithm
from vdrd.formats import keys as key_format
from vdrd.formats.keys import DomainKeys, RootKeys
from vdrd.formats.point import PointKeys, public_key_of
from vdrd.formats.storage import StorageHeader
from vdrd.model.errors import Damaged


class Keyring:
    """Keys by domain and epoch. Thread-safe; changes only by `adopt`, which adds."""

    def __init__(self, header: StorageHeader, roots: RootKeys) -> None:
        self.storage_id = header.storage_id
        self.algorithm: Algorithm = key_format.ALGORITHMS[header.info.encryption]
        self._roots = roots
        self._domains: dict[tuple[int, int], DomainKeys] = {}
        self._point_keys: dict[int, PointKeys] = {}

    def adopt(self, roots: RootKeys) -> None:
        """Take over the keys of a rotation: what is written from now on is sealed under the newest."""
        assert roots.epochs[: self.epoch_count] == self._roots.epochs
        self._roots = roots

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
            raise _unknown(number)
        key = (domain, number)
        if key not in self._domains:
            self._domains[key] = self._roots.domain(domain, number)
        return self._domains[key]

    def overlay_key(self, overlay_id: bytes, epoch: int) -> bytes:
        """Key of an overlay over a disk of this storage."""
        return self._roots.overlay_key(overlay_id, epoch)

    def point_keys(self, epoch: int | None = None) -> PointKeys:
        """What writes points now, or reads those of an older epoch."""
        number = self.epoch if epoch is None else epoch
        if number > self.epoch:
            raise _unknown(number)
        if number not in self._point_keys:
            seed = self._roots.signing_seed(number)
            record_key = self._roots.record_key(number)
            self._point_keys[number] = PointKeys(
                self.algorithm, number, record_key, seed, public_key_of(seed)
            )
        return self._point_keys[number]


def _unknown(epoch: int) -> Damaged:
    return Damaged(
        what=f"key epoch {epoch}",
        reason="this program has not its key: if the key was rotated meanwhile, open the storage again",
    )
