"""Errors of the C core as Python exceptions, and the one check that every wrapper uses."""

import os

from native._core import ffi, lib


class NativeError(Exception):
    """A call into the C core failed.

    `code` is the stable name from `err.h` (`"corrupt"`, `"auth"`, ...). Callers at a package's boundary
    translate it into the product's error tree.
    """

    def __init__(self, code: str, what: str) -> None:
        super().__init__(f"{what}: {code}")
        self.code = code
        self.what = what


def check(result: int, what: str) -> int:
    """Return `result` if it is a count, raise OSError for `VDR_E_IO` (from errno), else NativeError naming
    `what`."""
    if result >= 0:
        return result
    if result == lib.VDR_E_IO:
        raise OSError(ffi.errno, os.strerror(ffi.errno), what)
    raise NativeError(ffi.string(lib.vdr_err_name(result)).decode(), what)
