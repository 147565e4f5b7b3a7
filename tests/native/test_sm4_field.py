"""The constants of `sm4_field.h`, derived again from the algebra of the two S-boxes and compared.

SM4's S-box is S(x) = A inv(A x + c) + c in GF(2)[x] / 0x1f5, A circulant with first row 0xa7 (bit i of a row
multiplies input bit i), c = 0xd3. AES's field is GF(2)[x] / 0x11b. An isomorphism between the two lets
instructions that were made for AES invert for SM4.
"""

import random
import re
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import pytest

SM4_POLYNOMIAL, AES_POLYNOMIAL = 0x1F5, 0x11B
SM4_CONSTANT = 0xD3
HEADER = Path(__file__).parents[2] / "native" / "csrc" / "sm4_field.h"

Matrix = list[int]  # row i: mask of the input bits whose parity is output bit i


def multiply(a: int, b: int, polynomial: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        b >>= 1
        a <<= 1
        if a & 0x100:
            a ^= polynomial
    return product


def power(x: int, exponent: int, polynomial: int) -> int:
    return reduce(lambda result, _: multiply(result, x, polynomial), range(exponent), 1)


def apply(matrix: Matrix, x: int) -> int:
    return sum(((row & x).bit_count() & 1) << i for i, row in enumerate(matrix))


def from_columns(columns: list[int]) -> Matrix:
    return [sum(((column >> i) & 1) << j for j, column in enumerate(columns)) for i in range(8)]


def compose(after: Matrix, before: Matrix) -> Matrix:
    return from_columns([apply(after, apply(before, 1 << j)) for j in range(8)])


def invert(matrix: Matrix) -> Matrix:
    origin = {apply(matrix, x): x for x in range(256)}
    assert len(origin) == 256
    return from_columns([origin[1 << j] for j in range(8)])


def circulant(row: int) -> Matrix:
    return [((row << i) | (row >> (8 - i))) & 0xFF for i in range(8)]


SM4_MATRIX = circulant(0xA7)
AES_MATRIX = circulant(0xF1)


def sm4_sbox() -> list[int]:
    inverse = [power(x, 254, SM4_POLYNOMIAL) for x in range(256)]
    return [
        apply(SM4_MATRIX, inverse[apply(SM4_MATRIX, x) ^ SM4_CONSTANT]) ^ SM4_CONSTANT for x in range(256)
    ]


def isomorphisms() -> list[Matrix]:
    """Matrices that map SM4's field to AES's: x goes to a root of SM4's polynomial."""

    def value(root: int) -> int:
        return reduce(
            lambda total, i: total ^ (power(root, i, AES_POLYNOMIAL) if SM4_POLYNOMIAL >> i & 1 else 0),
            range(9),
            0,
        )

    return [
        from_columns([power(root, i, AES_POLYNOMIAL) for i in range(8)])
        for root in range(2, 256)
        if value(root) == 0
    ]


def affine_operand(matrix: Matrix) -> int:
    """A matrix as GF2P8AFFINEQB wants it: row i in byte 7 - i."""
    return sum(row << (8 * (7 - i)) for i, row in enumerate(matrix))


def nibble_tables(matrix: Matrix, constant: int) -> list[int]:
    """The affine map as two tables: of the low nibble (with the constant), then of the high one."""
    return [apply(matrix, x) ^ constant for x in range(16)] + [apply(matrix, x << 4) for x in range(16)]


def from_function(linear: Callable[[int], int]) -> Matrix:
    return from_columns([linear(1 << j) for j in range(8)])


def first_map(byte: int) -> int:
    return byte ^ (byte << 2 & 0xFF)


def last_map(byte: int) -> int:
    return byte ^ byte >> 6


def derive() -> dict[str, list[int]]:
    iso = isomorphisms()[0]
    before, before_constant = compose(iso, SM4_MATRIX), apply(iso, SM4_CONSTANT)
    after = compose(SM4_MATRIX, invert(iso))
    after_aes = compose(after, invert(AES_MATRIX))
    after_aes_constant = apply(after_aes, 0x63) ^ SM4_CONSTANT
    # Of the linear layer: what a byte adds to its own place and the one before it, and what to the one after;
    # then into the form that words are kept in.
    first, last = (compose(before, from_function(shape)) for shape in (first_map, last_map))
    return {
        "SM4_BEFORE_MATRIX": [affine_operand(before)],
        "SM4_BEFORE_CONSTANT": [before_constant],
        "SM4_AFTER_MATRIX": [affine_operand(after)],
        "SM4_AFTER_CONSTANT": [SM4_CONSTANT],
        "SM4_LEAVE_MATRIX": [affine_operand(invert(before))],
        "SM4_FIRST_MATRIX": [affine_operand(compose(first, after))],
        "SM4_FIRST_CONSTANT": [apply(first, SM4_CONSTANT)],
        "SM4_LAST_MATRIX": [affine_operand(compose(last, after))],
        "SM4_LAST_CONSTANT": [apply(last, SM4_CONSTANT)],
        "SM4_ENTER_NIBBLES": nibble_tables(before, 0),
        "SM4_LEAVE_NIBBLES": nibble_tables(invert(before), 0),
        "SM4_FIRST_AES_NIBBLES": nibble_tables(compose(first, after_aes), apply(first, after_aes_constant)),
        "SM4_LAST_AES_NIBBLES": nibble_tables(compose(last, after_aes), apply(last, after_aes_constant)),
        "SM4_ROWS": SM4_MATRIX,
        "SM4_ROWS_CONSTANT": [SM4_CONSTANT],
    }


def written() -> dict[str, list[int]]:
    text = HEADER.read_text().replace("\\\n", " ")
    found = re.findall(r"^#define (SM4_\w+)[ ]+([^/\n]+)", text, re.MULTILINE)
    return {name: [int(number, 16) for number in re.findall(r"0x[0-9a-f]+", value)] for name, value in found}


def test_sbox_from_algebra_starts_as_in_the_standard() -> None:
    assert sm4_sbox()[:8] == [0xD6, 0x90, 0xE9, 0xFE, 0xCC, 0xE1, 0x3D, 0xB7]


@pytest.mark.parametrize("name", sorted(derive()))
def test_constant_in_the_header_is_the_derived_one(name: str) -> None:
    assert written()[name] == derive()[name]


def looked_up(name: str, byte: int) -> int:
    tables = derive()[name]
    return tables[byte & 15] ^ tables[16 + (byte >> 4)]


def test_tables_of_a_round_compose_to_the_sbox_and_the_linear_layer() -> None:
    """With words kept as ENTER leaves them: AES's S-box, two maps of a byte, three sums of rotated bytes."""
    sbox, (constant,) = sm4_sbox(), derive()["SM4_BEFORE_CONSTANT"]
    words = random.Random(1).choices(range(1 << 32), k=200)
    for word in [*words, 0, (1 << 32) - 1]:
        substituted = int.from_bytes(bytes(sbox[byte] for byte in word.to_bytes(4, "big")), "big")
        wanted = substituted
        for bits in (2, 10, 18, 24):
            wanted ^= (substituted << bits | substituted >> (32 - bits)) & 0xFFFFFFFF
        kept = [looked_up("SM4_ENTER_NIBBLES", byte) ^ constant for byte in word.to_bytes(4, "big")]
        aes = [apply(AES_MATRIX, power(byte, 254, AES_POLYNOMIAL)) ^ 0x63 for byte in kept]
        first = [looked_up("SM4_FIRST_AES_NIBBLES", byte) for byte in aes]
        last = [looked_up("SM4_LAST_AES_NIBBLES", byte) for byte in aes]
        g = [first[i] ^ last[(i + 1) % 4] for i in range(4)]
        mixed = [g[i] ^ g[(i + 1) % 4] ^ g[(i + 2) % 4] for i in range(4)]
        left = bytes(looked_up("SM4_LEAVE_NIBBLES", byte) for byte in mixed)
        assert int.from_bytes(left, "big") == wanted
