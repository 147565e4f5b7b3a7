"""The wizard and other forms: nothing typed is lost, and what is made is what was said."""

import html
import re
from datetime import UTC, datetime

import pytest
from werkzeug.datastructures import MultiDict

from console.job_form import JobForm
from console.words import Words
from schemas import api
from tests.console.conftest import World

FIELD = re.compile(r"<(?:input|option|textarea)\b[^>]*>")


def sent_by(text: str) -> list[tuple[str, str]]:
    """What a browser would send of the wizard's form on this page, without buttons."""
    form = text[text.index('id="wizard"') : text.index("</form>", text.index('id="wizard"'))]
    sent = []
    for tag in re.findall(r"<input\b[^>]*>", form):
        name, value = re.search(r'\bname="([^"]*)"', tag), re.search(r'\bvalue="([^"]*)"', tag)
        kind = re.search(r'\btype="([^"]*)"', tag)
        if name and (not kind or kind[1] not in ("checkbox", "radio") or " checked" in tag):
            sent.append((name[1], html.unescape(value[1]) if value else "on"))
    for name, inside in re.findall(r'<select\b[^>]*name="([^"]*)"[^>]*>(.*?)</select>', form, re.S):
        options = re.findall(r'<option value="([^"]*)"( selected)?', inside)
        sent.append((name, next((value for value, selected in options if selected), options[0][0])))
    for name, inside in re.findall(r'<textarea\b[^>]*name="([^"]*)"[^>]*>(.*?)</textarea>', form, re.S):
        sent.append((name, html.unescape(inside)))
    return sent


def step(world: World, text: str, *, path: str = "/jobs/new", button: str = "next", **changes: object) -> str:
    """Change fields of the page and press a button."""
    fields = MultiDict(sent_by(text))
    if fields["step"] == "when":
        fields.setdefault("storage_id", "")
        fields["storage_id"] = fields["storage_id"] or next(iter(world.server.storages))
    for name, value in changes.items():
        fields.setlist(name, value if isinstance(value, list) else [value])
    fields[button] = "1"
    return world.body(world.post(path, fields, token=fields.get("form_token")))


def test_wizard_makes_the_job_it_described(inside: World) -> None:
    host = next(host for host in inside.server.hosts.values() if host.name == "build-07")
    text = inside.text("/jobs/new")
    text = step(inside, text, kind="files", host=host.id)
    assert "Directories and files of build-07" in text
    text = step(inside, text, **{f"paths_{host.id}": "/srv/build\n/etc\n/etc\n"}, exclude="*.o\n*.tmp")
    keep = {"keep_days": "14", "keep_last": "3", "keep_weekly": "5", "keep_yearly": "2"}
    text = step(inside, text, s0_at="02:15", s0_zone="Asia/Shanghai", s0_day=["1", "5"], **keep)
    for words in (
        "2 directories of 1 host",
        "Incremental on Mon, Fri at 02:15 (Asia/Shanghai)",
        "The newest 3 points of each object are kept. Points are kept for 14 days.",
        "The last point of each of the last 2 years is kept.",
        'value="Files of build-07"',
    ):
        assert words in text
    step(inside, text, button="save", name="Builds")
    job = next(job for job in inside.server.jobs.values() if job.name == "Builds")
    assert job.sources == [api.JobSource(host_id=host.id, paths=["/srv/build", "/etc"])]
    assert job.schedules == [api.DailySchedule(at="02:15", zone="Asia/Shanghai", weekdays=[1, 5])]
    options = job.options
    assert (options.exclude, options.keep_days, options.keep_last) == (["*.o", "*.tmp"], 14, 3)
    assert (options.keep_weekly, options.keep_monthly, options.keep_yearly) == (5, None, 2)


def test_going_back_and_forth_loses_nothing(inside: World) -> None:
    host = next(iter(inside.server.hosts))
    text = step(inside, inside.text("/jobs/new"), kind="disk", host=host)
    text = step(inside, text, **{f"paths_{host}": ["/dev/vdb", "/img/extra.raw"]})
    text = step(
        inside, text, s0_kind="interval", s0_every="45", s0_unit="minutes", keep_days="9", retry_count="7"
    )
    text = step(inside, text, button="back", name="Kept name")
    assert 'value="45"' in text
    text = step(inside, text, button="back")
    assert "/img/extra.raw" in text
    assert re.search(r'value="/dev/vdb" checked', text)
    text = step(inside, text, button="back")
    for _ in range(3):
        text = step(inside, text)
    assert 'value="Kept name"' in text
    step(inside, text, button="save")
    job = next(job for job in inside.server.jobs.values() if job.name == "Kept name")
    assert job.schedules == [api.IntervalSchedule(every_seconds=2700)]
    assert (job.kind, job.options.retry_count, job.options.keep_days) == (api.ObjectKind.DISK, 7, 9)
    assert job.sources[0].paths == ["/dev/vdb", "/img/extra.raw"]


