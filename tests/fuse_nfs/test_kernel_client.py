"""The Linux kernel's NFS client, in a guest because the kernel of a test machine may have none."""

import hashlib
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse_nfs.guest import run_script

SERVER = """
import sys, trio
from pathlib import Path
from fuse_nfs.export import Export, Scratch
from fuse_nfs.listen import ListenAddress
from fuse_nfs.server import serve_exports
from native.disk import Disk
from vdrd.disk.image import ImageDisk
from vdrd.disk.source import NativeDisk

async def main():
    image, place = map(Path, sys.argv[1:])
    with ImageDisk.open(image, writable=True) as disk, NativeDisk(Disk.open_memory(3 << 20)) as empty:
        async with serve_exports(ListenAddress("127.0.0.1"), space_path=place) as server:
            server.add(Export("files", empty, is_writable=True, scratch=Scratch(place / "scratch")))
            server.add(Export("point", disk, is_writable=True, modified_ns=10**18))
            print(server.add(Export("readonly", disk)), flush=True)
            await trio.sleep_forever()

trio.run(main)
"""

SCRIPT = """
set -e
fail() { echo "GUEST-FAILED $*"; exit 1; }
refused() {
  "$@" 2>/tmp/error && fail "not refused: $*"
  grep -Eq "$expected" /tmp/error || fail "$* said $(cat /tmp/error)"
}
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
options=vers=3,nolock,tcp,port=2049,mountport=20048,mountproto=tcp,addr=10.0.2.2
mount -t nfs -o $options 10.0.2.2:/point /mnt
[ "$(ls -a /mnt | tr '\\n' ' ')" = ". .. disk.raw " ] || fail "ls: $(ls -a /mnt)"
[ "$(stat -c '%s %F %a' /mnt/disk.raw)" = "25165824 regular file 666" ] || fail "$(stat /mnt/disk.raw)"
echo "GUEST-READ $(sha256sum < /mnt/disk.raw)"
expected="Read-only file system"
refused mkdir /mnt/new
refused rm /mnt/disk.raw
refused mv /mnt/disk.raw /mnt/other
refused ln -s x /mnt/link
refused touch /mnt/new
expected="not permitted"
refused truncate -s 0 /mnt/disk.raw
refused chmod 600 /mnt/disk.raw
dd if=/dev/urandom of=/tmp/noise bs=64k count=32 2>/dev/null
dd if=/tmp/noise of=/mnt/disk.raw bs=64k seek=160 conv=notrunc,fsync 2>/dev/null
dd if=/tmp/noise of=/mnt/disk.raw bs=4097 count=9 seek=5000 conv=notrunc 2>/dev/null
sync
echo 3 > /proc/sys/vm/drop_caches
dd if=/mnt/disk.raw bs=64k skip=160 count=32 2>/dev/null | cmp - /tmp/noise || fail "written is not read"
df /mnt >/dev/null
mkdir /tmp/inner
losetup /dev/loop0 /mnt/disk.raw
mount -t ext4 /dev/loop0 /tmp/inner
[ "$(cat /tmp/inner/hello)" = "from the host" ] || fail "file in the disk"
cp /tmp/noise /tmp/inner/noise
echo "from the guest" > /tmp/inner/answer
umount /tmp/inner
losetup -d /dev/loop0
umount /mnt
mount -t nfs -o $options 10.0.2.2:/ /mnt
[ "$(ls /mnt | tr '\\n' ' ')" = "files point readonly " ] || fail "root: $(ls /mnt)"
cmp /mnt/point/disk.raw /mnt/readonly/disk.raw || fail "two exports of one disk differ"
expected="Permission denied"
refused sh -c "echo x >> /mnt/readonly/disk.raw"
umount /mnt
expected=""
refused mount -t nfs -o $options 10.0.2.2:/nothing /mnt 2>/dev/null
"""


