"""What the demonstration prints: steps while they run, and the table at the end. Knows no step."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vdrd.cli.output import bytes_text, print_table, seconds_text


class DemonstrationError(Exception):
    """The demonstration cannot go on; the text says what happened and what to do."""


@dataclass
class Step:
    """A line of the table. Sizes are None where they say nothing."""

    name: str
    seconds: float = 0.0
    data_bytes: int | None = None
    new_bytes: int | None = None
    stored_bytes: int | None = None
    result: str = ""


class Report:
    """Collects steps; each is told when it begins and when it ends, so that nobody looks at a silent
    screen."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._began = time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time what happens inside; the caller fills in sizes and result."""
        step = Step(name)
        print(f"-> {name} ...", file=sys.stderr, flush=True)
        began = time.monotonic()
        yield step
        step.seconds = time.monotonic() - began
        self._steps.append(step)
        print(f"   {seconds_text(step.seconds)}  {step.result}".rstrip(), file=sys.stderr, flush=True)

    def print(self) -> None:
        """Print the table on stdout."""
        rows = [
            (
                step.name,
                bytes_text(step.data_bytes),
                bytes_text(step.new_bytes),
                bytes_text(step.stored_bytes),
                seconds_text(step.seconds),
                step.result,
            )
            for step in self._steps
        ]
        total = time.monotonic() - self._began
        rows.append(("everything", "", "", "", seconds_text(total), ""))
        print()
        heads = ["what was done", "data", "new", "stored", "time", "result"]
        print_table(heads, rows, right=["data", "new", "stored", "time"])
