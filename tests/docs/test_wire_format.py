"""docs/formats/wire.md says what the code sends: every message, field, bound and state."""

import re
from pathlib import Path

import msgspec
import pytest

from schemas import control, link
from vdrd.net import channel, data_server, dial, listen, remote, ticket, token
from vdrd.net import link as links
from vdrd.net.enrol import CLOCK_SECONDS_MAX
from vdrd.net.identity import Role
from vdrd.protocol import frame, seal, states

PAGE = Path(__file__).parents[2].joinpath("docs/formats/wire.md").read_text()
MESSAGES = [message for family in link.FAMILIES.values() for message in family]
RECORDS = [link.DiskRootRecord, link.FilesRootRecord]


def section(title: str) -> str:
    return PAGE.split(f"{title}\n", 1)[1].split("\n#", 1)[0]


@pytest.mark.parametrize("message", [*MESSAGES, *RECORDS], ids=lambda one: one.__name__)
def test_table_of_a_message_has_its_fields_in_order_with_their_defaults(
    message: type[msgspec.Struct],
) -> None:
    tag = message.__struct_config__.tag
    text = section(f"### Record `{tag}`" if message in RECORDS else f"### `{tag}`")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| (.+) \|$", text, re.M)
    expected = []
    for one in msgspec.structs.fields(message):
        if one.required:
            expected.append((one.name, "required"))
        else:
            default = one.default if one.default is not msgspec.NODEFAULT else one.default_factory()
            expected.append((one.name, f"`{default!r}`"))
    assert [(name, default) for name, _, default, _ in rows] == expected
    assert all(meaning.strip() for _, _, _, meaning in rows)


def test_families_list_every_message_once() -> None:
    unions = {
        *link.GREETINGS.__args__,
        *link.ENVELOPES.__args__,
        *link.ENROLMENT.__args__,
        *link.DATA.__args__,
    }
    assert set(MESSAGES) == unions
    assert len(MESSAGES) == len(unions)
    headings = re.findall(r"^### `(\w+)`$", PAGE, re.M)
    assert headings == [message.__struct_config__.tag for message in MESSAGES]


def test_control_table_names_every_message_of_the_family() -> None:
    unions = (control.FromMachine, control.ToAgent, control.ToNode, control.Answers)
    tags = {message.__struct_config__.tag for union in unions for message in union.__args__}
    rows = re.findall(r"^\| `([\w-]+)` \|", section("## Messages: control family"), re.M)
    assert sorted(rows) == sorted(tags)


def test_states_are_those_of_the_tables() -> None:
    documented = set()
    for chapter, state, way, tags, target in re.findall(
        r"^\| (\w+) \| (\w+) \| (out|in) (.+) \| (\w+) \|$", section("## States"), re.M
    ):
        documented |= {(chapter, state, way, tag, target) for tag in re.findall(r"`(\w+)`", tags)}
    actual = {
        (
            name.lower(),
            state.name.lower(),
            way.name.lower(),
            message.__struct_config__.tag,
            target.name.lower(),
        )
        for name in ("GREETING", "ENROLMENT", "CONTROL", "DATA")
        for state, rows in getattr(states, name).items()
        for (way, message), target in rows.items()
    }
    assert documented == actual


def test_numbers_in_the_text_are_those_of_the_code() -> None:
    flat = " ".join(PAGE.split())
    listening, linked, backoff = listen.ListenLimits(), links.LinkLimits(), dial.Backoff()
    for text in (
        f"Protocol version {link.PROTOCOL_VERSION}.",
        f"| before the greeting is over | {link.GREETING_BYTES_MAX} |",
        f"| control links | {link.CONTROL_BYTES_MAX} |",
        f"| data channels | {link.DATA_BYTES_MAX} |",
        f"A peer has {listening.greeting_seconds:.0f} seconds",
        f"{listening.strangers_max} are kept, {listening.strangers_per_address_max} from one address",
        f"A side answers {linked.requests_max} requests at once",
        f"`ping` every {linked.heartbeat_seconds:.0f} seconds",
        f"hears nothing for {linked.dead_seconds:.0f} seconds closes",
        f"again after {backoff.first_seconds} seconds, doubling up to {backoff.longest_seconds:.0f}",
        f"is `{token.PREFIX}` and base64url",
        f"{token.ID_BYTES + token.SECRET_BYTES} bytes (id {token.ID_BYTES}, secret {token.SECRET_BYTES})",
        f"at most {CLOCK_SECONDS_MAX // 60} minutes apart",
        f"good for {ticket.TICKET_SECONDS:.0f} seconds",
        f"nothing for {channel.ANSWER_SECONDS:.0f} seconds gives up",
        f"1 to {seal.RECORD_BYTES_MAX} |",
        f"An epoch has {seal.REKEY_RECORDS} records",
        f"carries {seal.SECRET_BYTES} random bytes",
        *(f"`{role}`" for role in Role),
        *(f"`{name}`" for name in seal.ALGORITHMS),
    ):
        assert text in flat, text
    assert remote.PUTS_IN_FLIGHT == 4
    assert "four ahead" in flat
    assert data_server.WORKING_SECONDS < channel.ANSWER_SECONDS / 4
    assert frame.HEADER.size == seal.HEADER.size == 4