@pytest.mark.parametrize(
    ("at_step", "changes", "words"),
    [
        (0, {"host": []}, "Choose at least one host."),
        (0, {"kind": "tape"}, "Choose disks or files."),
        (1, {"paths": ""}, "Choose at least one directory or file of this host."),
        (1, {"paths": "srv/www"}, "srv/www is not a path. Begin with /."),
        (2, {"s0_at": "25:00"}, "Type a time such as 01:30."),
        (2, {"s0_zone": "Mars/Base"}, "Mars/Base is no time zone."),
        (2, {"s0_day": []}, "Choose at least one day."),
        (2, {"s0_kind": "interval", "s0_every": "0"}, "at least one minute"),
        (2, {"keep_days": "-1"}, "Type a whole number from 1 to 36500."),
        (2, {"channel_count": "99"}, "Type a whole number from 1 to 16."),
        (2, {"storage_id": ""}, "Choose a storage."),
        (3, {"name": ""}, "Give the job a name."),
    ],
)
def test_wrong_field_is_said_where_it_is_and_kept(
    inside: World, at_step: int, changes: dict[str, object], words: str
) -> None:
    host = next(iter(inside.server.hosts))
    before = set(inside.server.jobs)
    right: list[dict[str, object]] = [
        {"kind": "files", "host": host},
        {f"paths_{host}": "/srv"},
        {},
        {"name": "x"},
    ]
    text = inside.text("/jobs/new")
    for number in range(at_step):
        text = step(inside, text, **right[number])
    wrong = {name if name != "paths" else f"paths_{host}": value for name, value in changes.items()}
    text = step(inside, text, button="save" if at_step == 3 else "next", **{**right[at_step], **wrong})
    assert words in html.unescape(text)
    assert 'class="wrong"' in text
    assert set(inside.server.jobs) == before


def test_refusal_of_the_server_keeps_everything_typed(inside: World) -> None:
    host = next(iter(inside.server.hosts))
    text = step(inside, inside.text("/jobs/new"), kind="files", host=host)
    text = step(inside, text, **{f"paths_{host}": "/srv"})
    text = step(inside, text)
    text = step(inside, text, button="save", name="Web content")
    assert "There is a job named Web content already. Choose another name." in text
    assert 'value="Web content"' in text
    assert 'value="/srv"' in text


def test_edit_shows_the_job_and_guards_its_revision(inside: World) -> None:
    job = next(job for job in inside.server.jobs.values() if job.name == "Web content")
    path = f"/jobs/{job.id}/edit"
    text = step(inside, inside.text(path), path=path, exclude="*.log")
    text = step(inside, text, path=path, button="add_schedule")
    text = step(
        inside, text, path=path, s1_kind="interval", s1_every="2", s1_unit="days", s1_backup_type="full"
    )
    step(inside, text, path=path, button="save")
    edited = inside.server.jobs[job.id]
    assert (edited.options.exclude, edited.revision) == (["*.log"], 2)
    assert edited.schedules == [
        *job.schedules,
        api.IntervalSchedule(every_seconds=2 * 86400, backup_type=api.BackupType.FULL),
    ]
    again = step(inside, text, path=path, button="save")
    assert "Somebody else changed this job meanwhile." in again


@pytest.mark.parametrize("name", ["Web content", "System disks"])
def test_form_of_a_job_gives_the_job_again(inside: World, name: str) -> None:
    job = next(job for job in inside.server.jobs.values() if job.name == name)
    form = JobForm.of_job(job)
    assert not any(form.problems(each, Words("en")) for each in ("what", "pick", "when", "check"))
    made = form.create()
    assert (made.sources, made.schedules, made.options) == (job.sources, job.schedules, job.options)


def test_disks_of_a_host_that_is_away_can_be_typed(inside: World) -> None:
    host = next(host for host in inside.server.hosts.values() if host.name == "files-02")
    text = step(inside, inside.text("/jobs/new"), kind="disk", host=host.id)
    assert "offline" in text
    assert "You can type a path instead." in text
    assert "When and where" in step(inside, text, **{f"paths_{host.id}": "/dev/sda"})


