"""Mends a storage out of another one that has what it lost. Blocking; the caller gives a thread.

Nothing is believed: every chunk is proved by its id under the keys of the storage that is mended. From a copy
of the same storage everything can be taken, chunk by chunk. From any other only contents can: blocks of the
same disk, or runs of the same files, out of points of the same object.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from native import blake3, diskmap
from native.chunk import Encoder
from native.disk import Disk
from native.err import NativeError
from vdrd.disk.affected import DiskAffected
from vdrd.disk.map_writer import FANOUT, Node
from vdrd.files.browse import FileTree
from vdrd.files.content import FileReader
from vdrd.files.heal import ReadPiece, heal
from vdrd.formats.batch import encode_chunks, raw_batch
from vdrd.model.chunks import ChunkKeys, ChunkKind
from vdrd.model.errors import Damaged, VdrError
from vdrd.model.points import DiskRoot, FilesRoot, Point
from vdrd.model.progress import Cancel, ProgressSink
from vdrd.store.session import WriteSession
from vdrd.store.storage import Storage
from vdrd.store.verify import VerifyReport


@dataclass
class RepairReport:
    """What a repair did, and what it found before and after."""

    mended_chunks: int = 0
    mended_points: int = 0
    """Records of points that could not be read, taken whole from the other storage."""
    removed_packs: int = 0
    """With damage, and with nothing that is not whole elsewhere now."""
    before: VerifyReport = field(default_factory=VerifyReport)
    after: VerifyReport = field(default_factory=VerifyReport)


class Repair:
    """One run. `storage` is open for writing; nobody else need leave it alone meanwhile."""

    def __init__(
        self, storage: Storage, other: Storage | None, *, progress: ProgressSink, cancel: Cancel
    ) -> None:
        self._storage = storage
        self._other = other
        self._is_copy = other is not None and other.info.storage_id == storage.info.storage_id
        self._progress = progress
        self._cancel = cancel
        self._report = RepairReport()
        self._encoder = Encoder(storage.info.compression_level)

    def run(self, *, read_data: bool) -> RepairReport:
        """Find what is damaged (every byte read with `read_data`), mend what can be, look again."""
        report = self._report
        report.before = found = self._verify(read_data=read_data)
        self._mend_points()
        self._storage.mend_frames(cancel=self._cancel)
        while ids := [bytes.fromhex(damage.chunk_id) for damage in found.damages if damage.chunk_id]:
            before = report.mended_chunks
            self._mend(found, ids)
            self._storage.settle()
            if report.mended_chunks == before:
                break
            found = self._verify(read_data=False)  # nodes that are whole again name what else is lost
        self._storage.settle()
        report.removed_packs = self._storage.drop_mended(cancel=self._cancel)
        self._storage.settle()
        report.after = self._verify(read_data=False)
        return report

    def _verify(self, *, read_data: bool) -> VerifyReport:
        return self._storage.verify(read_data=read_data, progress=self._progress, cancel=self._cancel)

    def _mend(self, found: VerifyReport, ids: list[bytes]) -> None:
        other = self._other
        if other is None:
            return
        if self._is_copy:
            for chunk_id in ids:
                self._cancel.check()
                self._take(other, chunk_id)
            return
        for point_id in found.affected_points:
            self._cancel.check()
            try:
                point = self._storage.point(point_id)
            except VdrError:
                continue
            for twin in self._twins(other, point):
                self._take_contents(other, point, twin, frozenset(ids))

    def _is_lacking(self, chunk_id: bytes) -> bool:
        return bool(self._storage.index.native.lacking(chunk_id)[0])

    # ---- from a copy -------------------------------------------------------------------------------------

    def _mend_points(self) -> None:
        """Take records of points that cannot be read from a copy that has them whole."""
        other = self._other
        if other is None or not self._is_copy:
            return
        for damage in self._storage.damaged_points():
            name = str(damage.fields["what"]).removeprefix("point ")
            try:
                other.book.read(name, afresh=True)
                data = (other.path / "points" / f"{name}.point").read_bytes()
            except (VdrError, OSError):
                continue
            self._storage.directory.write_file(f"points/{name}.point", data)
            self._report.mended_points += 1

    def _take(self, other: Storage, chunk_id: bytes) -> None:
        try:
            (plain,) = other.reader.fetch(chunk_id)
        except Damaged:
            return
        keyring = self._storage.keyring
        for domain in sorted({row.domain for row in other.index.pack_rows().values()} | {0}):
            for kind, key in keyring.domain(domain).chunk_keys.id_keys.items():
                if blake3.keyed(key, plain) == chunk_id:
                    with self._storage.session(domain=domain) as session:
                        self._put(session, chunk_id, plain, kind)
                    return

    def _put(self, session: WriteSession, chunk_id: bytes, plain: bytes, kind: ChunkKind) -> None:
        if not session.claim(chunk_id)[0]:
            return
        if kind is ChunkKind.MAP_NODE:
            session.put(raw_batch(chunk_id, plain, kind))
        else:
            session.put(encode_chunks(self._encoder, chunk_id, [plain], kind))
        self._report.mended_chunks += 1

    # ---- from contents -----------------------------------------------------------------------------------

    @staticmethod
    def _twins(other: Storage, point: Point) -> Iterable[Point]:
        """Points of the same object there, those of about the same time first."""
        began = point.draft.started_at
        points = [p for p in other.points(point.draft.object_name) if p.draft.kind is point.draft.kind]
        return sorted(points, key=lambda twin: abs(twin.draft.started_at - began))

    def _take_contents(self, other: Storage, point: Point, twin: Point, ids: frozenset[bytes]) -> None:
        wanted = frozenset(chunk_id for chunk_id in ids if self._is_lacking(chunk_id))
        if not wanted:
            return
        source = other.reader_of(twin.draft.domain)
        with self._storage.session(domain=point.draft.domain) as session:
            match point.draft.root, twin.draft.root:
                case DiskRoot() as root, DiskRoot() as twin_root:
                    with source.open_disk(twin_root) as disk:
                        self._take_blocks(session, root, disk, wanted)
                case FilesRoot() as root, FilesRoot() as twin_root:
                    try:
                        read = _reader_of(FileTree(twin_root, source))
                    except Damaged:
                        return
                    mine = self._storage.reader_of(point.draft.domain)
                    left = heal(root, mine, session, wanted, read)
                    self._report.mended_chunks += len(wanted) - len(left)

    def _take_blocks(
        self, session: WriteSession, root: DiskRoot, disk: Disk, wanted: frozenset[bytes]
    ) -> None:
        """Blocks, and nodes made again of blocks, where the same disk has the same content there."""
        twin = _Twin(disk, root, session.keys)
        for chunk_id, level, index in DiskAffected(self._storage.reader, wanted).places(root):
            self._cancel.check()
            if level == 0:
                plain = twin.block(index)
                if plain and twin.data_id(plain) == chunk_id:
                    self._put(session, chunk_id, plain, ChunkKind.DATA)
                continue
            nodes: dict[bytes, bytes] = {}
            if twin.node_id(level, index, nodes, self._cancel) == chunk_id:
                for node_id, plain in nodes.items():
                    if self._is_lacking(node_id):
                        self._put(session, node_id, plain, ChunkKind.MAP_NODE)


class _Twin:
    """Another storage's disk, named as this storage would name it."""

    def __init__(self, disk: Disk, root: DiskRoot, keys: ChunkKeys) -> None:
        self._disk = disk
        self._root = root
        self._data_key = keys.id_keys[ChunkKind.DATA]
        self._node_key = keys.id_keys[ChunkKind.MAP_NODE]

    def block(self, number: int) -> bytes:
        """A block's bytes; none when the disk has no such block or cannot give it."""
        offset = number * self._root.block_bytes
        length = min(self._root.block_bytes, self._root.size_bytes - offset)
        if length <= 0 or offset + length > self._disk.size_bytes:
            return b""
        try:
            return self._disk.read(offset, length)
        except (NativeError, OSError):
            return b""

    def data_id(self, plain: bytes) -> bytes:
        """What a block is called."""
        return blake3.keyed(self._data_key, plain)

    def node_id(self, level: int, index: int, nodes: dict[bytes, bytes], cancel: Cancel) -> bytes | None:
        """What the node over a part of the disk is called; it and the nodes below it are added to `nodes`."""
        cancel.check()
        node = Node()
        for i in range(FANOUT):
            below = index * FANOUT + i
            if below * FANOUT ** (level - 1) * self._root.block_bytes >= self._root.size_bytes:
                break
            if level > 1:
                node.put(i, self.node_id(level - 1, below, nodes, cancel))
                continue
            plain = self.block(below)
            node.put(i, self.data_id(plain) if any(plain) else None)
        plain = diskmap.node_encode(level, node.ids, node.absent)
        if not plain:
            return None
        node_id = blake3.keyed(self._node_key, plain)
        nodes[node_id] = plain
        return node_id


def _reader_of(tree: FileTree) -> ReadPiece:
    """Reads files of a point by path; keeps the last one open, for pieces come file by file."""
    last: tuple[bytes, FileReader] | None = None

    def read(path: bytes, offset: int, length_bytes: int) -> bytes | None:
        nonlocal last
        try:
            if last is None or last[0] != path:
                last = path, tree.open_file(tree.find(path))
            return last[1].read(offset, length_bytes)
        except VdrError:
            return None

    return read
