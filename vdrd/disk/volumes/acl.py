"""POSIX ACLs as file systems keep them, turned into what Linux gives as an extended attribute."""

import struct

from vdrd.disk.volumes.ranges import Unreadable

ACCESS, DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"
_USER, _GROUP = 2, 8
_NO_ID = 0xFFFFFFFF
_ENTRY = struct.Struct("<HHI")
_VERSION = struct.pack("<I", 2)


def from_ext(value: bytes) -> bytes:
    """Of ext2/3/4: ids stand only where there are any."""
    if value[:4] != b"\1\0\0\0":
        raise Unreadable("an ACL of an unknown version")
    out = [_VERSION]
    at = 4
    while at < len(value):
        tag, permissions = struct.unpack_from("<HH", value, at)
        at += 4
        owner = _NO_ID
        if tag in (_USER, _GROUP):
            owner = struct.unpack_from("<I", value, at)[0]
            at += 4
        out.append(_ENTRY.pack(tag, permissions, owner))
    return b"".join(out)


def from_xfs(value: bytes) -> bytes:
    """Of XFS: big-endian, an id everywhere."""
    count = struct.unpack_from(">I", value)[0]
    if 4 + 12 * count > len(value):
        raise Unreadable("an ACL longer than its attribute")
    out = [_VERSION]
    for tag, owner, permissions, _ in struct.iter_unpack(">IIHH", value[4 : 4 + 12 * count]):
        out.append(_ENTRY.pack(tag & 0xFFFF, permissions, owner if tag in (_USER, _GROUP) else _NO_ID))
    return b"".join(out)
