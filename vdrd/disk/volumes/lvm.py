"""LVM2: physical volumes, and logical volumes put together from the text that describes a volume group.

Linear and striped volumes, and mirrors through their first image. Thin volumes, snapshots, caches and RAID 4
to 6 are
told, not read.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from vdrd.disk.volumes.ranges import Joined, Range, Segment, Stripe, Unreadable

_LABEL = b"LABELONE"
_AREA_MAGIC = b" LVM2 x[5A%r0N*>"
_SECTOR_BYTES = 512
_TEXT_BYTES_MAX = 1 << 20
_DEPTH_MAX = 16
_SEGMENTS_MAX = 100_000
_MIRRORS = {"mirror", "raid1"}
Value = str | int | list["Value"] | dict[str, "Value"]
Section = dict[str, Value]


class PhysicalVolume(NamedTuple):
    """A range that belongs to a volume group."""

    uuid: str
    whole: Range
    text: bytes
    """The description of its group; empty if it keeps none."""


@dataclass
class LogicalVolume:
    """One volume to show. `whole` is None when it cannot be read, and `problem` says why."""

    group: str
    name: str
    uuid: str
    size_bytes: int
    whole: Range | None = None
    problem: str = ""


def physical_volume(whole: Range) -> PhysicalVolume | None:
    """The physical volume in a range, None if there is none. Raises Unreadable when it is damaged."""
    for sector in range(4):
        if (sector + 1) * _SECTOR_BYTES > whole.size_bytes:
            return None
        raw = whole.read(sector * _SECTOR_BYTES, _SECTOR_BYTES)
        if raw.startswith(_LABEL) and raw[24:28] == b"LVM2":
            return _volume_of(whole, raw)
    return None


def _volume_of(whole: Range, raw: bytes) -> PhysicalVolume:
    at = struct.unpack_from("<I", raw, 20)[0]
    uuid = raw[at : at + 32].decode("ascii")
    areas: list[list[tuple[int, int]]] = [[], []]
    at += 40
    for area in areas:
        while (place := struct.unpack_from("<QQ", raw, at)) != (0, 0):
            area.append(place)
            at += 16
        at += 16
    texts = [_text_of(whole, start) for start, _ in areas[1]]
    return PhysicalVolume(uuid, whole, max(texts, default=b"", key=_sequence))


def _text_of(whole: Range, start: int) -> bytes:
    header = whole.read(start, _SECTOR_BYTES)
    if header[4:20] != _AREA_MAGIC:
        raise Unreadable("the description of its volume group is damaged")
    area_bytes = struct.unpack_from("<Q", header, 32)[0]
    offset, length = struct.unpack_from("<QQ", header, 40)
    if length > min(_TEXT_BYTES_MAX, area_bytes) or not _SECTOR_BYTES <= offset <= area_bytes:
        return b""
    tail = min(length, area_bytes - offset)
    text = whole.read(start + offset, tail)
    if tail < length:
        # The area is a ring behind its header.
        text += whole.read(start + _SECTOR_BYTES, length - tail)
    return text.rstrip(b"\0")


def _sequence(text: bytes) -> int:
    found = re.search(rb"\bseqno = (\d{1,18})", text)
    return int(found.group(1)) if found else -1


def logical_volumes(found: list[PhysicalVolume]) -> list[LogicalVolume]:
    """Logical volumes of all groups that the physical volumes describe, by group and name."""
    texts: dict[str, bytes] = {}
    for volume in found:
        if not volume.text:
            continue
        group_id = _group_id(volume.text)
        if _sequence(volume.text) > _sequence(texts.get(group_id, b"")):
            texts[group_id] = volume.text
    ranges = {volume.uuid: volume.whole for volume in found}
    volumes = [volume for text in texts.values() for volume in _Group(text, ranges).volumes()]
    return sorted(volumes, key=lambda volume: (volume.group, volume.name))


def _group_id(text: bytes) -> str:
    found = re.search(rb'\bid = "([^"]{1,64})"', text)
    return found.group(1).decode("ascii", "replace") if found else ""


class _Group:
    def __init__(self, text: bytes, ranges: dict[str, Range]) -> None:
        top = parse_text(text.decode("utf-8", "replace"))
        self.name, group = next((name, value) for name, value in top.items() if isinstance(value, dict))
        self._extent_bytes = _number(group, "extent_size") * _SECTOR_BYTES
        self._logical = _section(group, "logical_volumes")
        self._physical: dict[str, tuple[Range | None, int]] = {}
        for name in _section(group, "physical_volumes"):
            one = _section(_section(group, "physical_volumes"), name)
            uuid = str(one.get("id", "")).replace("-", "")
            self._physical[name] = (ranges.get(uuid), _number(one, "pe_start") * _SECTOR_BYTES)

    def volumes(self) -> Iterator[LogicalVolume]:
        """Those that are not parts of others."""
        for name in self._logical:
            one = _section(self._logical, name)
            status = one.get("status")
            if not isinstance(status, list) or "VISIBLE" not in status:
                continue
            volume = LogicalVolume(self.name, name, str(one.get("id", "")), 0)
            try:
                parts = list(self._segments(one))
                volume.size_bytes = sum(length for _, length, _ in parts)
                volume.whole = self._joined(parts, _DEPTH_MAX)
            except Unreadable as error:
                volume.problem = str(error)
            yield volume

    def _segments(self, volume: Section) -> list[tuple[int, int, Section]]:
        found = []
        for name, value in volume.items():
            if name.startswith("segment") and isinstance(value, dict):
                start = _number(value, "start_extent") * self._extent_bytes
                found.append((start, _number(value, "extent_count") * self._extent_bytes, value))
        return sorted(found, key=lambda segment: segment[0])

    def _joined(self, parts: list[tuple[int, int, Section]], depth: int) -> Range:
        if not depth or len(parts) > _SEGMENTS_MAX:
            raise Unreadable("its description goes in a circle")
        segments = []
        at = 0
        for start, length, section in parts:
            if start != at or not length:
                raise Unreadable("its description has gaps")
            segments.append(self._segment(start, length, section, depth))
            at += length
        if not segments:
            raise Unreadable("it has no content")
        return Joined(segments)

    def _segment(self, start: int, length: int, section: Section, depth: int) -> Segment:
        kind = section.get("type")
        if kind in _MIRRORS:
            return Segment(start, length, length, (Stripe(self._first_image(section, depth), start),))
        if kind not in ("striped", "linear"):
            raise Unreadable(f"volumes of the kind {kind} cannot be read")
        listed = section.get("stripes")
        count = _number(section, "stripe_count")
        if not isinstance(listed, list) or len(listed) != 2 * count or not count:
            raise Unreadable("its description is damaged")
        stripes = tuple(self._stripe(listed[i], listed[i + 1]) for i in range(0, 2 * count, 2))
        stripe_bytes = length if count == 1 else _number(section, "stripe_size") * _SECTOR_BYTES
        if not stripe_bytes:
            raise Unreadable("its description is damaged")
        return Segment(start, length, stripe_bytes, stripes)

    def _first_image(self, section: Section, depth: int) -> Range:
        names = section.get("raids", section.get("mirrors"))
        if not isinstance(names, list):
            raise Unreadable("its description is damaged")
        for name in names:
            image = self._logical.get(name) if isinstance(name, str) and "_rmeta_" not in name else None
            if isinstance(image, dict):
                return self._joined(self._segments(image), depth - 1)
        raise Unreadable("its description is damaged")

    def _stripe(self, name: Value, extent: Value) -> Stripe:
        if not isinstance(name, str) or not isinstance(extent, int):
            raise Unreadable("its description is damaged")
        whole, start = self._physical.get(name, (None, 0))
        if whole is None:
            raise Unreadable(f"the physical volume {name} of its group is not on this disk")
        return Stripe(whole, start + extent * self._extent_bytes)


def _section(parent: Section, name: str) -> Section:
    found = parent.get(name, {})
    if not isinstance(found, dict):
        raise Unreadable("the description of a volume group is damaged")
    return found


def _number(parent: Section, name: str) -> int:
    found = parent.get(name)
    if not isinstance(found, int) or found < 0:
        raise Unreadable("the description of a volume group is damaged")
    return found


_TOKEN = re.compile(r'\s+|#[^\n]*|"((?:[^"\\]|\\.)*)"|(-?\d+(?:\.\d+)?)|([A-Za-z0-9_.+/-]+)|([{}\[\]=,])')


@dataclass
class _Tokens:
    text: str
    at: int = 0
    pending: list[tuple[str, str]] = field(default_factory=list)

    def take(self) -> tuple[str, str]:
        """The next token: its kind (`text`, `number`, `name`, `sign`, `end`) and what it says."""
        if self.pending:
            return self.pending.pop()
        while self.at < len(self.text):
            match = _TOKEN.match(self.text, self.at)
            if match is None:
                raise Unreadable("the description of a volume group is damaged")
            self.at = match.end()
            if match.lastindex:
                return ("text", "number", "name", "sign")[match.lastindex - 1], match.group(match.lastindex)
        return "end", ""


def parse_text(text: str) -> Section:
    """A description as nested sections. Raises Unreadable."""
    return _parse_section(_Tokens(text), _DEPTH_MAX)


def _parse_section(tokens: _Tokens, depth: int) -> Section:
    if not depth:
        raise Unreadable("the description of a volume group is too deep")
    found: Section = {}
    while True:
        kind, name = tokens.take()
        if kind == "end" or (kind, name) == ("sign", "}"):
            return found
        if kind not in ("name", "number"):
            raise Unreadable("the description of a volume group is damaged")
        match tokens.take():
            case ("sign", "{"):
                found[name] = _parse_section(tokens, depth - 1)
            case ("sign", "="):
                found[name] = _parse_value(tokens, depth)
            case _:
                raise Unreadable("the description of a volume group is damaged")


def _parse_value(tokens: _Tokens, depth: int) -> Value:
    kind, text = tokens.take()
    if kind == "text":
        return re.sub(r"\\(.)", r"\1", text)
    if kind == "number":
        return int(float(text)) if "." in text else int(text)
    if (kind, text) != ("sign", "[") or not depth:
        raise Unreadable("the description of a volume group is damaged")
    items: list[Value] = []
    while True:
        kind, text = tokens.take()
        if (kind, text) == ("sign", "]"):
            return items
        if (kind, text) == ("sign", ","):
            continue
        tokens.pending.append((kind, text))
        items.append(_parse_value(tokens, depth - 1))
