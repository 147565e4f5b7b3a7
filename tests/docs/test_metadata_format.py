"""docs/formats/metadata.md says what the code writes."""

import io
import re
from pathlib import Path

from vdrd.formats import metadata

PAGE = Path(__file__).parents[2].joinpath("docs/formats/metadata.md").read_text()


def test_page_states_the_lengths_and_costs_of_the_code() -> None:
    assert f"Format version {metadata.VERSION}." in PAGE
    assert f"header, {metadata.HEADER.size} bytes" in PAGE
    assert metadata.MAGIC.decode() in PAGE
    assert f"at most {metadata.PLAIN_BYTES:,} plain bytes, the {metadata.TAG_BYTES}-byte tag" in PAGE
    found = re.search(r"log2 n = (\d+), r = (\d+), p = (\d+)", PAGE)
    assert found is not None
    assert tuple(map(int, found.groups())) == metadata.SCRYPT


def test_file_read_by_the_page_alone_gives_what_was_written() -> None:
    from hashlib import scrypt

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    out = io.BytesIO()
    sealer = metadata.Sealer(out, "passphrase", (4, 8, 1))
    sealer.write(b"x" * (metadata.PLAIN_BYTES + 5))
    sealer.finish()
    raw = out.getvalue()
    header, rest = raw[:30], raw[30:]
    key = scrypt(b"passphrase", salt=header[14:30], n=1 << header[10], r=header[11], p=header[12], dklen=32)
    plain = b""
    number = last = 0
    while not last:
        length, last = int.from_bytes(rest[:4], "little"), rest[4]
        nonce = number.to_bytes(8, "little") + last.to_bytes(4, "little")
        plain += AESGCM(key).decrypt(nonce, rest[5 : 5 + length], header)
        rest, number = rest[5 + length :], number + 1
    assert (plain, rest) == (b"x" * (metadata.PLAIN_BYTES + 5), b"")
