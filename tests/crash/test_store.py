"""Power loss at any moment of a storage's life: the real program at work on a recorded disk, then what the
disk may hold at each moment, opened, checked against docs/formats/store.md, and worked with."""

import itertools
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.crash.disk import Call, CrashDisk, Kind
from tests.crash.replay import CUT, LOSSES, NAMES_FIRST, Loss, Replay
from tests.vdrd.store.conftest import KEY, back_up, disk_bytes, image_bytes
from vdrd.model.errors import ExitCode, StorageNotFound, VdrError, WrongKey
from vdrd.model.points import DiskRoot, FilesRoot, Point
from vdrd.store import KeyMaterial, Storage

SECOND_KEY = KeyMaterial(b"second secret".ljust(32, b"."))

CRASHES_PER_STEP = 6
"""That the default run looks at; all there are with `--long`."""

Root = DiskRoot | FilesRoot


@dataclass
class Story:
    """What was done to the storage, as the marks in the log tell it, and what is true of its points."""

    calls: Sequence[Call] = ()
    roots: dict[str, Root] = field(default_factory=dict)
    """Of every point there ever was. A root is a hash of all below it: the same root is the same content."""
    disks: dict[bytes, bytes] = field(default_factory=dict)
    """Content of the disks, by root id."""


@dataclass(frozen=True)
class Facts:
    """What is there at the end of a step."""

    points: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    """Of these, the points under legal hold."""
    has_storage: bool = False
    has_second_key: bool = False

    @classmethod
    def decode(cls, mark: dict[str, Any]) -> "Facts":
        return cls(
            frozenset(mark["points"]),
            frozenset(mark["held"]),
            has_storage=True,
            has_second_key=mark["second"],
        )


@dataclass(frozen=True)
class Expected:
    """A moment lies between two ends of steps: what both say is promised, what one says may be."""

    step: str
    before: Facts
    after: Facts


