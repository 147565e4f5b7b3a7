"""Every parser of the store's files: what was written comes back, and foreign bytes end in Damaged, never
elsewhere."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.aead import Algorithm
from vdrd.formats import index, live, pack, point, slots, storage
from vdrd.formats.keys import RootKeys
from vdrd.formats.point import PointKeys
from vdrd.model.errors import BadInput, Damaged, StorageNewer
from vdrd.model.points import BackupType, DiskRoot, FilesRoot, ObjectKind, Point, PointDraft
from vdrd.model.storage import Encryption, KeyMaterial, SlotKind, StorageInfo

ID = bytes(range(16))
KEY = bytes(range(32))
ROOTS = RootKeys((KEY, KEY[::-1]))
NOW = datetime(2026, 11, 23, 7, 0, 0, 123456, tzinfo=UTC)
POINT_ID = "01a2074af2d3c2eaf2df6f77d0641843"
DRAFT = PointDraft(
    object_name="db server \udcff disk",
    kind=ObjectKind.DISK,
    backup_type=BackupType.INCREMENTAL,
    root=DiskRoot(bytes(32), 3, 1 << 46, 65536),
    source="/dev/\udc80vda",
    host="höst",
    logical_bytes=1 << 46,
    new_bytes=5,
    stored_bytes=4,
    started_at=NOW,
    parent_id=POINT_ID[::-1],
    warnings=("one", "two"),
    warning_count=7,
    labels={"a": "b"},
    read_bytes=9,
)


def point_keys(algorithm: Algorithm, epoch: int = 0) -> PointKeys:
    seed = ROOTS.signing_seed(epoch)
    return PointKeys(algorithm, epoch, ROOTS.record_key(epoch), seed, point.public_key_of(seed))


@pytest.mark.parametrize("algorithm", list(Algorithm), ids=lambda algorithm: algorithm.name.lower())
@pytest.mark.parametrize(
    "draft",
    [
        DRAFT,
        replace(DRAFT, root=replace(DRAFT.root, root_id=None), parent_id=None, warnings=()),
        replace(DRAFT, kind=ObjectKind.FILES, root=FilesRoot(bytes(32), 2, 10_000_000)),
    ],
    ids=["disk", "zero-disk", "files"],
)
def test_point_comes_back_as_it_was_written(algorithm: Algorithm, draft: PointDraft) -> None:
    want = Point(POINT_ID, NOW, draft)
    data = point.encode_point(want, ID, point_keys(algorithm, 1))
    assert point.point_epoch(data, POINT_ID) == 1
    assert point.decode_point(data, POINT_ID, ID, point_keys(algorithm, 1)) == want
    for name, owner, reader in (
        (POINT_ID[::-1], ID, point_keys(algorithm, 1)),
        (POINT_ID, ID[::-1], point_keys(algorithm, 1)),
        (POINT_ID, ID, point_keys(algorithm, 0)),
    ):
        with pytest.raises(Damaged):
            point.decode_point(data, name, owner, reader)


def test_point_ids_sort_by_time() -> None:
    times = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 29)]
    ids = [point.new_point_id(time) for time in times]
    assert ids == sorted(ids)
    assert {len(point_id) for point_id in ids} == {16}


def test_pack_parts_come_back_as_they_were_written() -> None:
    header = pack.PackHeader(2, 3, 4, ID, ID[::-1], 1234567890)
    data = header.encode()
    assert pack.decode_header(data, "pack") == header
    table = pack.ROW.pack(KEY, 64, 10, 20, 1, 1, 0) * 5
    trailer = pack.encode_trailer(data, table, 1000, KEY)
    decoded = pack.decode_trailer(trailer, 1000 + len(table) + 64, "pack")
    assert (decoded.table_offset, decoded.count) == (1000, 5)
    pack.check_table(data, table, decoded, KEY, "pack")
    with pytest.raises(Damaged, match="MAC"):
        pack.check_table(data, table[::-1], decoded, KEY, "pack")
    with pytest.raises(Damaged, match="fit"):
        pack.decode_trailer(trailer, 1000 + len(table) + 65, "pack")


def test_index_head_comes_back_as_it_was_written() -> None:
    rows = [index.PackRow(i.to_bytes(16, "big"), i, i % 256, 100 + i, 1000 + i) for i in range(300)]
    data = index.encode_head(rows, 12345, ID)
    file_bytes = len(data) + 12345 * index.ENTRY_BYTES + index.MAC_BYTES
    header = index.decode_header(data[:64], file_bytes, "segment")
    assert header.entries_offset == len(data)
    assert index.decode_pack_rows(data[64:], header, "segment") == rows
    with pytest.raises(Damaged, match="short"):
        index.decode_header(data[:64], file_bytes - 1, "segment")


def test_live_counts_come_back_as_they_were_written() -> None:
    counts = live.LiveCounts({bytes([i]) * 16: (i, i + 1) for i in range(100)}, frozenset({ID.hex()}), 3)
    data = live.encode_live(counts, ID, KEY)
    assert live.decode_live(data, ID, KEY) == counts
    with pytest.raises(Damaged, match="MAC"):
        live.decode_live(data, ID, KEY[::-1])


@pytest.mark.parametrize("encryption", list(Encryption))
@pytest.mark.parametrize("compression", [None, 1, 4])
def test_storage_header_comes_back_as_it_was_written(encryption: Encryption, compression: int | None) -> None:
    info = StorageInfo(ID.hex(), NOW.replace(microsecond=0), encryption, compression, 65536)
    data = storage.encode_header(info, (KEY,), KEY)
    header = storage.decode_header(data, "here")
    assert (header.info, header.signing_keys) == (info, (KEY,))
    storage.check_header(header, KEY, "here")
    with pytest.raises(Damaged, match="MAC"):
        storage.check_header(header, KEY[::-1], "here")
    with pytest.raises(StorageNewer, match="format 2"):
        storage.decode_header(data.replace(b'"format": 1', b'"format": 2'), "here")


@pytest.mark.parametrize(
    "material",
    [
        None,
        KeyMaterial(KEY),
        KeyMaterial(b"passphrase", is_passphrase=True),
        KeyMaterial(b"any content of a file"),
    ],
    ids=["clear", "raw", "passphrase", "content"],
)
def test_slot_opens_with_its_key_and_for_its_storage_only(material: KeyMaterial | None) -> None:
    made = slots.new_slot(ROOTS, ID, material, created=NOW)
    slot = slots.decode_slot(slots.encode_slot(made), "slot")
    assert slot == made
    assert slot.epoch_count == len(ROOTS.epochs)
    assert slots.unwrap(slot, ID, material, "slot") == ROOTS
    if material is None:
        assert slot.kind is SlotKind.CLEAR
        return
    assert slots.unwrap(slot, ID[::-1], material, "slot") is None
    for other in (None, KeyMaterial(KEY[::-1]), KeyMaterial(b"other words", is_passphrase=True)):
        assert slots.unwrap(slot, ID, other, "slot") is None


@pytest.mark.parametrize("name", ["kind", "created", "epochs", "newest"])
def test_slot_with_a_changed_field_does_not_open(name: str) -> None:
    """What is told of a slot is bound to what it wraps."""
    data = slots.encode_slot(slots.new_slot(ROOTS, ID, KeyMaterial(KEY), created=NOW))
    changed = {"kind": "passphrase", "created": "2001-01-01T00:00:00+00:00", "epochs": 1, "newest": "00" * 32}
    text = json.loads(data) | {name: changed[name]}
    if name == "epochs":
        text["wrapped"] = text["wrapped"][: 2 * (32 + 16)]
    slot = slots.decode_slot(json.dumps(text).encode(), "slot")
    for material in (KeyMaterial(KEY), KeyMaterial(KEY, is_passphrase=True)):
        assert slots.unwrap(slot, ID, material, "slot") is None


def test_key_file_counts_the_same_with_and_without_a_line_end_but_raw_bytes_count_as_they_are() -> None:
    raw = bytes(31) + b"\n"
    for made, typed in (
        (b"words of a file", b"words of a file\r\n"),
        (KEY.hex().encode(), b" " + KEY.hex().upper().encode() + b"\n"),
        (KEY.hex().encode(), KEY),
        (raw, raw),
    ):
        slot = slots.new_slot(ROOTS, ID, KeyMaterial(made), created=NOW)
        assert slots.unwrap(slot, ID, KeyMaterial(typed), "slot") == ROOTS
    assert slots.unwrap(slot, ID, KeyMaterial(bytes(31)), "slot") is None


def test_passphrase_counts_the_same_however_its_accents_were_typed() -> None:
    composed, decomposed = "caf\u00e9 noir", "cafe\u0301 noir\n"
    material = KeyMaterial(composed.encode(), is_passphrase=True)
    slot = slots.new_slot(ROOTS, ID, material, created=NOW)
    typed = KeyMaterial(decomposed.encode(), is_passphrase=True)
    assert slots.unwrap(slot, ID, typed, "slot") == ROOTS


def test_secret_that_is_too_short_makes_no_slot() -> None:
    for short in (KeyMaterial(b"1234567"), KeyMaterial(b"1234567\n", is_passphrase=True)):
        with pytest.raises(BadInput, match="shorter than 8"):
            slots.new_slot(ROOTS, ID, short, created=NOW)


def test_domains_and_kinds_and_epochs_share_no_key_but_ids_outlive_a_rotation() -> None:
    sets = [ROOTS.domain(domain, epoch) for domain in (0, 1, 7) for epoch in (0, 1)]
    packs = {found.pack_root for found in sets}
    assert len(packs) == 6
    ids = {key for found in sets for key in found.chunk_keys.id_keys.values()}
    assert len(ids) == 3 * 4
    assert sets[0].chunk_keys == sets[1].chunk_keys
    assert len({found.chunk_keys.cut_key for found in sets}) == 3
    assert sets[0].pack_key(ID, Algorithm.AES_256_GCM) != sets[0].table_key(ID)


PARSERS: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
    "pack-header": (
        pack.PackHeader(1, 0, 0, ID, ID, 1).encode(),
        lambda data: pack.decode_header(data, "pack"),
    ),
    "pack-trailer": (
        pack.encode_trailer(bytes(64), bytes(96), 64, KEY),
        lambda data: pack.decode_trailer(data, 64 + 96 + 64, "pack"),
    ),
    "index-header": (
        index.encode_head([], 0, ID),
        lambda data: index.decode_header(data, 64 + 32, "segment"),
    ),
    "point": (
        point.encode_point(Point(POINT_ID, NOW, DRAFT), ID, point_keys(Algorithm.NONE)),
        lambda data: point.decode_point(data, POINT_ID, ID, point_keys(Algorithm.NONE)),
    ),
    "live": (
        live.encode_live(live.LiveCounts({ID: (1, 2)}, frozenset({ID.hex()})), ID, KEY),
        lambda data: live.decode_live(data, ID, KEY),
    ),
    "storage": (
        storage.encode_header(StorageInfo(ID.hex(), NOW, Encryption.NONE, 1, 65536), (KEY,), KEY),
        lambda data: storage.check_header(storage.decode_header(data, "x"), KEY, "x"),
    ),
    "slot": (
        slots.encode_slot(slots.new_slot(ROOTS, ID, KeyMaterial(KEY), created=NOW)),
        lambda data: slots.unwrap(slots.decode_slot(data, "slot"), ID, KeyMaterial(KEY), "slot"),
    ),
}


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_foreign_bytes_end_in_damaged(name: str, data: st.DataObject) -> None:
    good, parse = PARSERS[name]
    kind = data.draw(st.sampled_from(["junk", "cut", "flip", "splice"]))
    at = data.draw(st.integers(0, len(good) - 1))
    match kind:
        case "junk":
            bad = data.draw(st.binary(max_size=300))
        case "cut":
            bad = good[:at]
        case "flip":
            bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
        case _:
            bad = good[:at] + data.draw(st.binary(min_size=1, max_size=20)) + good[at:]
    try:
        parse(bad)
    except (Damaged, StorageNewer):
        return
    # JSON has room for differences that mean nothing, and a slot that does not open is no damage.
    assert name in ("storage", "slot")
