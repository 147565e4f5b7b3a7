"""Block maps of disk points (contract: `csrc/diskmap.h`)."""

from native import buffer
from native._core import ffi, lib
from native.buffer import Buffer
from native.disk import Disk
from native.err import check
from native.reader import Reader

FANOUT: int = lib.VDR_DISKMAP_FANOUT
NODE_HEADER_BYTES: int = lib.VDR_DISKMAP_NODE_HEADER_BYTES
NODE_BYTES_MAX: int = lib.VDR_DISKMAP_NODE_BYTES_MAX
LEVELS_MAX: int = lib.VDR_DISKMAP_LEVELS_MAX


def node_encode(level: int, ids: Buffer, absent: Buffer) -> bytes:
    """Node over 256 children (`ids` 32 bytes and `absent` one byte each); empty when none is present."""
    id_array, flags = buffer.readable(ids), buffer.readable(absent)
    if len(id_array) != 32 * FANOUT or len(flags) != FANOUT:
        raise ValueError(f"a node has {FANOUT} children")
    out = bytearray(NODE_BYTES_MAX)
    written = check(lib.vdr_diskmap_node_encode(level, id_array, flags, buffer.writable(out)), "map node")
    return bytes(out[:written])


def node_decode(node: Buffer, level: int) -> tuple[bytearray, bytearray]:
    """Ids and absent flags of a node's children. NativeError 'corrupt' when it is no node of that level."""
    array = buffer.readable(node)
    ids, absent = bytearray(32 * FANOUT), bytearray(FANOUT)
    result = lib.vdr_diskmap_node_decode(
        array, len(array), level, buffer.writable(ids), buffer.writable(absent)
    )
    check(result, "map node")
    return ids, absent


def point_disk(reader: Reader, root_id: bytes | None, levels: int, size_bytes: int, block_bytes: int) -> Disk:
    """Read-only disk over a map; it keeps the reader alive."""
    root = ffi.NULL if root_id is None else buffer.key(root_id, 32)
    out = ffi.new("vdr_disk **")
    check(
        lib.vdr_disk_point_open(reader.handle, root, levels, size_bytes, block_bytes, out), "open disk point"
    )
    return Disk(out[0])


def resolve(
    reader: Reader, root_id: bytes | None, levels: int, first_block: int, blocks: int
) -> tuple[bytearray, bytearray]:
    """Ids and absent flags of a range of blocks."""
    root = ffi.NULL if root_id is None else buffer.key(root_id, 32)
    ids, absent = bytearray(32 * blocks), bytearray(blocks)
    result = lib.vdr_diskmap_resolve(
        reader.handle, root, levels, first_block, blocks, buffer.writable(ids), buffer.writable(absent)
    )
    check(result, "resolve blocks")
    return ids, absent
