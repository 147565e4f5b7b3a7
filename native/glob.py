"""Include and exclude patterns (contract: `csrc/glob.h`)."""

from collections.abc import Sequence

from native import buffer
from native._core import lib

PATTERN_BYTES_MAX = 65535


def match(pattern: bytes, path: bytes, *, is_directory: bool = False) -> bool:
    """True if `pattern` matches `path` by itself."""
    return bool(
        lib.vdr_glob_match(
            buffer.readable(pattern), len(pattern), buffer.readable(path), len(path), is_directory
        )
    )


def rule_list(include: Sequence[bytes], exclude: Sequence[bytes]) -> bytes:
    """Patterns as the rule list that a scan takes. ValueError for a pattern that is empty or too long."""
    rules = bytearray()
    for kind, patterns in ((lib.VDR_GLOB_INCLUDE, include), (lib.VDR_GLOB_EXCLUDE, exclude)):
        for pattern in patterns:
            if not 0 < len(pattern) <= PATTERN_BYTES_MAX:
                raise ValueError("a pattern of 1 to 65,535 bytes is needed")
            rules += bytes([kind]) + len(pattern).to_bytes(2, "little") + pattern
    return bytes(rules)
