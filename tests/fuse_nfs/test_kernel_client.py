"""The Linux kernel's NFS client, in a guest because the kernel of a test machine may have none."""

import hashlib
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.fuse_nfs.guest import run_script

SERVER = """
import sys, trio
from pathlib import Path
from fuse_nfs.export import Export
from fuse_nfs.listen import ListenAddress
from fuse_nfs.server import serve_exports
from vdrd.disk.image import ImageDisk

async def main():
    with ImageDisk.open(Path(sys.argv[1]), writable=True) as disk:
        async with serve_exports(ListenAddress("127.0.0.1"), space_path=Path("/tmp")) as server:
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
  grep -q "$expected" /tmp/error || fail "$* said $(cat /tmp/error)"
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
[ "$(ls /mnt | tr '\\n' ' ')" = "point readonly " ] || fail "root: $(ls /mnt)"
cmp /mnt/point/disk.raw /mnt/readonly/disk.raw || fail "two exports of one disk differ"
expected="Permission denied"
refused sh -c "echo x >> /mnt/readonly/disk.raw"
umount /mnt
expected=""
refused mount -t nfs -o $options 10.0.2.2:/nothing /mnt
"""


def test_kernel_client_reads_writes_and_loop_mounts_the_disk(
    network_namespace: Callable[[], str], tmp_path: Path
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
    command = ["nsenter", f"--net=/run/netns/{namespace}", sys.executable, "-c", SERVER, str(image)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "nfs://127.0.0.1/readonly/disk.raw\n"
            code, console = run_script(SCRIPT, tmp_path, namespace=namespace)
        finally:
            server.terminate()
    assert code == 0, console
    assert f"GUEST-READ {before}" in console
    extract = ["debugfs", "-R", "cat /answer", image]
    found = subprocess.run(extract, check=True, capture_output=True, text=True).stdout
    assert found == "from the guest\n"
