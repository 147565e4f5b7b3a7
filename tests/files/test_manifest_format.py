"""Holds docs/formats/manifest.md to the constants of the code."""

import re
import struct
from pathlib import Path

import pytest
from native._core import ffi, lib

from native import segment
from vdrd.files import content, tree
from vdrd.files.entry import FIXED, EntryFlag, EntryType
from vdrd.formats import manifest

PAGE = Path(__file__).parents[2].joinpath("docs", "formats", "manifest.md").read_text()


def _rows(heading: str) -> list[list[str]]:
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"
    ]
    return [row for row in rows if row[0].isdigit()]


def _number(text: str) -> int:
    return int(re.sub(r"\D", "", text))


def test_header_table_is_the_headers_layout() -> None:
    rows = _rows("Header of every manifest chunk")
    sizes = [int(size) for _, size, _ in rows[:-1]]
    offsets = [int(offset) for offset, _, _ in rows]
    assert offsets == [sum(sizes[:i]) for i in range(len(offsets))]
    formats = [f.rstrip("s") for f in re.findall(r"4s|[BHIQ]", manifest.HEADER.format)]
    assert [struct.calcsize(f"<{f}") if f != "4" else 4 for f in formats] == sizes
    assert offsets[-1] == manifest.HEADER.size == lib.VDR_SEGMENT_HEADER_BYTES


def test_entry_table_is_the_entrys_layout() -> None:
    rows = _rows("Entry")
    offsets = [int(row[0]) for row in rows]
    fields = [name for name, _ in ffi.typeof("vdr_entry").fields]
    assert offsets[:-1] == [ffi.offsetof("vdr_entry", name) for name in fields]
    assert offsets[-1] == ffi.sizeof("vdr_entry") == FIXED.size == segment.ENTRY_FIXED_BYTES
    sizes = [int(row[1].split()[0]) for row in rows]
    assert sizes[-1] == lib.VDR_ENTRY_EXTENT_BYTES
    assert [offsets[i + 1] - offsets[i] for i in range(len(fields))] == sizes[:-1]


def test_entry_types_and_flags_are_the_codes_numbers() -> None:
    text = {row[0]: row[2] for row in _rows("Entry")}
    words = {"symbolic": "SYMLINK", "character": "CHARACTER", "block": "BLOCK"}
    types = dict(re.findall(r"(\d) (\w+)", text["8"]))
    assert {int(n): words.get(w, w.upper()) for n, w in types.items()} == {t.value: t.name for t in EntryType}
    flags = dict(re.findall(r"(\d) (\w+)", text["9"]))
    assert {int(n): w.upper() for n, w in flags.items()} == {f.value: f.name for f in EntryFlag}
    assert sum(EntryFlag) == lib.VDR_FLAG_KNOWN
    assert _number(text["88"]) == lib.VDR_ENTRY_ATTRIBUTE_BYTES_MAX
    assert _number(text["92"]) == lib.VDR_ENTRY_EXTENTS_MAX


def test_magics_are_the_codes() -> None:
    assert re.findall(r"^\| `(VM\w\w)` \|", PAGE, re.MULTILINE) == [
        magic.decode()
        for magic in (manifest.SEGMENT_MAGIC, manifest.NODE_MAGIC, manifest.LIST_MAGIC, manifest.HEAD_MAGIC)
    ]


def test_cut_rules_are_the_codes_numbers() -> None:
    cuts = PAGE.split("## Where it is cut")[1]
    numbers = {
        line.split("|")[1].strip(): [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", line)]
        for line in cuts.splitlines()
        if line[:1] == "|"
    }
    bits = {8: lib.VDR_SEGMENT_CUT_MASK, 6: tree.NODE_CUT_MASK}
    assert all(mask == (1 << count) - 1 for count, mask in bits.items())
    assert numbers["segment"] == [8, lib.VDR_SEGMENT_BYTES_MIN, lib.VDR_SEGMENT_BYTES_MAX]
    assert numbers["node"][1:] == [6, tree.NODE_CHILDREN_MIN, tree.NODE_CHILDREN_MAX, tree.NODE_BYTES_MAX]
    assert numbers["content list, level 0"][2:] == [8, content.LEAF_EXTENTS_MIN, content.LEAF_EXTENTS_MAX]
    assert content.LEAF_CUT_MASK == (1 << 8) - 1
    assert (content.LIST_CHILDREN_MIN, content.LIST_CHILDREN_MAX, content.LIST_CUT_MASK) == (
        tree.NODE_CHILDREN_MIN,
        tree.NODE_CHILDREN_MAX,
        tree.NODE_CUT_MASK,
    )


@pytest.mark.parametrize(
    "value",
    [
        lib.VDR_PACK_FILE_BYTES_MAX,
        lib.VDR_CDC_MIN_BYTES,
        lib.VDR_CDC_AVERAGE_BYTES,
        lib.VDR_CDC_MAX_BYTES,
        lib.VDR_PACK_BYTES_MIN,
        lib.VDR_PACK_BYTES_MAX,
    ],
)
def test_content_rules_name_the_codes_numbers(value: int) -> None:
    assert f"{value:,}" in PAGE.split("## Content\n")[1]
    assert f"/ {lib.VDR_PACK_BYTES_SPREAD}" in PAGE


def test_path_hash_is_the_documents() -> None:
    def documented(seed: int, path: bytes) -> int:
        mask, prime = (1 << 64) - 1, 0x9E3779B97F4A7C15
        value = seed ^ (len(path) * prime & mask)
        for at in range(0, len(path), 8):
            value = (value ^ int.from_bytes(path[at : at + 8].ljust(8, b"\0"), "little")) * prime & mask
            value ^= value >> 32
        value = value * prime & mask
        return value ^ value >> 29

    for path in (b"", b"a", b"usr/lib", b"12345678", b"x" * 1000):
        assert segment.path_hash(77, path) == documented(77, path)
