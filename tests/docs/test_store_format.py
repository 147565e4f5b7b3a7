"""docs/formats/store.md says what the code does: every number and every context in its tables."""

import json
import re
import struct
from datetime import UTC, datetime
from pathlib import Path

from native import chunk, diskmap
from native import index as native_index
from native.aead import NONCE_BYTES
from vdrd.formats import (
    book,
    damage,
    index,
    keys,
    live,
    lock,
    pack,
    point,
    recovery,
    slots,
    storage,
    verified,
)
from vdrd.formats.keys import RootKeys
from vdrd.model import storage_time
from vdrd.model.chunks import CHUNK_BYTES_MAX, ChunkKind
from vdrd.model.storage import COMPRESSION_LEVELS, Encryption, KeyMaterial, SlotKind
from vdrd.store.index import SEGMENTS_MAX
from vdrd.store.packs import PACK_BYTES
from vdrd.store.points import UNLISTED_MAX

TEXT = Path(__file__).parents[2].joinpath("docs", "formats", "store.md").read_text()
SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}


def test_contexts_of_derived_keys_are_those_of_the_code() -> None:
    written = set(re.findall(r"`(vdr 2026 [a-z ]+)`", TEXT))
    assert written == {value for name, value in vars(keys).items() if name.startswith("CONTEXT_")}


def _layout_bytes(row: str) -> int:
    """Length of a layout as the tables write it: 'magic `8 chars`, version u16, reserved, name 16, ...'."""
    total = 0
    for part in re.sub(r"\([^)]*\)", "", row).split(","):
        word = part.strip()
        if match := re.search(r"magic `(\w+)`", word):
            total += len(match.group(1))
        elif "CRC-32C" in word:
            total += 4
        elif match := re.search(r"(u8|u16|u32|u64)\b", word):
            total += SIZES[match.group(1)]
        elif match := re.search(r"(\d+)$", word):
            total += int(match.group(1))
        else:
            raise AssertionError(word)
    return total


def test_headers_as_written_have_the_length_they_claim() -> None:
    for magic, layout in (
        (pack.HEADER_MAGIC, pack.HEADER),
        (index.MAGIC, index.HEADER),
        (point.MAGIC, point.HEADER),
        (live.MAGIC, live.HEADER),
        (book.MAGIC, book.HEADER),
        (damage.MAGIC, damage.HEADER),
        (verified.MAGIC, verified.HEADER),
    ):
        row = re.search(rf"\| header, 64 bytes \| (magic `{magic.decode()}`.*?) \|\n", TEXT)
        assert row is not None, magic
        assert _layout_bytes(row.group(1)) == 64 == layout.size
    for word, magic, layout in (
        ("lock", lock.LOCK_MAGIC, lock.LOCK_HEADER),
        ("guard", lock.GUARD_MAGIC, lock.GUARD_HEADER),
    ):
        row = re.search(rf"\| {word}, 64 bytes \| (magic `{magic.decode()}`.*?) \|\n", TEXT)
        assert row is not None, magic
        assert _layout_bytes(row.group(1)) == 64 == layout.size
    trailer = re.search(r"\| trailer, 64 bytes \| (.*?) \|\n", TEXT)
    assert trailer is not None
    assert pack.TRAILER.size == pack.TRAILER_BYTES == 64


def test_record_table_adds_up_to_the_header_of_a_record() -> None:
    table = TEXT.split("chunk **records**")[1].split("Encryption:")[0]
    rows = re.findall(r"^\| (\d+) \| (\d+) \|", table, re.MULTILINE)
    at = 0
    for offset, length in rows:
        assert int(offset) == at
        at += int(length)
    assert at == chunk.RECORD_HEADER_BYTES == 56