FILES = """
mount -t nfs -o $options 10.0.2.2:/files /mnt
cd /mnt
[ "$(ls -a | tr '\\n' ' ')" = ". .. disk.raw " ] || fail "ls: $(ls -a)"
mkdir -p a/b/c
(set -C; echo lock > a/.lck-1) || fail "exclusive"
expected="File exists"
refused sh -c "set -C; echo again > a/.lck-1"
echo one > a/file; echo two >> a/file
[ "$(cat a/file)" = "$(printf 'one\\ntwo')" ] || fail "append: $(cat a/file)"
ln a/file a/b/hard; ln -s ../a/file a/b/soft
[ "$(readlink a/b/soft)" = "../a/file" ] || fail "readlink"
[ "$(stat -c '%h %F' a/file)" = "2 regular file" ] || fail "link: $(stat a/file)"
[ "$(stat -c %i a/file)" = "$(stat -c %i a/b/hard)" ] || fail "file numbers differ"
chmod 640 a/file; touch -d @1234567890 a/file
[ "$(stat -c '%a %Y %u' a/b/hard)" = "640 1234567890 0" ] || fail "attributes: $(stat a/file)"
chown 0:0 a/file
expected="not permitted"
refused chown 1000 a/file
truncate -s 100000 a/file
[ "$(stat -c %s a/file)" = 100000 ] || fail "truncate"
echo other > a/other; mv a/other a/file
[ "$(cat a/file a/b/hard | head -1)" = other ] || fail "rename over a file"
mv a/b a/moved
[ -f a/moved/hard ] || fail "rename of a directory"
exec 3< a/file; rm a/file
[ "$(cat <&3)" = other ] || fail "removed while open"
exec 3<&-
expected="not supported|Unknown error 524"
refused mkfifo a/pipe
expected="not empty"
refused rmdir a/moved
expected="not permitted"
refused rm -f disk.raw
refused mv a/.lck-1 disk.raw
mkdir many
for i in $(seq 300); do : > many/a-file-with-a-rather-long-name-so-that-a-reply-is-not-enough-$i; done
[ "$(ls many | wc -l)" = 300 ] || fail "readdir: $(ls many | wc -l)"
rm -r many
mv disk.raw a/vm-flat.vmdk
[ "$(stat -c %s a/vm-flat.vmdk)" = 3145728 ] || fail "renamed disk"
fsx a/vm-flat.vmdk FSX_BOUND 1 fixed || fail "fsx on the disk"
fsx a/log FSX_BOUND 2 || fail "fsx on a file"
mv a/vm-flat.vmdk disk.raw
df . >/dev/null
rm -r a
[ "$(ls -a | tr '\\n' ' ')" = ". .. disk.raw " ] || fail "left over: $(ls -aR)"
cd /
umount /mnt
"""


@pytest.fixture
def fsx(tmp_path: Path) -> Path:
    """The random tester, for a guest without libraries."""
    program = tmp_path / "fsx"
    source = Path(__file__).with_name("fsx.c")
    subprocess.run(["gcc", "-O2", "-static", "-Wall", "-Wextra", source, "-o", program], check=True)
    return program


@pytest.mark.parametrize(
    "bound",
    ["600", pytest.param("600s", marks=[pytest.mark.long, pytest.mark.timeout(2400)])],
    ids=["short", "minutes"],
)
def test_kernel_client_reads_writes_and_loop_mounts_the_disk(
    network_namespace: Callable[[], str], tmp_path: Path, fsx: Path, bound: str
) -> None:
    image = tmp_path / "disk.raw"
    with image.open("wb") as file:
        file.truncate(24 << 20)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/hello").write_text("from the host")
    # A file system of 8 MiB at the beginning of the disk, noise behind it.
    subprocess.run(["mkfs.ext4", "-q", "-d", tmp_path / "tree", image, "8M"], check=True)
    with image.open("r+b") as file:
        file.seek(8 << 20)
        file.write(random.Random(7).randbytes(15 << 20))
        file.truncate(24 << 20)
    before = hashlib.sha256(image.read_bytes()).hexdigest()
    namespace = network_namespace()
    command = [
        "nsenter",
        f"--net=/run/netns/{namespace}",
        sys.executable,
        "-c",
        SERVER,
        str(image),
        str(tmp_path),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "nfs://127.0.0.1/readonly/disk.raw\n"
            script = SCRIPT + FILES.replace("FSX_BOUND", bound)
            seconds = 2300 if bound.endswith("s") else 200
            code, console = run_script(
                script, tmp_path, namespace=namespace, seconds=seconds, programs=(fsx,)
            )
        finally:
            server.terminate()
    assert code == 0, console
    assert f"GUEST-READ {before}" in console
    extract = ["debugfs", "-R", "cat /answer", image]
    found = subprocess.run(extract, check=True, capture_output=True, text=True).stdout
    assert found == "from the guest\n"
