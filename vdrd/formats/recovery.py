"""Recovery keys: 240 random bits as text that a person can write down and type again.

Eight groups of seven characters. The last character of a group checks the six before it and the group's
place, so a slip of the pen is found, and named by its group, before any key is tried. Knows no slots.
"""

import os

from vdrd.model.errors import BadInput

KEY_BYTES = 30
GROUPS = 8
GROUP_CHARACTERS = 7
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's: no I, L, O and U, which are misread."""
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_SEPARATORS = str.maketrans("", "", "- \t\r\n")
_POLYNOMIAL = 0b100101
"""x^5 + x^2 + 1, primitive: any one wrong character, and any two neighbours swapped, change the check."""


def generate() -> str:
    """A fresh recovery key."""
    return encode(os.urandom(KEY_BYTES))


def encode(key: bytes) -> str:
    """The text of a key."""
    number = int.from_bytes(key, "big")
    digits = [number >> shift & 31 for shift in range(8 * KEY_BYTES - 5, -1, -5)]
    data = GROUP_CHARACTERS - 1
    groups = [digits[data * i : data * (i + 1)] for i in range(GROUPS)]
    return "-".join(
        "".join(_ALPHABET[digit] for digit in [*group, _check(i, group)]) for i, group in enumerate(groups)
    )


def _check(place: int, group: list[int]) -> int:
    """Remainder of the group, begun with its place, as a polynomial over GF(32) at the field's generator."""
    state = place + 1
    for digit in group:
        state = state << 1 ^ (_POLYNOMIAL if state & 16 else 0) ^ digit
    return state << 1 ^ (_POLYNOMIAL if state & 16 else 0)


def is_like(text: str) -> bool:
    """True if `text` can only be meant as a recovery key: that many characters of the alphabet."""
    letters = text.translate(_SEPARATORS).upper()
    return len(letters) == GROUPS * GROUP_CHARACTERS and set(letters) <= set(_VALUES)


def decode(text: str) -> bytes:
    """The key in a text, however it is spaced and whatever its case. Raises BadInput that names the wrong
    group."""
    letters = text.translate(_SEPARATORS).upper()
    if not is_like(text):
        raise BadInput(
            what=f"a recovery key has {GROUPS} groups of {GROUP_CHARACTERS} letters and digits, without U"
        )
    number = 0
    for i in range(GROUPS):
        group = [_VALUES[letter] for letter in letters[GROUP_CHARACTERS * i : GROUP_CHARACTERS * (i + 1)]]
        if _check(i, group[:-1]) != group[-1]:
            raise BadInput(what=f"group {i + 1} of the recovery key is mistyped")
        for digit in group[:-1]:
            number = number << 5 | digit
    return number.to_bytes(KEY_BYTES, "big")
