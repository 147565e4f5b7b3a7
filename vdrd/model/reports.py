"""What a finished restore tells."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """Figures of one restore. Warnings name what could not be restored as it was; the rest is complete."""

    logical_bytes: int
    """Length of what was restored: of the disk, or of all files."""
    written_bytes: int
    """Bytes really written; holes are not."""
    file_count: int = 0
    warnings: tuple[str, ...] = ()
    """The first ones, at most 1,000."""
    warning_count: int = 0
