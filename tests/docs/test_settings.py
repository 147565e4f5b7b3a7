"""The administrator's pages list every setting of every daemon with its default."""

import dataclasses
import re
from importlib import import_module
from pathlib import Path

import pytest

from vdrd.model.settings import shown
from vdrd.server.roles import ROLES

ROOT = Path(__file__).parents[2]
DAEMONS = {
    "appliance": ("vdrd.cli.appliance", "ApplianceConfig", "server.md"),
    "server": ("vdrd.server.config", "ServerConfig", "server.md"),
    "node": ("vdrd.node.config", "NodeConfig", "node.md"),
    "console": ("console.config", "ConsoleConfig", "console.md"),
    "agent": ("agent.config", "AgentConfig", "agents.md"),
}


@pytest.mark.parametrize("table", DAEMONS)
def test_page_lists_every_setting_with_its_default(table: str) -> None:
    module, name, page = DAEMONS[table]
    settings = getattr(import_module(module), name)()
    text = ROOT.joinpath("docs/admin", page).read_text()
    section = text.partition(f"## Settings: `[{table}]`\n")[2].partition("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]*)`? \|", section, re.MULTILINE))
    lines = shown(table, settings).splitlines()[1:]
    actual = dict(line.split(" = ", 1) for line in lines if " = " in line)
    unset = {field.name: "not set" for field in dataclasses.fields(settings) if field.name not in actual}
    assert documented == actual | unset


def test_roles_in_the_admin_guide_are_those_of_the_server() -> None:
    text = ROOT.joinpath("docs/admin/server.md").read_text()
    table = text.partition("| role | may |")[2].partition("\n\n")[0]
    named = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert named == list(ROLES)
