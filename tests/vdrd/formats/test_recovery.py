"""Recovery keys: typed in any spacing they give the key back, and a slip is found and named."""

import random

import pytest

from vdrd.formats import recovery
from vdrd.model.errors import BadInput

KEY = bytes(range(7, 247, 8))
TEXT = recovery.encode(KEY)


def test_recovery_key_comes_back_however_it_is_typed() -> None:
    assert len(KEY) == recovery.KEY_BYTES
    assert [len(group) for group in TEXT.split("-")] == [7] * 8
    for typed in (TEXT, TEXT.lower(), TEXT.replace("-", " ") + "\n", TEXT.replace("-", "\r\n")):
        assert recovery.is_like(typed)
        assert recovery.decode(typed) == KEY
    misread = recovery.encode(bytes(30)).replace("0", "O")
    assert recovery.decode(misread) == bytes(30)


def test_fresh_recovery_keys_differ() -> None:
    assert recovery.generate() != recovery.generate()


def test_every_wrong_character_and_every_swap_of_neighbours_is_found_in_its_group() -> None:
    source = random.Random(1)
    letters = list(TEXT)
    for at, letter in enumerate(letters):
        if letter == "-":
            continue
        group = at // 8 + 1
        for other in set("0123456789ABCDEFGHJKMNPQRSTVWXYZ") - {letter}:
            wrong = [*letters[:at], other, *letters[at + 1 :]]
            with pytest.raises(BadInput, match=f"group {group} "):
                recovery.decode("".join(wrong))
        if letters[at + 1 : at + 2] not in ([], ["-"], [letter]):
            wrong = [*letters[:at], letters[at + 1], letter, *letters[at + 2 :]]
            with pytest.raises(BadInput, match=f"group {group} "):
                recovery.decode("".join(wrong))
    groups = TEXT.split("-")
    source.shuffle(groups)
    with pytest.raises(BadInput, match="is mistyped"):
        recovery.decode("-".join(groups))


@pytest.mark.parametrize("text", ["", TEXT[:-1], TEXT + "0", TEXT.replace(TEXT[3], "U"), "a passphrase"])
def test_what_cannot_be_a_recovery_key_is_told_from_one(text: str) -> None:
    assert not recovery.is_like(text)
    with pytest.raises(BadInput, match="8 groups of 7"):
        recovery.decode(text)
