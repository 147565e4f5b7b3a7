"""Verification and collection: what a node does alone on a storage. Blocking; the caller gives a thread."""

from dataclasses import dataclass

from schemas.control import RunSpec
from vdrd.model.progress import Cancel, ProgressSink
from vdrd.store.storage import Storage


@dataclass(frozen=True, slots=True)
class VerifyPlan:
    """What to verify: these points, or, with none named, the whole storage."""

    point_ids: list[str]
    read_data: bool


def plan(spec: RunSpec) -> VerifyPlan:
    """What the spec says."""
    return VerifyPlan(list(spec.point_ids), spec.read_data)


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was found: one sentence per damage, and the points that suffer from it."""

    damages: list[str]
    damaged_point_ids: list[str]
    checked_bytes: int


def run(wanted: VerifyPlan, storage: Storage, progress: ProgressSink, cancel: Cancel) -> VerifyResult:
    """Verify. Damage is a result, not an error. Raises Cancelled, NotFound, and what stops reading
    altogether."""
    report = storage.verify(
        wanted.point_ids or None, read_data=wanted.read_data, progress=progress, cancel=cancel
    )
    return VerifyResult(
        damages=[f"{damage.what} is damaged: {damage.reason}" for damage in report.damages],
        damaged_point_ids=list(report.affected_points),
        checked_bytes=report.read_bytes,
    )
