"""Sizes, durations and tables read the same everywhere."""

import io

import pytest

from vdrd.cli.output import bytes_text, print_table, rate_text, seconds_text
from vdrd.cli.progress import ProgressLine
from vdrd.model.progress import Progress


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1536, "1.50 KiB"),
        (10 * 1024, "10.0 KiB"),
        (812 << 20, "812 MiB"),
        (1 << 40, "1.00 TiB"),
        ((1 << 70) - 1, "1024 EiB"),
    ],
)
def test_bytes_text_shows_three_digits(count: int | None, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0851, "85 ms"),
        (0.9999, "1.0 s"),
        (4.21, "4.2 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7620, "2 h 07 min"),
    ],
)
def test_seconds_text_uses_the_unit_that_fits(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_rate_text_without_time_is_a_dash() -> None:
    assert rate_text(1 << 30, 2) == "512 MiB/s"
    assert rate_text(5, 0) == "-"


def test_print_table_aligns_the_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "size"], [["a", 1], ["longer", 100]], right=["size"])
    assert capsys.readouterr().out == "name    size\na          1\nlonger   100\n"


def test_progress_off_a_terminal_prints_a_line_every_ten_seconds() -> None:
    now = [0.0]
    stream = io.StringIO()
    with ProgressLine(stream, lambda: now[0]) as line:
        for second in range(25):
            now[0] = float(second)
            line(Progress("reading", done_bytes=second << 20, total_bytes=100 << 20))
    assert stream.getvalue().splitlines() == [
        "reading  0% of 100 MiB",
        "reading  10% of 100 MiB  1.00 MiB/s",
        "reading  20% of 100 MiB  1.00 MiB/s",
    ]
