"""A Debian system on a disk that boots by itself, made by mmdebstrap from the mirrors of this machine."""

import shutil
import subprocess
from pathlib import Path

from tests.fuse_nfs.guest import install_boot_loader, mounted_boot_disk

PACKAGES = "linux-image-cloud-amd64,systemd-sysv,udev,kmod,initramfs-tools"

UNIT = """[Unit]
Description=Tell what the disk holds, and write to it
After=local-fs.target
Before=serial-getty@ttyS0.service
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/vdr-guest
StandardOutput=tty
TTYPath=/dev/ttyS0
[Install]
WantedBy=multi-user.target
"""


def make_debian_disk(path: Path, script: str) -> None:
    """A disk of 1,200 MiB whose system runs `script` at every start and then asks for a login (serial)."""
    with mounted_boot_disk(path, 1200) as root:
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", "-"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as made:
            subprocess.run(["tar", "-x", "-C", root], stdin=made.stdout, check=True)
        assert made.returncode == 0
        (root / "etc/hostname").write_text("vdr-guest\n")
        (root / "etc/fstab").write_text("/dev/vda1 / ext4 defaults 0 1\n")
        program = root / "usr/local/sbin/vdr-guest"
        program.write_text("#!/bin/sh\n" + script)
        program.chmod(0o755)
        unit = root / "etc/systemd/system/vdr-guest.service"
        unit.write_text(UNIT)
        wanted = root / "etc/systemd/system/multi-user.target.wants"
        wanted.mkdir(parents=True, exist_ok=True)
        (wanted / unit.name).symlink_to(f"../{unit.name}")
        for name in ("vmlinuz", "initrd"):
            found = max(root.joinpath("boot").glob(f"{name}*-*"))
            shutil.copy(found, root / "boot" / name)
        install_boot_loader(root / "boot", "root=/dev/vda1 rw")
