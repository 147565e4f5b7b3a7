"""Both catalogs are complete, hold the same fields, and every word a page asks for is written."""

import re
import string
from pathlib import Path

import pytest

import console
from console.pages import log, runs
from console.pages.frame import PLACES, THUMB_PLACES
from console.pages.job_wizard import STEPS
from console.words import LANGUAGES, Words, catalog
from schemas import api

FOLDER = Path(console.__file__).parent
SOURCES = [*FOLDER.rglob("*.html"), *FOLDER.rglob("*.py")]

ASKED = re.compile(
    r"""\bt(?:\.html)?\(\s*'([a-z0-9_.-]+)'\s*([,)~])|(?:\bt|words\(\))\(\s*"([a-z0-9_.-]+)"\s*[,)]"""
)


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_catalogs_have_the_same_keys() -> None:
    assert set(catalog("en")) == set(catalog("zh"))


@pytest.mark.parametrize("key", sorted(catalog("en")))
def test_text_has_the_same_fields_in_both_languages_and_is_translated(key: str) -> None:
    english, chinese = catalog("en")[key], catalog("zh")[key]
    plain = {"count"}
    assert fields(chinese) | plain == set().union(*(fields(part) for part in english.split(" | "))) | plain
    assert english.strip()
    assert chinese.strip()
    assert " | " not in chinese
    if re.search(r"[a-z]{4}", re.sub(r"\{[^}]*\}", "", english)) and key != "wizard.disk_kind":
        assert re.search(r"[\u4e00-\u9fff]", chinese), f"{key} is not Chinese: {chinese}"


def test_every_word_a_page_asks_for_is_written() -> None:
    asked = set()
    for path in SOURCES:
        for single, follows, double in ASKED.findall(path.read_text(encoding="utf-8")):
            if double or follows != "~":
                asked.add(single or double)
    assert len(asked) > 300
    assert asked - set(catalog("en")) == set()


def test_every_composed_word_is_written() -> None:
    names = [line.name for _, lines in PLACES for line in lines]
    wanted = {
        *(f"nav.{name}" for name in names),
        *(f"nav.short.{name}" for name in THUMB_PLACES),
        *(f"nav.group.{group}" for group, _ in PLACES if group),
        *(f"state.run.{state}" for state in api.RunState),
        *(f"state.presence.{presence}" for presence in api.Presence),
        *(f"word.kind.{kind}" for kind in api.ObjectKind),
        *(f"word.backup_type.{kind}" for kind in api.BackupType),
        *(f"word.run_kind.{kind}" for kind in api.RunKind),
        *(f"word.encryption.{name}" for name in api.Encryption),
        *(f"word.link_mode.{name}" for name in api.LinkMode),
        *(f"word.log_level.{name}" for name in api.LogLevel),
        *(f"wizard.step.{step}" for step in STEPS),
        *(f"log.topics.{topic}" for topic in log.TOPICS),
        *(f"log.state.{state}" for state in log.STATES),
        *(f"weekday.{day}" for day in range(1, 8)),
        *(f"state.run.{state}" for state in runs.STATES if state != "open"),
    }
    notices = set(
        re.findall(r'go\([^)]*?"([a-z]+_[a-z]+)"', "".join(p.read_text() for p in FOLDER.rglob("*.py")))
    )
    wanted |= {f"notice.{notice}" for notice in notices}
    assert wanted - set(catalog("en")) == set()
    assert {key.removeprefix("notice.") for key in catalog("en") if key.startswith("notice.")} >= notices


def test_words_choose_form_by_count_and_keep_fields_as_text() -> None:
    t = Words("en")
    assert t("sentence.hosts", count=1) == "1 host"
    assert t("sentence.hosts", count=2) == "2 hosts"
    assert Words("zh")("sentence.hosts", count=1) == "1 台主机"
    assert Words("xx").language == "en"
    with pytest.raises(KeyError):
        t("no.such.word")
    assert set(LANGUAGES) == {"en", "zh"}
