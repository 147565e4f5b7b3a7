"""QEMU boots from a point, from the BIOS on; its writes outlive everything but the cache."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fuse_nfs.debian import make_debian_disk
from tests.fuse_nfs.guest import Guest, make_boot_disk

SCRIPT = """
echo boot >> /mnt/boots
echo "GUEST-BOOT $(wc -l < /mnt/boots)"
[ -f /mnt/written ] && echo "GUEST-FOUND $(sha256sum < /mnt/written)"
dd if=/dev/urandom of=/mnt/written bs=1M count=4 2>/dev/null
sync
echo "GUEST-WROTE $(sha256sum < /mnt/written)"
echo unsynced > /mnt/unsynced
sleep 1000
"""


@pytest.fixture
def start_export(
    network_namespace: Callable[[], str], tmp_path: Path
) -> Iterator[Callable[[Path], "Exporter"]]:
    """`start_export(storage)`: the command over one cache, in a namespace whose port 111 is free."""
    namespace = network_namespace()
    with ExitStack() as stack:

        def start(storage: Path) -> Exporter:
            exporter = Exporter(namespace, storage, tmp_path / "cache")
            stack.callback(exporter.kill)
            return exporter

        yield start


class Exporter:
    """`vdr store export` of the newest point, writable."""

    def __init__(self, namespace: str, storage: Path, cache: Path) -> None:
        program = Path(sys.executable).with_name("vdr")
        command = [
            "nsenter",
            f"--net=/run/netns/{namespace}",
            program,
            "store",
            "export",
            storage,
            "vm@latest",
        ]
        self.namespace = namespace
        self.process = subprocess.Popen(
            [*command, "--nfs", "127.0.0.1", "--writable", "--cache", cache],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("nfs://127.0.0.1/")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def boot(self, seconds: float = 120) -> Guest:
        drive = f"file={self.url},format=raw,if=virtio,cache=none"
        return Guest("-drive", drive, namespace=self.namespace, seconds=seconds)


@pytest.fixture(scope="module")
def boot_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("boot") / "boot.raw"
    make_boot_disk(path, SCRIPT)
    return path


def test_guest_boots_from_a_point_and_finds_its_writes_after_everything_was_killed(
    vdr: Callable[..., subprocess.CompletedProcess[str]],
    start_export: Callable[[Path], Exporter],
    storage_dir: Path,
    boot_disk: Path,
    tmp_path: Path,
) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    assert vdr("store", "init", storage_dir).returncode == 0
    assert vdr("store", "backup", storage_dir, "disk", boot_disk, "--object", "vm").returncode == 0
    before = hashlib.sha256(boot_disk.read_bytes()).hexdigest()

    written = ""
    for count in (1, 2):
        exporter = start_export(storage_dir)
        guest = exporter.boot()
        try:
            guest.wait_for(f"GUEST-BOOT {count}$")
            if count > 1:
                assert guest.wait_for("GUEST-FOUND").split()[1] == written
            written = guest.wait_for("GUEST-WROTE").split()[1]
        finally:
            guest.kill()
            exporter.kill()

    # Nothing of that went into the point.
    restored = tmp_path / "restored.raw"
    assert vdr("store", "restore", storage_dir, "vm@latest", restored).returncode == 0
    assert hashlib.sha256(restored.read_bytes()).hexdigest() == before


def test_guest_goes_on_when_the_server_was_killed_and_started_again(
    vdr: Callable[..., subprocess.CompletedProcess[str]],
    start_export: Callable[[Path], Exporter],
    storage_dir: Path,
    tmp_path: Path,
) -> None:
    disk = tmp_path / "running.raw"
    make_boot_disk(
        disk,
        """
for turn in 1 2 3 4 5 6 7 8; do
  dd if=/dev/urandom of=/mnt/file$turn bs=64k count=16 conv=fsync 2>/dev/null || exit 7
  sha256sum /mnt/file$turn >> /mnt/sums
  sync
  echo "GUEST-TURN $turn"
  sleep 0.3
done
echo 3 > /proc/sys/vm/drop_caches
sha256sum -c /mnt/sums || exit 8
""",
    )
    assert vdr("store", "init", storage_dir).returncode == 0
    assert vdr("store", "backup", storage_dir, "disk", disk, "--object", "vm").returncode == 0
    exporter = start_export(storage_dir)
    guest = exporter.boot()
    try:
        for turn in (2, 5):
            guest.wait_for(f"GUEST-TURN {turn}$")
            exporter.kill()
            exporter = start_export(storage_dir)
        assert guest.wait_for("GUEST-EXIT") == "GUEST-EXIT 0"
    finally:
        guest.kill()


DEBIAN_SCRIPT = """
echo boot >> /var/boots
[ -f /var/written ] && echo "GUEST-FOUND $(sha256sum < /var/written)"
dd if=/dev/urandom of=/var/written bs=1M count=32 2>/dev/null
sync
echo "GUEST-WROTE $(wc -l < /var/boots) $(sha256sum < /var/written)"
"""


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_debian_boots_to_its_login_again_with_what_it_wrote(
    vdr: Callable[..., subprocess.CompletedProcess[str]],
    start_export: Callable[[Path], Exporter],
    storage_dir: Path,
    tmp_path: Path,
) -> None:
    disk = tmp_path / "debian.raw"
    make_debian_disk(disk, DEBIAN_SCRIPT)
    assert vdr("store", "init", storage_dir).returncode == 0
    assert vdr("store", "backup", storage_dir, "disk", disk, "--object", "vm").returncode == 0
    written = ""
    for count in (1, 2):
        exporter = start_export(storage_dir)
        guest = exporter.boot(seconds=900)
        try:
            if count > 1:
                assert guest.wait_for("GUEST-FOUND").split()[1] == written
            line = guest.wait_for("GUEST-WROTE").split()
            assert line[1] == str(count)
            written = line[2]
            guest.wait_for(r"Debian GNU/Linux 12 vdr-guest ttyS0")
        finally:
            guest.kill()
            exporter.kill()
