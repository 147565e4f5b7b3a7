"""A disk written as an image of a hypervisor's format, by `qemu-img`, which reads it over a socket of its
own.

Nothing listens: the socket is a pair, one end handed to the program. Holes and zeros take no space where the
format can
say so.
"""

import ipaddress
import os
import re
import secrets
import shutil
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from native.disk import Disk
from native.nbd import NbdServer, NbdSettings
from vdrd.disk.source import DiskSource
from vdrd.model.errors import BadInput, StorageFull, TargetOccupied, TargetRefused, VdrError
from vdrd.model.progress import Cancel, Progress, ProgressSink
from vdrd.model.reports import RestoreReport

_EXPORT = "disk"
_HERE = ipaddress.ip_network("127.0.0.1/32")
_PERCENT = re.compile(rb"\((\d+\.\d+)/100%\)")


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """A format as `qemu-img` names it."""

    suffix: str
    driver: str
    options: str


FORMATS = {
    "qcow2": ImageFormat("qcow2", "qcow2", "compat=1.1"),
    "vmdk": ImageFormat("vmdk", "vmdk", "subformat=streamOptimized"),
    "vmdk-flat": ImageFormat("vmdk", "vmdk", "subformat=monolithicFlat"),
    "vhd": ImageFormat("vhd", "vpc", "subformat=dynamic,force_size=on"),
    "vhdx": ImageFormat("vhdx", "vhdx", "subformat=dynamic"),
}
"""By the name a user gives. `vmdk` is what an OVA holds; `vmdk-flat` has its content in a second file beside
it."""


class ConversionFailed(VdrError):
    """`qemu-img` could not write the image."""

    code = "conversion-failed"
    template = "cannot write {path}: {reason}"


def write_image(
    disk: DiskSource,
    target_path: Path,
    image_format: ImageFormat,
    *,
    overwrite: bool,
    progress: ProgressSink,
    cancel: Cancel,
) -> RestoreReport:
    """Write a disk to the file `target_path`. It is there when it is whole, not before.

    Raises TargetOccupied, TargetRefused, StorageFull, ConversionFailed, Cancelled; BadInput without
    `qemu-img`.
    """
    if target_path.exists() and not target_path.is_file():
        raise TargetRefused(path=target_path, reason="it is no file")
    if target_path.exists() and not overwrite:
        raise TargetOccupied(path=target_path, reason="it exists")
    program = shutil.which("qemu-img")
    if program is None:
        raise BadInput(what="qemu-img is not installed (Debian: qemu-utils)")
    folder = target_path.with_name(f"vdr-{secrets.token_hex(8)}.partial")
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise TargetRefused(path=target_path, reason=(error.strerror or "error").lower()) from error
    try:
        made = folder / target_path.name
        _convert(program, disk.native, made, image_format, progress=progress, cancel=cancel)
        # The descriptor last: it names the others.
        names = sorted(folder.iterdir(), key=lambda path: path == made)
        written_bytes = sum(path.stat().st_blocks * 512 for path in names)
        for path in names:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.rename(target_path.with_name(path.name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return RestoreReport(logical_bytes=disk.size_bytes, written_bytes=written_bytes)


def _convert(
    program: str, disk: Disk, made: Path, image_format: ImageFormat, *, progress: ProgressSink, cancel: Cancel
) -> None:
    server = NbdServer(NbdSettings())
    try:
        server.export(
            disk, export_id=secrets.token_bytes(16), name=_EXPORT, networks=(_HERE,), is_writable=False
        )
        ours, theirs = socket.socketpair()
        with theirs:
            server.serve(ours.detach(), _HERE.network_address, "qemu-img")
            source = f"driver=nbd,export={_EXPORT},server.type=fd,server.str={theirs.fileno()}"
            words = [program, "convert", "-p", "-W", "-m", "4", "--image-opts"]
            words += ["-O", image_format.driver, "-o", image_format.options, source, str(made)]
            process = subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[theirs.fileno()]
            )
        with process:
            try:
                _watch(process, disk.size_bytes, progress, cancel)
            except BaseException:
                process.kill()
                raise
            assert process.stderr is not None
            said = process.stderr.read().decode("utf-8", "replace").strip()
        if process.returncode != 0:
            if "No space left" in said:
                raise StorageFull(path=made.parent.parent)
            reason = said.splitlines()[-1] if said else f"qemu-img ended with {process.returncode}"
            raise ConversionFailed(path=made.parent.parent / made.name, reason=reason)
    finally:
        server.close()


def _watch(
    process: "subprocess.Popen[bytes]", size_bytes: int, progress: ProgressSink, cancel: Cancel
) -> None:
    """Pass progress on until the program ends its output."""
    assert process.stdout is not None
    while part := os.read(process.stdout.fileno(), 4096):
        cancel.check()
        found = _PERCENT.findall(part)
        if found:
            with suppress(ValueError):
                progress(Progress("restore", int(float(found[-1]) * size_bytes / 100), size_bytes))
