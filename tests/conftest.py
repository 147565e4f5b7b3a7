"""What every test may use: storages' directories, loop devices, network namespaces, seeded data, and the
order of the suite.

Tests run as root on a machine with loop devices and network namespaces; they use them and never skip.
"""

import logging
import os
import random
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says more about the machine's load than about the code.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

ORDER = [
    "native",
    "schemas",
    "model",
    "formats",
    "protocol",
    "store",
    "disk",
    "files",
    "net",
    "fuse_nfs",
    "jobs",
    "catalog",
    "node",
    "server",
    "agent",
    "cli",
    "crash",
    "console",
    "scripts",
    "packaging",
    "docs",
    "end_to_end",
]
"""Folders of tests/ from the lowest layer up, so that the first red line is the lowest broken one."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests marked long as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def layer(item: pytest.Item) -> int:
        folders = [part for part in item.path.relative_to(here).parts[:-1] if part != "vdrd"]
        return ORDER.index(folders[0]) if folders and folders[0] in ORDER else len(ORDER)

    items.sort(key=layer)
    if not config.getoption("--long"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.fixture(autouse=True)
def no_log_handler_left() -> Iterator[None]:
    """A program's main, called in a test, sends the log to that test's stderr: gone with the test."""
    root = logging.getLogger()
    level = root.level
    yield
    for handler in [one for one in root.handlers if type(one) is logging.StreamHandler]:
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def storage_dir(tmp_path: Path) -> Path:
    """Where a test may create a storage; does not exist yet."""
    return tmp_path / "storage"


@pytest.fixture
def seeded_bytes() -> Callable[..., bytes]:
    """`seeded_bytes(count, seed=0)`: bytes that do not compress, the same for the same seed."""
    return lambda count, seed=0: random.Random(seed).randbytes(count)


@pytest.fixture
def vdr(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`vdr("store", "points", directory)` runs the real program; `environment={...}` adds variables."""

    def run(
        *arguments: object, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("VDR_")}
        return subprocess.run(
            [Path(sys.executable).with_name("vdr"), *map(str, arguments)],
            env=clean | {"VDR_SESSION_FILE": str(tmp_path / "session.json")} | (environment or {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )

    return run


@pytest.fixture
def disk_image(tmp_path: Path) -> Callable[..., Path]:
    """`disk_image(mebibytes, seed=0)`: a sparse image of a quarter each of hole, zeros, text and noise."""

    def make(mebibytes: int, seed: int = 0) -> Path:
        path = tmp_path / f"disk-{mebibytes}-{seed}.raw"
        noise = random.Random(seed)
        with path.open("wb") as image:
            for number in range(mebibytes):
                match number % 4:
                    case 0:
                        image.seek(1 << 20, os.SEEK_CUR)
                    case 1:
                        image.write(bytes(1 << 20))
                    case 2:
                        line = f"line {number} of disk {seed}: {noise.random()}\n".encode()
                        image.write((line * (1 + (1 << 20) // len(line)))[: 1 << 20])
                    case _:
                        image.write(noise.randbytes(1 << 20))
            image.truncate(mebibytes << 20)
        return path

    return make


@pytest.fixture
def loop_device() -> Iterator[Callable[[Path], Path]]:
    """`loop_device(image)`: the image attached as a block device until the test ends."""
    with ExitStack() as stack:

        def attach(image: Path) -> Path:
            device = _output("losetup", "--find", "--show", str(image))
            stack.callback(_output, "losetup", "--detach", device)
            return Path(device)

        yield attach


@pytest.fixture
def tiny_filesystem(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """`tiny_filesystem(mebibytes)`: a mounted tmpfs of that size, to be full soon."""
    with ExitStack() as stack:

        def mount(mebibytes: int) -> Path:
            path = tmp_path / f"tiny-{uuid.uuid4().hex[:8]}"
            path.mkdir()
            _output("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "vdr-test", str(path))
            stack.callback(_output, "umount", "--lazy", str(path))
            return path

        yield mount


@pytest.fixture
def network_namespace() -> Iterator[Callable[[], str]]:
    """`network_namespace()`: name of a new namespace with its own loopback up; run in it by `nsenter
    --net=/run/netns/NAME` (`ip netns exec` remounts the root, which a chroot refuses)."""
    with ExitStack() as stack:

        def make() -> str:
            name = f"vdr-{uuid.uuid4().hex[:8]}"
            _output("ip", "netns", "add", name)
            stack.callback(_output, "ip", "netns", "delete", name)
            _output("nsenter", f"--net=/run/netns/{name}", "ip", "link", "set", "lo", "up")
            return name

        yield make


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()
