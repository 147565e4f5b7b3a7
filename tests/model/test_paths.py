import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdrd.model.paths import PathUnreadable, path_of_text, text_of_path


@given(st.binary(max_size=50))
def test_text_of_a_path_gives_the_same_bytes_back_and_is_plain_text(raw: bytes) -> None:
    text = text_of_path(raw)
    assert path_of_text(text) == raw
    text.encode("utf-8")


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"/etc/passwd", "/etc/passwd"),
        ("/\u5907\u4efd".encode(), "/\u5907\u4efd"),
        (b"a\xffb", "a\\xffb"),
        (b"a\\b", "a\\\\b"),
    ],
    ids=["plain", "chinese", "not-utf8", "backslash"],
)
def test_text_of_a_path_is_what_people_read(raw: bytes, text: str) -> None:
    assert text_of_path(raw) == text


@pytest.mark.parametrize("text", ["a\\", "a\\n", "\\xg0", "\\x1"], ids=["end", "letter", "no-hex", "short"])
def test_path_with_an_escape_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(PathUnreadable):
        path_of_text(text)
