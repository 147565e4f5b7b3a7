"""Verification with all it has to tell: which points, files and ranges of disks suffer. Blocking; the caller
gives a thread."""

from dataclasses import dataclass

from schemas.control import RunSpec
from vdrd.disk.affected import DiskAffected
from vdrd.files.affected import FilesAffected
from vdrd.model.errors import Damaged, NotFound
from vdrd.model.points import DiskRoot
from vdrd.model.progress import Cancel, ProgressSink
from vdrd.store.storage import Storage
from vdrd.store.verify import VerifyReport

_FILES_TOLD_MAX = 100
"""Files named in the log of a run, for each damage."""


@dataclass(frozen=True, slots=True)
class VerifyPlan:
    """What to verify: these points, or, with none named, the whole storage."""

    point_ids: list[str]
    read_data: bool


def plan(spec: RunSpec) -> VerifyPlan:
    """What the spec says."""
    return VerifyPlan(list(spec.point_ids), spec.read_data)


@dataclass(frozen=True, slots=True)
class AffectedPart:
    """A file, or a range of a disk, that cannot be restored from a point."""

    point: str
    path: str | None = None
    offset: int | None = None
    length: int | None = None

    def text(self) -> str:
        """For people."""
        if self.path is not None:
            return self.path
        assert self.offset is not None
        assert self.length is not None
        return f"bytes {self.offset} to {self.offset + self.length - 1}"


def affected_parts(storage: Storage, report: VerifyReport) -> dict[str, list[AffectedPart]]:
    """Every file and range that needs a damaged chunk, by the chunk's id in hex as in the report."""
    bad = frozenset(bytes.fromhex(damage.chunk_id) for damage in report.damages if damage.chunk_id)
    parts: dict[str, list[AffectedPart]] = {chunk_id.hex(): [] for chunk_id in bad}
    if not bad:
        return parts
    disks, files = DiskAffected(storage.reader, bad), FilesAffected(storage.reader, bad)
    for point_id in report.affected_points:
        try:
            root = storage.point(point_id).draft.root
        except (Damaged, NotFound):
            continue  # all of it, and the report says so
        if isinstance(root, DiskRoot):
            for chunk_id, extent in disks.of(root):
                part = AffectedPart(point_id, offset=extent.offset_bytes, length=extent.length_bytes)
                parts.setdefault(chunk_id.hex(), []).append(part)
        else:
            for chunk_id, path in files.of(root):
                parts.setdefault(chunk_id.hex(), []).append(AffectedPart(point_id, path=path))
    return parts


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was found, and the points that suffer from it."""

    damages: list[str]
    """A sentence for each."""
    lines: list[str]
    """The same for the log of a run, with the files and ranges that suffer."""
    damaged_point_ids: list[str]
    checked_bytes: int


def run(wanted: VerifyPlan, storage: Storage, progress: ProgressSink, cancel: Cancel) -> VerifyResult:
    """Verify. Damage is a result, not an error. Raises Cancelled, NotFound, and what stops reading
    altogether."""
    report = storage.verify(
        wanted.point_ids or None, read_data=wanted.read_data, progress=progress, cancel=cancel
    )
    parts = affected_parts(storage, report)
    sentences = [f"{damage.what} is damaged: {damage.reason}" for damage in report.damages]
    lines = []
    for damage, sentence in zip(report.damages, sentences, strict=True):
        lines.append(sentence)
        told = parts.get(damage.chunk_id, [])
        lines += [f"  point {part.point}: {part.text()}" for part in told[:_FILES_TOLD_MAX]]
        if len(told) > _FILES_TOLD_MAX:
            lines.append(f"  and {len(told) - _FILES_TOLD_MAX} more")
    return VerifyResult(
        damages=sentences,
        lines=lines,
        damaged_point_ids=list(report.affected_points),
        checked_bytes=report.read_bytes,
    )