def point_of(world: World, kind: api.ObjectKind) -> api.PointInfo:
    return next(point for point in world.server.points.values() if point.kind == kind)


def test_restore_says_what_will_be_lost_before_it_starts(inside: World) -> None:
    point = point_of(inside, api.ObjectKind.DISK)
    path = f"/points/{point.id}/restore"
    fields = {
        "step": "check",
        "place": "other",
        "host": point.host_id,
        "target": "/dev/vdb",
        "overwrite": "on",
    }
    text = inside.body(inside.post(path, fields))
    assert "Everything on /dev/vdb of web-01 will be overwritten" in text
    assert not [name for name, _ in inside.server.calls if name == "restore.start"]
    assert inside.post(path, {**fields, "step": "start"}).status_code == 303
    sent = inside.server.calls[-1][1]
    assert isinstance(sent, api.RestoreStart)
    assert (sent.host_id, sent.target_path, sent.overwrite) == (point.host_id, "/dev/vdb", True)


def test_restore_of_ticked_files_to_the_original_place(inside: World) -> None:
    point = point_of(inside, api.ObjectKind.FILES)
    path = f"/points/{point.id}/restore"
    text = inside.body(
        inside.post(path, MultiDict([("step", "where"), ("path", "/srv"), ("path", "/etc/a <b>")]))
    )
    assert "Only what you ticked, 2 entries:" in text
    assert "/etc/a &lt;b&gt;" in text
    fields = MultiDict([("step", "start"), ("place", "original"), ("path", "/srv"), ("path", "/etc/a <b>")])
    assert inside.post(path, fields).status_code == 303
    sent = inside.server.calls[-1][1]
    assert isinstance(sent, api.RestoreStart)
    assert (sent.paths, sent.host_id, sent.target_path) == (["/srv", "/etc/a <b>"], None, None)


def test_restore_without_target_stays_on_the_page(inside: World) -> None:
    point = point_of(inside, api.ObjectKind.FILES)
    response = inside.post(
        f"/points/{point.id}/restore", {"step": "check", "place": "other", "target": "relative"}
    )
    assert response.status_code == 422
    assert 'value="relative"' in inside.body(response)


@pytest.mark.parametrize("what", ["host", "job", "point", "storage"])
def test_destroying_asks_for_the_name_and_takes_no_other(inside: World, what: str) -> None:
    server = inside.server
    things, act, name = {
        "host": (server.hosts, "delete", "build-07"),
        "job": (server.jobs, "delete", "Web content"),
        "point": (server.points, "forget", "web-01:/srv/www"),
        "storage": (server.storages, "detach", "main"),
    }[what]
    ident = next(
        i for i, t in things.items() if name in (getattr(t, "name", ""), getattr(t, "object_name", ""))
    )
    path = f"/{what}s/{ident}/{act}"
    assert html.escape(name) in inside.text(path)
    response = inside.post(path, {"typed": "something else"})
    assert response.status_code == 409
    assert ident in things
    assert inside.post(path, {"typed": name}).status_code == 303
    assert ident not in things


def test_export_is_started_with_its_address_to_copy_and_stopped(inside: World) -> None:
    inside.server.exports.clear()
    point = point_of(inside, api.ObjectKind.DISK)
    assert inside.post(f"/points/{point.id}/export", {"writes": "none"}).status_code == 303
    (export,) = inside.server.exports.values()
    assert not export.is_writable
    assert f'data-copy="{export.url}"' in inside.text("/recovery")
    assert f'data-copy="{export.url}"' in inside.text(f"/points/{point.id}")
    inside.post(f"/recovery/{export.id}/stop", {})
    assert not inside.server.exports


def test_users_password_and_storage_forms_keep_what_was_typed(inside: World) -> None:
    for path, fields, kept in (
        (
            "/users/new",
            {"name": "admin", "password": "long enough", "role": "operator"},
            'value="operator" checked',
        ),
        ("/users/new", {"name": "bad name", "password": "long enough"}, 'value="bad name"'),
        ("/storages/new", {"name": "x", "path": "/full", "encryption": "sm4-gcm"}, 'value="/full"'),
        (
            "/account",
            {"old_password": "a", "new_password": "b", "again": "c"},
            "The two new passwords differ.",
        ),
        ("/hosts/enrol", {"way": "passive", "name": "web-01", "address": "192.0.2.3"}, 'value="192.0.2.3"'),
    ):
        response = inside.post(path, fields)
        assert response.status_code in (400, 409, 422), path
        text = inside.body(response)
        assert kept in text, path
        assert "long enough" not in text


