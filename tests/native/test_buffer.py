"""How Python memory reaches C: no copy, kept alive, and never in the way of the garbage collector."""

import gc
import subprocess
import sys

import pytest
from native._core import ffi

from native import buffer

_CYCLE = """
import gc
from native import buffer

def fail(data, reach):
    array = reach(data)
    raise ValueError(len(array))

class Knot: pass

for reach in (buffer.readable, buffer.writable):
    for _ in range(50):
        knot = Knot()
        try:
            fail(memoryview(bytearray(100))[10:50], reach)
        except ValueError as error:
            knot.error = error
            error.knot = knot
        del knot
        gc.collect()
print("collected")
"""


def test_reach_error_in_a_reference_cycle_is_collected() -> None:
    # In a process of its own: a broken one does not fail, it crashes.
    ran = subprocess.run([sys.executable, "-c", _CYCLE], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "collected\n", "")


@pytest.mark.parametrize("reach", [buffer.readable, buffer.writable])
def test_reach_slice_of_a_view_sees_its_memory_without_a_copy(reach) -> None:  # type: ignore[no-untyped-def]
    memory = bytearray(range(100))
    array = reach(memoryview(memory)[10:50])
    memory[10] = 200
    assert (len(array), array[0], array[39]) == (40, 200, 49)


def test_readable_temporary_view_keeps_memory_alive() -> None:
    array = buffer.readable(memoryview(bytes([7]) * (1 << 20)), "uint32_t")
    gc.collect()
    assert len(array) == 1 << 18
    assert ffi.buffer(array)[:] == bytes([7]) * (1 << 20)


def test_readable_empty_view_is_empty() -> None:
    assert len(buffer.readable(memoryview(b""))) == 0


def test_writable_read_only_view_is_refused() -> None:
    with pytest.raises(BufferError):
        buffer.writable(memoryview(b"abc"))
