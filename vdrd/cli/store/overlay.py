"""`vdr store overlay`: what was written over exported points: list it, keep it as a new point, drop it."""

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdrd.cli.output import JSON_ANSWER, bytes_text, print_table, seconds_text
from vdrd.cli.progress import ProgressLine
from vdrd.cli.storage_access import add_storage_arguments, open_storage, path_argument, point_document
from vdrd.model.errors import BadInput, ExitCode, NotFound
from vdrd.model.points import DiskRoot, Point
from vdrd.model.progress import Cancel

if TYPE_CHECKING:
    from vdrd.disk.overlay_search import FoundOverlay
    from vdrd.store import Storage

NAME = "overlay"
HELP = "what was written over exported points: list it, keep it as a new point, or drop it"

_LEFT_BEHIND = Path("/var/tmp")
"""Where exports without --cache keep theirs; one that was killed leaves it there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    acts = parser.add_subparsers(dest="act_name", metavar="ACT", required=True)

    def act(name: str, run_it: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        inner = acts.add_parser(name, help=text, description=text, allow_abbrev=False)
        add_storage_arguments(inner)
        inner.add_argument(
            "--cache",
            metavar="PATH",
            type=path_argument,
            action="append",
            default=[],
            help="where to look: what --cache of the export named; default: what killed exports left",
        )
        inner.set_defaults(act=run_it)
        return inner

    act("list", _list, "show the overlays, their points, sizes and ages")
    commit = act("commit", _commit, "store what an overlay shows as a new point of its object")
    commit.add_argument("overlay", metavar="POINT|PATH", help="its point, or its directory")
    discard = act("discard", _discard, "drop overlays and the files beside their disks")
    discard.add_argument("overlays", metavar="POINT|PATH", nargs="+", help="their points, or directories")


def run(args: argparse.Namespace) -> int:
    """Carry out the act that was named."""
    act: Callable[[argparse.Namespace], int] = args.act
    return act(args)


def _identity(point: Point) -> str:
    return f"point {point.point_id}"


def _search(args: argparse.Namespace, storage: "Storage") -> list[tuple["FoundOverlay", Point]]:
    """Overlays over points of this storage."""
    from vdrd.disk.overlay_search import find_overlays

    points = {_identity(p): p for p in storage.points() if isinstance(p.draft.root, DiskRoot)}
    places = args.cache or sorted(_LEFT_BEHIND.glob("vdr-export-*"))
    for place in args.cache:
        if not place.is_dir():
            raise NotFound(what="directory", name=place)
    found = find_overlays(places, points)
    return [(overlay, points[overlay.identity]) for overlay in found if overlay.identity is not None]


def _choose(
    found: list[tuple["FoundOverlay", Point]], storage: "Storage", name: str
) -> tuple["FoundOverlay", Point]:
    """The one that was named by its directory or its point."""
    by_path = [(overlay, point) for overlay, point in found if overlay.path == Path(name)]
    if by_path:
        return by_path[0]
    try:
        wanted = storage.point(name).point_id
    except NotFound as error:
        raise NotFound(what="overlay", name=name) from error
    chosen = [(overlay, point) for overlay, point in found if point.point_id == wanted]
    if not chosen:
        raise NotFound(what="overlay", name=name)
    if len(chosen) > 1:
        paths = ", ".join(str(overlay.path) for overlay, _ in chosen)
        raise BadInput(what=f"there are several overlays of point {name}: name one of {paths}")
    return chosen[0]


def _document(overlay: "FoundOverlay", point: Point) -> dict[str, Any]:
    modified = datetime.fromtimestamp(overlay.modified_ns / 1e9, UTC)
    return {
        "path": str(overlay.path),
        "point": point.point_id,
        "object": point.draft.object_name,
        "disk_bytes": overlay.size_bytes,
        "stored_bytes": overlay.stored_bytes,
        "modified": modified.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "age_seconds": round(max(0.0, time.time() - overlay.modified_ns / 1e9)),
        "is_encrypted": overlay.is_encrypted,
        "is_open": overlay.is_open,
    }


def _list(args: argparse.Namespace) -> int:
    with open_storage(args) as storage:
        documents = [_document(overlay, point) for overlay, point in _search(args, storage)]
    if args.json:
        JSON_ANSWER.print(documents)
        return ExitCode.DONE
    print_table(
        ["point", "object", "stored", "written", "state", "path"],
        [
            [
                one["point"],
                one["object"],
                bytes_text(one["stored_bytes"]),
                f"{seconds_text(one['age_seconds'])} ago",
                "in use" if one["is_open"] else "kept",
                one["path"],
            ]
            for one in documents
        ],
    )
    return ExitCode.DONE


def _commit(args: argparse.Namespace) -> int:
    from vdrd.disk.backup import backup_disk
    from vdrd.disk.overlay import OverlayDisk
    from vdrd.disk.source import NativeDisk

    began = time.monotonic()
    with open_storage(args, writable=True) as storage:
        overlay, parent = _choose(_search(args, storage), storage, args.overlay)
        root, domain = parent.draft.root, parent.draft.domain
        assert isinstance(root, DiskRoot)
        reader = storage.reader_of(domain)
        with (
            storage.hold(parent),
            NativeDisk(reader.open_disk(root)) as lower,
            OverlayDisk.open(
                overlay.path, lower, identity=_identity(parent), keys=storage.overlay_keys
            ) as disk,
            storage.session(check=False, domain=domain) as session,
            ProgressLine() as line,
        ):
            draft = backup_disk(
                overlay.path,
                session,
                object_name=parent.draft.object_name,
                source_disk=disk,
                changed=list(disk.changed()),
                parent=root,
                parent_source=reader,
                parent_id=parent.point_id,
                progress=line,
                cancel=Cancel(),
            )
            point = session.commit(draft)
    _tell(args, point, overlay.path, time.monotonic() - began)
    return ExitCode.WARNINGS if point.draft.warning_count else ExitCode.DONE


def _tell(args: argparse.Namespace, point: Point, path: Path, seconds: float) -> None:
    if args.json:
        answer = point_document(point) | {"overlay": str(path), "seconds": round(seconds, 3)}
        JSON_ANSWER.print(answer | {"read_bytes": point.draft.read_bytes})
        return
    print(f"point {point.point_id}: read {bytes_text(point.draft.read_bytes)} in {seconds_text(seconds)}")
    print(f"the overlay is still there; drop it with: vdr store overlay discard {args.directory} {path}")


def _discard(args: argparse.Namespace) -> int:
    from vdrd.disk.overlay_search import discard_overlay

    with open_storage(args) as storage:
        found = _search(args, storage)
        chosen = [_choose(found, storage, name)[0] for name in args.overlays]
    for overlay in chosen:
        discard_overlay(overlay.path)
        print(f"discarded {overlay.path}", file=sys.stderr if args.json else sys.stdout)
    if args.json:
        JSON_ANSWER.print({"discarded": [str(overlay.path) for overlay in chosen]})
    return ExitCode.DONE