def test_enrolment_shows_the_command_once(inside: World) -> None:
    text = inside.body(inside.post("/hosts/enrol", {"way": "active", "hours": "24"}))
    assert 'data-copy="vdr-agent enrol VDR1-secret"' in text
    assert "VDR1-secret" not in inside.text("/hosts/enrol")


@pytest.mark.parametrize(
    ("fields", "expected", "sentence"),
    [
        (
            {"s0_kind": "monthly", "s0_on": "5", "s0_weekday": "5", "s0_months": "3, 6", "s0_at": "03:00"},
            api.MonthlySchedule(at="03:00", weekday=5, week=5, months=[3, 6]),
            "Incremental on the last Fri of the month, in months 3, 6 at 03:00 (UTC)",
        ),
        (
            {"s0_kind": "monthly", "s0_on": "day", "s0_day_of_month": "31"},
            api.MonthlySchedule(at="01:00", day=31),
            "Incremental every month on day 31 at 01:00 (UTC)",
        ),
        (
            {"s0_kind": "interval", "s0_every": "2", "s0_window_begin": "22:00", "s0_window_end": "06:00"},
            api.IntervalSchedule(every_seconds=7200, window=api.Window(begin="22:00", end="06:00")),
            "Incremental every 2 h, every day from 22:00 to 06:00 (UTC)",
        ),
        (
            {"s0_kind": "once", "s0_moment": "2099-12-24T18:00", "s0_zone": "Asia/Shanghai"},
            api.OnceSchedule(time=datetime(2099, 12, 24, 10, tzinfo=UTC)),
            "Incremental once at 2099-12-24 10:00:00 UTC",
        ),
    ],
    ids=["weekday-of-month", "day-of-month", "window", "once"],
)
def test_every_kind_of_schedule_goes_through_the_wizard_and_back(
    inside: World, fields: dict[str, str], expected: api.Schedule, sentence: str
) -> None:
    host = next(iter(inside.server.hosts))
    text = step(inside, inside.text("/jobs/new"), kind="files", host=host)
    text = step(inside, text, **{f"paths_{host}": "/srv"})
    text = step(inside, text, **fields)
    assert sentence in html.unescape(text)
    step(inside, text, button="save", name="calendar")
    job = next(job for job in inside.server.jobs.values() if job.name == "calendar")
    assert job.schedules == [expected]
    assert JobForm.of_job(job).schedule_list() == [expected]


@pytest.mark.parametrize(
    "fields",
    [
        {"s0_kind": "monthly", "s0_day_of_month": "32"},
        {"s0_kind": "monthly", "s0_months": "13"},
        {"s0_kind": "interval", "s0_window_begin": "22:00"},
        {"s0_kind": "interval", "s0_window_begin": "22:00", "s0_window_end": "22:00"},
        {"s0_kind": "once", "s0_moment": "soon"},
    ],
    ids=["day", "months", "half-a-window", "empty-window", "moment"],
)
def test_schedule_that_cannot_be_stays_on_its_step(inside: World, fields: dict[str, str]) -> None:
    host = next(iter(inside.server.hosts))
    text = step(inside, inside.text("/jobs/new"), kind="files", host=host)
    text = step(inside, text, **{f"paths_{host}": "/srv"})
    assert 'class="wrong"' in step(inside, text, **fields)


def test_point_is_locked_held_and_released_from_its_page(inside: World) -> None:
    point = point_of(inside, api.ObjectKind.FILES)
    path = f"/points/{point.id}"
    assert "Can be removed" in inside.text(path)
    assert inside.post(f"{path}/lock", {"until": "2999-01-31T18:00"}).status_code == 303
    assert "Locked until 2999-01-31 18:00:00 UTC" in inside.text(path)
    assert inside.post(f"{path}/lock", {"hold": "yes"}).status_code == 303
    assert "Under legal hold" in inside.text(path)
    assert inside.post(f"{path}/lock", {"hold": "no"}).status_code == 303
    assert not inside.server.points[point.id].is_held
    for until, status, said in (("2001-01-01T00:00", 400, "has passed"), ("soon", 422, "Type a time")):
        response = inside.post(f"{path}/lock", {"until": until})
        assert (response.status_code, said in inside.body(response)) == (status, True)
