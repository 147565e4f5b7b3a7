"""How Python memory reaches the C core: any contiguous buffer, without a copy."""

from array import array
from mmap import mmap
from typing import TYPE_CHECKING, Any, TypeAlias

from native._core import ffi

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Quoted: importing numpy would double the start-up time of commands that never use it.
Buffer: TypeAlias = "bytes | bytearray | memoryview | mmap | array[Any] | NDArray[Any]"


def readable(data: Buffer, item: str = "uint8_t") -> Any:
    """C array over `data`'s memory, which it keeps alive; its `len()` counts items of type `item`."""
    return ffi.from_buffer(f"{item}[]", _unexported(data, writable=False))


def writable(data: Buffer, item: str = "uint8_t") -> Any:
    """Like `readable`, for memory that C writes to; a read-only buffer is a BufferError."""
    return ffi.from_buffer(f"{item}[]", _unexported(data, writable=True), require_writable=True)


def _unexported(data: Buffer, *, writable: bool) -> Any:
    """`data`, or for a memoryview its memory under another owner that keeps it alive.

    CPython (3.11 to 3.13) crashes when the garbage collector clears a memoryview whose memory is still
    exported: an error's traceback in a reference cycle, with the view and its C array among the locals, is
    enough. Behind the pointer made here the view has no export left.
    """
    if not isinstance(data, memoryview):
        return data
    with ffi.from_buffer(data, require_writable=writable) as array:
        pointer = ffi.gc(ffi.cast("char *", array), lambda _pointer, _view=data: None)
    return ffi.buffer(pointer, data.nbytes)


def key(data: Buffer, key_bytes: int) -> Any:
    """C array over a key, checked to have exactly `key_bytes` bytes."""
    view = readable(data)
    if len(view) != key_bytes:
        raise ValueError(f"a key of {key_bytes} bytes is needed, not {len(view)}")
    return view
