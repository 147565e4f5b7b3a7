"""Runs `vdr` as a person would, and shows each command that changes something. Knows nothing but the command
line."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from daemons import program
from report import DemonstrationError

from vdrd.model.errors import ExitCode


class Client:
    """`vdr` over REST, with a session of its own (`session_file`), so that it disturbs nobody else's."""

    def __init__(self, session_file: Path) -> None:
        self._environment = os.environ | {"VDR_SESSION_FILE": str(session_file)}

    def ask(self, *arguments: object) -> Any:
        """The JSON answer of a command that only looks."""
        return self._run(arguments, progress=False)

    def do(self, *arguments: object) -> Any:
        """The JSON answer of a command that changes something. It is shown, and so is its progress."""
        print(f"   $ vdr {shlex.join(map(str, arguments))}", file=sys.stderr, flush=True)
        return self._run(arguments, progress=True)

    def rows(self, *arguments: object) -> list[dict[str, Any]]:
        """The rows of a list command."""
        answer = self.ask(*arguments)
        rows: list[dict[str, Any]] = answer["items"] if isinstance(answer, dict) else answer
        return rows

    def _run(self, arguments: tuple[object, ...], *, progress: bool) -> Any:
        command = [program("vdr"), *map(str, arguments), "--json"]
        done = subprocess.run(
            command,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=None if progress else subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode not in (ExitCode.DONE, ExitCode.WARNINGS):
            reason = (done.stderr or done.stdout or "").strip()
            raise DemonstrationError(
                f"vdr {shlex.join(map(str, arguments))} ended with {done.returncode}: {reason}"
            )
        return json.loads(done.stdout) if done.stdout.strip() else None
