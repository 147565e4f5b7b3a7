"""docs/formats/overlay.md says what the code writes."""

import os
import re
from pathlib import Path

from native import overlay
from native.crc32c import crc32c
from native.disk import Disk
from vdrd.disk.overlay import lower_id

PAGE = Path(__file__).parents[2].joinpath("docs/formats/overlay.md").read_text()
FIELDS = [
    [
        (int(offset), int(size), text)
        for offset, size, text in re.findall(r"^\| (\d+) \| (\d+) \| (.+) \|$", table, re.M)
    ]
    for table in PAGE.split("| offset | size | field |")[1:]
]
TRAILER, HEADER, SLOT = FIELDS


def test_tables_leave_no_gap_and_have_the_lengths_of_the_code() -> None:
    for table, length in (
        (TRAILER, overlay.TRAILER_BYTES),
        (HEADER, overlay.HEADER_BYTES),
        (SLOT, overlay.SLOT_BYTES),
    ):
        ends = [offset + size for offset, size, _ in table]
        assert [offset for offset, _, _ in table] == [0, *ends[:-1]]
        assert ends[-1] == length


def test_numbers_in_the_text_are_those_of_the_code() -> None:
    assert f"Format version {overlay.VERSION}." in PAGE
    assert f"from {overlay.BLOCK_BYTES_MIN} to {overlay.BLOCK_BYTES_MAX}" in PAGE
    assert f"`p` x {overlay.BLOCKS_PER_PAGE}" in PAGE
    assert f"{overlay.HEADER_BYTES} + `p` x {2 * overlay.SLOT_BYTES}" in PAGE
    assert (overlay.SLOT_BYTES - overlay.SLOT_HEADER_BYTES) * 8 == overlay.BLOCKS_PER_PAGE


def field(table: list[tuple[int, int, str]], start: str, raw: bytes) -> bytes:
    """Bytes of the field whose meaning begins with `start`."""
    [(offset, size)] = [(offset, size) for offset, size, text in table if text.startswith(start)]
    return raw[offset : offset + size]


def number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def test_files_read_by_the_page_alone_give_what_was_written(tmp_path: Path) -> None:
    block, size = 4096, 40000 * 4096 + 5
    made = overlay.OverlayIdentity(os.urandom(16), lower_id("point 00ff"), size, block)
    with (tmp_path / "data").open("wb+") as data, (tmp_path / "bitmap").open("wb+") as bitmap:
        overlay.create(data.fileno(), bitmap.fileno(), made)
        with (
            Disk.open_memory(size) as lower,
            overlay.Overlay.open_over(lower, data.fileno(), bitmap.fileno()) as disk,
        ):
            disk.write(3 * block, b"a" * 2 * block)
            disk.write(32513 * block + 7, b"b")
    raw = (tmp_path / "bitmap").read_bytes()
    header = raw[:4096]
    assert field(HEADER, "magic", header) == b"VDROVB1\0"
    assert number(field(HEADER, "block_bytes", header)) == block
    assert number(field(HEADER, "size", header)) == size
    assert field(HEADER, "overlay id", header) == made.overlay_id
    assert field(HEADER, "lower id", header) == made.lower_id
    assert number(field(HEADER, "CRC", header)) == crc32c(header[:4092])
    for page, blocks in ((0, {3, 4}), (1, {1})):
        slot = raw[4096 + page * 8192 :][:4096]
        assert field(SLOT, "magic", slot) == b"VOVP"
        assert number(field(SLOT, "CRC", slot)) == crc32c(made.overlay_id + slot[8:])
        assert number(field(SLOT, "page", slot)) == page
        assert number(field(SLOT, "generation", slot)) == 1
        bits = field(SLOT, "one bit", slot)
        assert {b for b in range(len(bits) * 8) if bits[b // 8] >> (b % 8) & 1} == blocks
    data_raw = (tmp_path / "data").read_bytes()
    assert data_raw[3 * block : 5 * block] == b"a" * 2 * block
    trailer = data_raw[40001 * block :]
    assert len(trailer) == 4096
    assert field(TRAILER, "magic", trailer) == b"VDROVD1\0"
    assert number(field(TRAILER, "size", trailer)) == size
    assert field(TRAILER, "overlay id", trailer) == made.overlay_id
    assert number(field(TRAILER, "CRC", trailer)) == crc32c(trailer[:4092])