def test_entries_have_the_lengths_written() -> None:
    assert "one 48-byte entry per record" in TEXT
    assert pack.ROW.size == pack.ROW_BYTES == chunk.ROW_BYTES == 48
    assert "| packs | 32 bytes each" in TEXT
    assert index.PACK_ROW.size == index.PACK_ROW_BYTES == 32
    assert "| entries | 48 bytes each" in TEXT
    assert index.ENTRY_BYTES == native_index.ENTRY_BYTES == 48
    assert "| packs | 24 bytes each" in TEXT
    assert live.ROW.size == 24
    assert "sorted: point id 16, until u64, flags u8, reserved 7" in TEXT
    assert lock.ROW.size == 32
    assert f"version u16 = {live.VERSION}" in TEXT
    assert f"{storage_time.RESTART_MAX.days} days ahead" in TEXT
    assert f"read more than {UNLISTED_MAX} points" in TEXT
    assert f"1 part in {storage_time.SLEW}" in TEXT
    assert "| marks | 56 bytes each" in TEXT
    assert damage.ROW.size == 56
    assert "| packs | 16 bytes each" in TEXT
    assert pack.PACK_ID_BYTES == 16
    assert "at most 64 MiB of them" in TEXT
    assert damage.FILE_BYTES_MAX == 64 << 20


def test_numbers_of_the_text_are_those_of_the_code() -> None:
    assert "A chunk is 1 to 4 MiB" in TEXT
    assert CHUNK_BYTES_MAX == chunk.CHUNK_BYTES_MAX == 4 << 20
    assert "closed at 32 MiB" in TEXT
    assert PACK_BYTES == 32 << 20
    assert "under 1 GiB" in TEXT
    assert pack.PACK_BYTES_MAX == 1 << 30
    assert f"more than {SEGMENTS_MAX}, the smallest first" in TEXT
    assert "blocks of 65,536" in TEXT
    assert storage.BLOCK_BYTES == 65536
    assert "covers 256 children" in TEXT
    assert diskmap.FANOUT == 256
    assert "at most 4 MiB" in TEXT
    assert point.BODY_BYTES_MAX == 4 << 20
    assert "up to 256" in TEXT
    assert keys.EPOCHS_MAX == 256
    assert f"(zstd {', '.join(map(str, COMPRESSION_LEVELS.values()))})" in TEXT
    assert list(storage.CUT_BYTES) == [16384, 65536, 262144]


def test_slots_are_as_written() -> None:
    assert {f"`{kind}`" for kind in SlotKind} <= set(re.findall(r"`[a-z-]+`", TEXT.split("### Slots")[1]))
    assert "16 and 12 bytes, hex" in TEXT
    assert (slots.SALT_BYTES, NONCE_BYTES) == (16, 12)
    assert f"at least {slots.SECRET_BYTES_MIN} bytes" in TEXT
    assert f"the {recovery.KEY_BYTES} bytes of a recovery key" in TEXT
    assert (recovery.GROUPS, recovery.GROUP_CHARACTERS) == (8, 6 + 1)
    assert f"alphabet `{recovery._ALPHABET}`" in TEXT
    slot = slots.new_slot(
        RootKeys((bytes(32),)), bytes(16), KeyMaterial(bytes(32)), created=datetime.now(UTC)
    )
    table = TEXT.split("| field of a slot |")[1].split("\n\n")[0]
    names = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    fields = {name.strip("` ") for row in names for name in row.split(",")}
    assert fields == {*json.loads(slots.encode_slot(slot)), "root_keys"}


def test_kinds_and_encryptions_are_those_of_the_code() -> None:
    kinds = re.search(r"\(1 data,\s*2 map node, 3 manifest segment, 4 manifest node\)", TEXT)
    assert kinds is not None
    assert [kind.value for kind in ChunkKind] == [1, 2, 3, 4]
    assert [keys.ALGORITHMS[encryption].value for encryption in Encryption] == [0, 1, 2]


def test_node_layout_is_as_written() -> None:
    ids = bytes([7]) * 32 + bytes(255 * 32)
    node = diskmap.node_encode(1, ids, bytes(1) + b"\x01" * 255)
    assert node == b"VM\x01\x01" + struct.pack("<HH", 1, 0) + b"\x01" + bytes(31) + bytes([7]) * 32
