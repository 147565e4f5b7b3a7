"""Takes every right from this process but to compute and to use the descriptors it has.

For a process that reads hostile bytes. No user id of its own where it may change it, no new privileges,
bounded memory,
no files, and a filter under which the kernel refuses all but a few system calls.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
from contextlib import suppress

MEMORY_BYTES_MAX = 768 << 20
_CPU_SECONDS_MAX = 3600
_NOBODY = 65534
_SET_NO_NEW_PRIVS, _SET_SECCOMP, _SET_DUMPABLE = 38, 22, 4
_FILTER_MODE = 2
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050001, 0x80000000
_CALLS = {
    # read write close fstat poll mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn writev
    # sched_yield
    # mremap madvise exit gettimeofday futex restart_syscall clock_gettime exit_group ppoll getrandom
    "x86_64": (
        0xC000003E,
        (0, 1, 3, 5, 7, 9, 10, 11, 12, 13, 14, 15, 20, 24, 25, 28, 60, 96, 202, 219, 228, 231, 271, 318),
    ),
    "aarch64": (
        0xC00000B7,
        (
            63,
            64,
            57,
            80,
            222,
            226,
            215,
            214,
            134,
            135,
            139,
            66,
            124,
            216,
            233,
            93,
            169,
            98,
            128,
            113,
            94,
            73,
            278,
        ),
    ),
}
"""By machine: its audit number and the calls that a running interpreter needs for memory and for open
descriptors."""


class _Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


def confine() -> None:
    """Do it, for good. Raises OSError if the kernel does not take the filter or none is known here; what an
    outer sandbox forbids to set (user ids, limits) it has set already."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    libc = ctypes.CDLL(None, use_errno=True)
    _control(libc, _SET_DUMPABLE, 0)
    _control(libc, _SET_NO_NEW_PRIVS, 1)
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES_MAX),
        (resource.RLIMIT_CPU, _CPU_SECONDS_MAX),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, (most, most))
    _filter_calls(libc)


def _control(libc: ctypes.CDLL, option: int, value: int) -> None:
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _filter_calls(libc: ctypes.CDLL) -> None:
    known = _CALLS.get(platform.machine())
    if known is None:
        raise OSError(errno.ENOSYS, f"no filter of system calls is known for {platform.machine()}")
    architecture, calls = known
    program = [
        (_LOAD, 0, 0, 4),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
    ]
    for i, call in enumerate(calls):
        program.append((_JUMP_EQUAL, len(calls) - i, 0, call))
    program += [(_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filled = _Program(len(program), ctypes.cast(buffer, ctypes.c_void_p))
    if libc.prctl(_SET_SECCOMP, ctypes.c_ulong(_FILTER_MODE), ctypes.byref(filled), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
