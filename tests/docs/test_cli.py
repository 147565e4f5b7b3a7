"""docs/cli.md says what the program does."""

import re
from pathlib import Path

from vdrd.model.errors import ExitCode

DOCS = Path(__file__).parents[2] / "docs"


def test_exit_code_table_lists_every_code_of_the_error_tree() -> None:
    rows = re.findall(r"^\| (\d+) \| ([a-z-]+) \|", DOCS.joinpath("cli.md").read_text(), re.MULTILINE)
    documented = {name: int(code) for code, name in rows if name != "-"}
    assert documented == {code.name.lower().replace("_", "-"): code.value for code in ExitCode}
