"""Point drafts as messages and back. The wire has its own records so that model and wire may change apart."""

from schemas.link import Commit, DiskRootRecord, FilesRootRecord
from vdrd.model.errors import ProtocolViolation
from vdrd.model.points import BackupType, DiskRoot, FilesRoot, ObjectKind, PointDraft

WARNINGS_MAX = 1000
_WARNING_CHARACTERS_MAX = 1000


def commit_of(draft: PointDraft) -> Commit:
    """`draft` as the question of a data channel."""
    root: DiskRootRecord | FilesRootRecord
    match draft.root:
        case DiskRoot(root_id, levels, size_bytes, block_bytes):
            root = DiskRootRecord(root_id, levels, size_bytes, block_bytes)
        case FilesRoot(root_id, levels, entry_count):
            root = FilesRootRecord(root_id, levels, entry_count)
    return Commit(
        object_name=draft.object_name,
        backup_type=draft.backup_type.value,
        root=root,
        source=draft.source,
        host=draft.host,
        logical_bytes=draft.logical_bytes,
        new_bytes=draft.new_bytes,
        stored_bytes=draft.stored_bytes,
        started_at=draft.started_at,
        parent_id=draft.parent_id,
        warnings=[warning[:_WARNING_CHARACTERS_MAX] for warning in draft.warnings[:WARNINGS_MAX]],
        warning_count=draft.warning_count,
        labels=draft.labels,
    )


def draft_of(commit: Commit, peer: str) -> PointDraft:
    """The draft in a question. ProtocolViolation when a word in it is unknown."""
    try:
        backup_type = BackupType(commit.backup_type)
    except ValueError as error:
        raise ProtocolViolation(peer=peer, reason=f"unknown backup type {commit.backup_type!r}") from error
    if commit.started_at.tzinfo is None:
        raise ProtocolViolation(peer=peer, reason="a time without zone")
    root: DiskRoot | FilesRoot
    match commit.root:
        case DiskRootRecord(root_id=root_id, levels=levels, size_bytes=size_bytes, block_bytes=block_bytes):
            kind, root = ObjectKind.DISK, DiskRoot(root_id, levels, size_bytes, block_bytes)
        case FilesRootRecord(root_id=root_id, levels=levels, entry_count=entry_count):
            kind, root = ObjectKind.FILES, FilesRoot(root_id, levels, entry_count)
    return PointDraft(
        object_name=commit.object_name,
        kind=kind,
        backup_type=backup_type,
        root=root,
        source=commit.source,
        host=commit.host,
        logical_bytes=commit.logical_bytes,
        new_bytes=commit.new_bytes,
        stored_bytes=commit.stored_bytes,
        started_at=commit.started_at,
        parent_id=commit.parent_id,
        warnings=tuple(commit.warnings),
        warning_count=commit.warning_count,
        labels=dict(commit.labels),
    )
