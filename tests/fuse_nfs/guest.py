"""Small Linux guests under QEMU without KVM: a Debian kernel, busybox, and a script to run."""

import re
import shutil
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODULES = Path("/lib/modules")
BASE_MODULES = ["virtio_pci", "virtio_blk"]
NFS_MODULES = ["virtio_net", "nfsv3", "loop"]

INIT = """#!/bin/sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module || echo "GUEST-NO-MODULE $module"; done
ifconfig lo 127.0.0.1 up
sh /script
echo "GUEST-EXIT $?"
sync
poweroff -f
"""


def kernel_release() -> str:
    """Release of the cloud kernel that is installed with its modules."""
    releases = [path.name for path in MODULES.iterdir() if (path / "modules.dep").exists()]
    return max(release for release in releases if Path(f"/boot/vmlinuz-{release}").exists())


def module_files(names: list[str]) -> list[Path]:
    """The modules and all they depend on, in the order to load them."""
    root = MODULES / kernel_release()
    depends: dict[str, tuple[str, list[str]]] = {}
    for line in root.joinpath("modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        depends[Path(path).stem.replace("-", "_")] = (path, needs.split())
    found: list[Path] = []
    for name in names:
        path, needs = depends[name]
        found += [root / needed for needed in [*reversed(needs), path] if root / needed not in found]
    return found


def make_initramfs(target: Path, script: str, modules: list[str], programs: tuple[Path, ...] = ()) -> Path:
    """An initramfs that loads `modules` and runs `script`; what the script prints is on the serial line.

    `programs` (static ones) are in its /bin.
    """
    root = target.with_suffix(".tree")
    for folder in ("bin", "dev", "proc", "sys", "mnt", "tmp", "modules"):
        (root / folder).mkdir(parents=True)
    for program in (Path("/bin/busybox"), *programs):
        shutil.copy(program, root / "bin")
    (root / "bin/sh").symlink_to("busybox")
    files = module_files(modules)
    for file in files:
        shutil.copy(file, root / "modules")
    (root / "modules/order").write_text("\n".join(file.name for file in files) + "\n")
    (root / "script").write_text(script)
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    with target.open("wb") as out:
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        subprocess.run(
            ["cpio", "--quiet", "-o", "-H", "newc"], cwd=root, input=names.encode(), stdout=out, check=True
        )
    shutil.rmtree(root)
    return target


class Guest:
    """A running guest. Its serial line is collected; `wait_for` a text in it."""

    def __init__(self, *arguments: object, namespace: str, seconds: float = 120) -> None:
        command = [
            "nsenter",
            f"--net=/run/netns/{namespace}",
            "qemu-system-x86_64",
            "-accel",
            "tcg",
            "-m",
            "384",
        ]
        command += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.console = ""
        self._timer = threading.Timer(seconds, self.process.kill)
        self._timer.start()

    def wait_for(self, pattern: str) -> str:
        """The first line that matches; fails with the console when the guest ends without one."""
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            line = raw.decode(errors="replace").strip()
            self.console += line + "\n"
            if re.search(pattern, line):
                return line
        raise AssertionError(f"the guest ended without {pattern!r}:\n{self.console}")

    def kill(self) -> None:
        """As if the host lost power."""
        self._timer.cancel()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def run_script(
    script: str, place: Path, *, namespace: str, seconds: float = 150, programs: tuple[Path, ...] = ()
) -> tuple[int, str]:
    """Run a script in a guest with network to the host's loopback; its exit code and what it printed."""
    initramfs = make_initramfs(place / "guest.cpio", script, [*BASE_MODULES, *NFS_MODULES], programs)
    guest = Guest(
        *("-kernel", f"/boot/vmlinuz-{kernel_release()}", "-initrd", initramfs),
        *("-append", "console=ttyS0 quiet panic=-1 mitigations=off"),
        *("-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile="),
        namespace=namespace,
        seconds=seconds,
    )
    try:
        line = guest.wait_for("GUEST-EXIT [0-9]+")
        return int(line.rsplit(" ", 1)[1]), guest.console
    finally:
        guest.kill()


@contextmanager
def mounted_boot_disk(path: Path, mebibytes: int) -> Iterator[Path]:
    """A raw disk with an MBR and one bootable partition with ext4, mounted until the context ends."""
    start, sectors = 2048, (mebibytes - 2) << 11
    # One bootable Linux partition, by block numbers only.
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", start, sectors)
    with path.open("wb") as file:
        file.truncate(mebibytes << 20)
        file.write(Path("/usr/lib/EXTLINUX/mbr.bin").read_bytes().ljust(446, b"\0"))
        file.write(entry + bytes(48) + b"\x55\xaa")
    attach = ["losetup", "--find", "--show", "--offset", str(start << 9), "--sizelimit", str(sectors << 9)]
    loop = subprocess.run([*attach, path], check=True, capture_output=True, text=True).stdout.strip()
    mounted = path.with_suffix(".mnt")
    mounted.mkdir()
    try:
        # extlinux of Debian 12 reads neither 64-bit block numbers nor checksums of metadata.
        make = ["mkfs.ext4", "-q", "-O", "^64bit,^metadata_csum", "-E", "lazy_itable_init=0", loop]
        subprocess.run(make, check=True)
        subprocess.run(["mount", loop, mounted], check=True)
        try:
            yield mounted
        finally:
            subprocess.run(["umount", mounted], check=True)
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
        mounted.rmdir()


def install_boot_loader(boot: Path, arguments: str) -> None:
    """Let a mounted boot disk start /boot/vmlinuz with /boot/initrd."""
    boot.joinpath("extlinux.conf").write_text(
        "DEFAULT linux\nLABEL linux\n  KERNEL /boot/vmlinuz\n  INITRD /boot/initrd\n"
        f"  APPEND console=ttyS0 quiet panic=-1 mitigations=off {arguments}\n"
    )
    subprocess.run(["extlinux", "--install", boot], check=True, capture_output=True)


def make_boot_disk(path: Path, script: str) -> None:
    """A raw disk of 48 MiB that boots by itself: MBR, a partition with ext4, extlinux, kernel and initramfs.

    The script finds the partition mounted at /mnt.
    """
    with mounted_boot_disk(path, 48) as mounted:
        boot = mounted / "boot"
        boot.mkdir()
        shutil.copy(f"/boot/vmlinuz-{kernel_release()}", boot / "vmlinuz")
        mount_disk = "mount -t ext4 /dev/vda1 /mnt || exit 9\n"
        make_initramfs(path.with_suffix(".cpio"), mount_disk + script, BASE_MODULES)
        shutil.move(path.with_suffix(".cpio"), boot / "initrd")
        install_boot_loader(boot, "")