class Teller:
    """Runs the program on the disk and marks begin and end of each step."""

    def __init__(self, disk: CrashDisk, folder: Path) -> None:
        self.disk = disk
        self.folder = folder
        self.path = disk.path / "storage"
        self.story = Story()
        self.key_file, self.second = folder / "key", folder / "second"
        self.key_file.write_bytes(KEY.reveal())
        self.second.write_bytes(SECOND_KEY.reveal())

    def do(self, command: str, *words: object) -> None:
        """One run of `vdr store`."""
        self._mark("begin", command)
        command_line = [Path(sys.executable).with_name("vdr"), "store", *command.split(), self.path, *words]
        done = subprocess.run(
            [*map(str, command_line), "--key-file", str(self.key_file)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == ExitCode.DONE, done.stderr
        self._mark("end", command)

    def _mark(self, phase: str, step: str) -> None:
        facts: dict[str, Any] = {}
        if phase == "end":
            with Storage.open(self.disk.backing / "storage", key=KEY) as storage:
                for point in storage.points():
                    self._learn(storage, point)
                facts["points"] = [point.point_id for point in storage.points()]
                facts["held"] = sorted(held(storage))
            facts["second"] = opens(self.disk.backing / "storage", SECOND_KEY)
        self.disk.mark(json.dumps({"phase": phase, "step": step, **facts}))

    def _learn(self, storage: Storage, point: Point) -> None:
        root = point.draft.root
        self.story.roots[point.point_id] = root
        if isinstance(root, DiskRoot) and root.root_id is not None and root.root_id not in self.story.disks:
            self.story.disks[root.root_id] = disk_bytes(storage, point)

    def ids(self, object_name: str) -> list[str]:
        """Points of an object, oldest first."""
        with Storage.open(self.path, key=KEY) as storage:
            return [point.point_id for point in storage.points(object_name)]


def make_tree(root: Path, seed: int, files: int) -> None:
    noise = random.Random(seed)
    root.mkdir(exist_ok=True)
    for number in range(files):
        root.joinpath(f"{number:03}").write_bytes(noise.randbytes(noise.randrange(1, 6000)))


@pytest.fixture(scope="module")
def story(module_disk: CrashDisk, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A storage's life: two objects, changes, things forgotten, packs emptied and half emptied."""
    folder = tmp_path_factory.mktemp("sources")
    disk, tree = folder / "disk.raw", folder / "tree"
    teller = Teller(module_disk, folder)
    teller.do("init")
    content = bytearray(image_bytes(1, 500_000))
    disk.write_bytes(content)
    teller.do("backup", "disk", disk, "--object", "disk")
    teller.do("key add", "--new-key-file", teller.second)
    make_tree(tree, 1, 30)
    teller.do("backup", "files", tree, "--object", "tree")
    teller.do("lock", *teller.ids("tree"), "--hold")
    content[100_000:300_000] = image_bytes(2, 200_000)
    disk.write_bytes(content)
    teller.do("key rotate", "--also-key-file", teller.second)
    teller.do("backup", "disk", disk, "--object", "disk")
    teller.do("lock", *teller.ids("tree"), "--release-hold")
    make_tree(tree, 2, 20)
    teller.do("backup", "files", tree, "--object", "tree")
    teller.do("retain", "--object", "disk", "--keep-last", 1)
    teller.do("forget", *teller.ids("tree")[:1])
    teller.do("collect")
    disk.write_bytes(content + image_bytes(3, 200_000))
    teller.do("backup", "disk", disk, "--object", "disk")
    teller.do("forget", *teller.ids("tree"))
    teller.do("collect")
    teller.story.calls = module_disk.calls()
    return teller.story


def expectations(calls: Sequence[Call]) -> Iterator[Expected]:
    """What each moment promises: before the first call, after it, and so on."""
    now = Facts()
    marks = [json.loads(call.data) for call in calls if call.kind is Kind.MARK]
    expected = Expected("", now, now)
    yield expected
    for call in calls:
        if call.kind is Kind.MARK:
            mark = marks.pop(0)
            if mark["phase"] == "begin":
                expected = Expected(mark["step"], now, Facts.decode(marks[0]))
            else:
                now = Facts.decode(mark)
                expected = Expected(f"after {mark['step']}", now, now)
        yield expected


def held(storage: Storage) -> set[str]:
    """Points under legal hold."""
    book = storage.guard.locks()
    assert not book.damages
    return {point_id for point_id, lock in book.locks.items() if lock.is_held}


def opens(path: Path, key: KeyMaterial) -> bool:
    try:
        Storage.open(path, key=key).close()
    except WrongKey:
        return False
    return True


def moments(story: Story, per_step: int | None) -> list[tuple[int, Loss]]:
    """Crashes to look at: all, or so many within each step and two after it, more of them where something
    becomes durable or changes its name."""
    calls = story.calls
    if per_step is None:
        return [(number, loss) for number in range(1, len(calls) + 1) for loss in LOSSES]
    source = random.Random(20260101)
    turning = {Kind.SYNC, Kind.SYNC_DIRECTORY, Kind.RENAME, Kind.UNLINK, Kind.MARK}
    chosen: list[tuple[int, Loss]] = []
    steps = itertools.groupby(enumerate(expectations(calls)), key=lambda numbered: id(numbered[1]))
    for _, group in steps:
        numbers, expected = zip(*group, strict=True)
        weights = [
            4 if {call.kind for call in calls[max(0, n - 1) : n + 1]} & turning else 1 for n in numbers
        ]
        count = 2 if expected[0].before is expected[0].after else per_step
        chosen += [(n, source.choice(LOSSES)) for n in source.choices(numbers, weights, k=count)]
    return sorted(chosen, key=lambda moment: moment[0])


def check(path: Path, expected: Expected, story: Story) -> None:
    """The written invariants, of a storage as a crash left it."""
    try:
        storage = Storage.open(path, key=KEY)
    except StorageNotFound:
        assert not expected.before.has_storage
        return
    with storage:
        check_points(storage, expected, story)
    assert opens(path, SECOND_KEY) in (expected.before.has_second_key, expected.after.has_second_key)
    with Storage.open(path, key=KEY, writable=True) as storage:
        assert list(path.joinpath("tmp").iterdir()) == []
        image = path.parent / "new.raw"
        image.write_bytes(image_bytes(99, 200_000) + bytes(next(iter(story.disks.values()))[:200_000]))
        point = back_up(storage, image, "new")
        assert disk_bytes(storage, point) == image.read_bytes()
        storage.forget([point.point_id])
        storage.collect()
        check_points(storage, expected, story)
        for point_id in held(storage):
            storage.put_hold(point_id, is_held=False)
        storage.forget(storage.book.names())
        storage.collect()
    left = [one for folder in ("packs", "tmp") for one in path.joinpath(folder).rglob("*") if one.is_file()]
    assert left == []


def check_points(storage: Storage, expected: Expected, story: Story) -> None:
    assert storage.verify(read_data=True).damages == []
    found = {point.point_id: point for point in storage.points()}
    before, after = expected.before, expected.after
    assert before.points & after.points <= found.keys() <= before.points | after.points
    assert before.held & after.held <= held(storage) <= before.held | after.held
    for point_id, point in found.items():
        assert point.draft.root == story.roots[point_id]
        root_id = point.draft.root.root_id
        if isinstance(point.draft.root, DiskRoot) and root_id is not None:
            assert disk_bytes(storage, point) == story.disks[root_id]


def look_at(moments_: list[tuple[int, Loss]], story: Story, folder: Path) -> Counter[str]:
    """Build and check each; returns how many there were of each step."""
    expected = list(expectations(story.calls))
    replay = Replay(story.calls)
    steps: Counter[str] = Counter()
    target = folder / "state"
    for number, loss in moments_:
        replay.advance(number)
        replay.crash(loss, random.Random(f"{number} {loss.name}"), target)
        try:
            check(target / "storage", expected[number], story)
        except BaseException as error:
            error.add_note(
                f"after call {number} of {len(story.calls)}, {story.calls[number - 1].kind.name}"
                f" {story.calls[number - 1].name}: {loss.name}, in step {expected[number].step!r}"
            )
            raise
        steps[expected[number].step] += 1
    return steps


@pytest.mark.parametrize(
    "per_step", [CRASHES_PER_STEP, pytest.param(None, marks=pytest.mark.long)], ids=["sample", "all"]
)
@pytest.mark.timeout(7200)
def test_storage_after_power_loss_keeps_every_committed_point(
    story: Story, per_step: int | None, tiny_filesystem: Callable[[int], Path]
) -> None:
    steps = look_at(moments(story, per_step), story, tiny_filesystem(256))
    assert {"backup", "key rotate", "lock", "retain", "forget", "collect"} <= steps.keys()
    print(f"{steps.total()} crashes in {len(story.calls)} calls: {dict(steps)}")


@pytest.mark.parametrize(
    ("kind", "loss"), [(Kind.SYNC, NAMES_FIRST), (Kind.SYNC_DIRECTORY, CUT)], ids=["files", "folders"]
)
def test_storage_that_did_not_sync_would_be_found_out(
    story: Story, kind: Kind, loss: Loss, tiny_filesystem: Callable[[int], Path]
) -> None:
    calls = [call for call in story.calls if call.kind is not kind]
    careless = Story(calls, story.roots, story.disks)
    with pytest.raises((AssertionError, VdrError)):
        look_at([(len(calls), loss)], careless, tiny_filesystem(256))
