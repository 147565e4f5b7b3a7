"""The C matcher against a reference that translates patterns to regular expressions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import glob


def reference(pattern: str, path: str) -> bool:
    """Anchored patterns without sets and escapes."""
    parts = []
    for part in pattern.split("/"):
        if part == "**":
            parts.append("**")
        else:
            text = "".join("[^/]*" if c == "*" else "[^/]" if c == "?" else re.escape(c) for c in part)
            parts.append(text)
    expression = ""
    for i, part in enumerate(parts):
        is_last = i == len(parts) - 1
        if part == "**":
            expression += "[^/]+(/[^/]+)*" if is_last else "([^/]+/)*"
        else:
            expression += part + ("" if is_last else "/")
    return re.fullmatch(expression, path) is not None


names = st.text("ab.", min_size=1, max_size=3)
parts = st.one_of(st.just("**"), st.text("ab.*?", min_size=1, max_size=4))


@given(st.lists(parts, min_size=2, max_size=5), st.lists(names, min_size=1, max_size=5))
def test_anchored_patterns_match_as_the_reference(pattern: list[str], path: list[str]) -> None:
    text = "/".join(pattern)
    assert glob.match(b"/" + text.encode(), "/".join(path).encode()) == reference(text, "/".join(path))


@given(
    st.text("ab.*?", min_size=1, max_size=6).filter(lambda p: p != "**"),
    st.lists(names, min_size=1, max_size=3),
)
def test_plain_patterns_match_the_last_component(pattern: str, path: list[str]) -> None:
    assert glob.match(pattern.encode(), "/".join(path).encode()) == reference(pattern, path[-1])


@given(st.binary(max_size=30), st.binary(max_size=30), st.booleans())
def test_any_bytes_are_answered(pattern: bytes, path: bytes, is_directory: bool) -> None:
    assert glob.match(pattern, path, is_directory=is_directory) in (True, False)


def test_rule_list_refuses_an_empty_pattern() -> None:
    assert glob.rule_list([b"a"], [b"bc"]) == b"\x01\x01\x00a\x02\x02\x00bc"
    with pytest.raises(ValueError, match="pattern"):
        glob.rule_list([b""], [])
