"""`vdr store restore`: write a point back, without any server."""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vdrd.cli.output import JSON_ANSWER, bytes_text, seconds_text
from vdrd.cli.progress import ProgressLine
from vdrd.cli.storage_access import add_storage_arguments, open_storage, path_argument, selection_argument
from vdrd.model.errors import BadInput, ExitCode, TargetRefused
from vdrd.model.points import DiskRoot, FilesRoot
from vdrd.model.progress import Cancel
from vdrd.model.reports import RestoreReport

if TYPE_CHECKING:
    from vdrd.store.reader import ChunkReader

NAME = "restore"
HELP = "write a point back to a file, a device or a directory"
DISK_NAME = "disk.raw"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)
    parser.add_argument("point", metavar="POINT", help="id, a unique beginning of it, or OBJECT@latest")
    parser.add_argument(
        "target",
        metavar="TARGET",
        type=path_argument,
        help=f"disk: file, device, or a directory for {DISK_NAME}; files: directory",
    )
    parser.add_argument(
        "--path",
        metavar="P",
        type=selection_argument,
        action="append",
        default=[],
        help="only this file or directory; of a disk beneath a volume, /partition-1/etc; repeatable",
    )
    parser.add_argument("--volume", metavar="V", help="disk: only this partition or logical volume")
    parser.add_argument(
        "--format",
        choices=["raw", "qcow2", "vmdk", "vmdk-flat", "vhd", "vhdx"],
        default="raw",
        help="disk: write an image of this format (needs qemu-img); raw",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


def run(args: argparse.Namespace) -> int:
    """Restore and tell."""
    began = time.monotonic()
    with open_storage(args) as storage:
        if args.target.resolve().is_relative_to(storage.path.resolve()):
            raise TargetRefused(path=args.target, reason="it lies in the storage itself")
        point = storage.point(args.point)
        root, reader = point.draft.root, storage.reader_of(point.draft.domain)
        newer = storage.damaged_after(point) if args.point.endswith("@latest") else []
        with ProgressLine() as line:
            if isinstance(root, DiskRoot) and args.path:
                report, target = _restore_disk_files(args, reader, root, line)
            elif isinstance(root, DiskRoot):
                report, target = _restore_disk(args, reader, root, line)
            else:
                report, target = _restore_files(args, reader, root, line)
    seconds = time.monotonic() - began
    warnings = [f"{damage}; it is newer than what was restored" for damage in newer] + list(report.warnings)
    warning_count = report.warning_count + len(newer)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if args.json:
        JSON_ANSWER.print(
            {
                "point": point.point_id,
                "target": str(target),
                "logical_bytes": report.logical_bytes,
                "written_bytes": report.written_bytes,
                "files": report.file_count,
                "seconds": round(seconds, 3),
                "warnings": warnings,
                "warning_count": warning_count,
            }
        )
    else:
        print(
            f"restored {bytes_text(report.logical_bytes)} to {target}:"
            f" wrote {bytes_text(report.written_bytes)} in {seconds_text(seconds)}"
        )
    return ExitCode.WARNINGS if warning_count else ExitCode.DONE


def _restore_disk(
    args: argparse.Namespace, reader: "ChunkReader", root: DiskRoot, line: ProgressLine
) -> tuple[RestoreReport, Path]:
    from vdrd.disk.restore import restore_disk

    target: Path = args.target / DISK_NAME if args.target.is_dir() else args.target
    if args.format != "raw":
        return _restore_image(args, reader, root, line)
    if args.volume is not None:
        return _restore_volume(args, reader, root, line), target
    report = restore_disk(root, reader, target, overwrite=args.overwrite, progress=line, cancel=Cancel())
    return report, target


def _restore_image(
    args: argparse.Namespace, reader: "ChunkReader", root: DiskRoot, line: ProgressLine
) -> tuple[RestoreReport, Path]:
    from vdrd.disk.image_format import FORMATS, write_image
    from vdrd.disk.source import NativeDisk

    if args.volume is not None:
        raise BadInput(what="--format is for whole disks: a volume is written as it is")
    image_format = FORMATS[args.format]
    target: Path = args.target
    if target.is_dir():
        target = target / Path(DISK_NAME).with_suffix(f".{image_format.suffix}")
    with NativeDisk(reader.open_disk(root)) as disk:
        report = write_image(
            disk, target, image_format, overwrite=args.overwrite, progress=line, cancel=Cancel()
        )
    return report, target


def _restore_volume(
    args: argparse.Namespace, reader: "ChunkReader", root: DiskRoot, line: ProgressLine
) -> RestoreReport:
    from vdrd.disk.source import NativeDisk
    from vdrd.disk.volume_restore import restore_volume
    from vdrd.jobs.disk_files import DiskFiles

    with NativeDisk(reader.open_disk(root)) as disk, DiskFiles(disk) as files:
        places = files.volume_places(args.volume)
        return restore_volume(
            disk, places, args.target, overwrite=args.overwrite, progress=line, cancel=Cancel()
        )


def _restore_disk_files(
    args: argparse.Namespace, reader: "ChunkReader", root: DiskRoot, line: ProgressLine
) -> tuple[RestoreReport, Path]:
    from vdrd.disk.source import NativeDisk
    from vdrd.files.restore import restore_files
    from vdrd.jobs.disk_files import DiskFiles

    if args.volume is not None or args.format != "raw":
        raise BadInput(what="--path brings files back: give it without --volume and --format")
    with NativeDisk(reader.open_disk(root)) as disk, DiskFiles(disk) as files:
        made = files.as_point(args.path, Cancel())
        report = restore_files(
            made.root,
            made.source,
            args.target,
            paths=args.path,
            overwrite=args.overwrite,
            progress=line,
            cancel=Cancel(),
        )
        return replace(
            report,
            warnings=(*made.warnings.first, *report.warnings),
            warning_count=made.warnings.count + report.warning_count,
        ), args.target


def _restore_files(
    args: argparse.Namespace, reader: "ChunkReader", root: FilesRoot, line: ProgressLine
) -> tuple[RestoreReport, Path]:
    from vdrd.files.restore import restore_files

    if args.volume is not None or args.format != "raw":
        raise BadInput(what="--volume and --format are for points of disks; this one is of files")
    report = restore_files(
        root,
        reader,
        args.target,
        paths=args.path,
        overwrite=args.overwrite,
        progress=line,
        cancel=Cancel(),
    )
    return report, args.target
