"""The pages in a real Chromium, over the fake server: what only a browser can show."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from schemas import api
from tests.console.fake_server import PASSWORD
from tests.console.site import Site, open_site

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    *["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
    *["--disable-component-update", "--disable-sync"],
]
WIDTHS = {"pc": 1440, "tablet": 820, "phone": 390}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path) as made:
        yield made


class Visitor:
    """A page of a browser, logged in, that notes everything it complains about."""

    def __init__(self, browser: Browser, site: Site, **options: Any) -> None:
        self.site = site
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.context: BrowserContext = browser.new_context(ignore_https_errors=True, **options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on(
            "console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def log_in(self) -> "Visitor":
        self.page.goto(f"{self.site.address}/login")
        self.page.fill("#user_name", "admin")
        self.page.fill("#password", PASSWORD)
        self.page.click("button.primary")
        self.page.wait_for_url(f"{self.site.address}/")
        return self

    def go(self, path: str) -> None:
        self.page.goto(f"{self.site.address}{path}")

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def visitor(browser: Browser, site: Site) -> Iterator[Visitor]:
    made = Visitor(browser, site, viewport={"width": 1280, "height": 900}, locale="en-GB").log_in()
    yield made
    made.close()
    assert made.complaints == []
    assert [url for url in made.asked if not url.startswith(site.address)] == []


def addresses(site: Site) -> list[str]:
    server = site.server
    point = {kind: next(p.id for p in server.points.values() if p.kind == kind) for kind in api.ObjectKind}
    job, host, run = (next(iter(things)) for things in (server.jobs, server.hosts, server.runs))
    return [
        *[
            "/",
            "/hosts",
            f"/hosts/{host}",
            "/hosts/enrol",
            "/jobs",
            f"/jobs/{job}",
            "/jobs/new",
            "/runs",
            f"/runs/{run}",
        ],
        *[f"/jobs/{job}/edit?step={step}" for step in ("pick", "when", "check")],
        *[
            "/points",
            f"/points/{point[api.ObjectKind.DISK]}",
            f"/points/{point[api.ObjectKind.DISK]}/restore",
        ],
        *[
            f"/points/{point[api.ObjectKind.FILES]}/files",
            f"/points/{point[api.ObjectKind.FILES]}/forget",
            "/recovery",
        ],
        *[
            "/storages",
            f"/storages/{next(iter(server.storages))}",
            "/storages/new",
            "/nodes",
            "/users",
            "/log",
            "/metadata",
            "/alerts",
            "/channels",
            "/channels/new",
            "/api",
        ],
    ]


def test_job_is_made_run_watched_and_its_point_restored(visitor: Visitor) -> None:
    site, page, server = visitor.site, visitor.page, visitor.site.server
    host = next(host for host in server.hosts.values() if host.name == "build-07")
    page.get_by_role("listitem").filter(has_text="build-07").get_by_role("link", name="Create a job").click()
    expect(page.locator(f'input[value="{host.id}"]')).to_be_checked()
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="srv/", exact=True).click()
    page.get_by_role("button", name="Add /srv/etc").click()
    expect(page.locator(f"#paths_{host.id}")).to_have_value("/srv/etc")
    page.get_by_role("button", name="Next").click()
    page.get_by_label("Where to").select_option(index=1)
    page.get_by_text("Over and over").click()
    expect(page.get_by_label("At", exact=True)).to_be_hidden()
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".summary")).to_contain_text("1 directory of 1 host")
    page.get_by_role("button", name="Create and run now").click()
    page.wait_for_url(re.compile("/runs/"))

    run = max(server.runs.values(), key=lambda run: run.created_at)
    expect(page.locator("#run-state")).to_have_text("Waiting")
    progress = api.RunProgress(
        step="/srv/etc",
        done_bytes=3 << 30,
        total_bytes=12 << 30,
        bytes_per_second=2e8,
        remaining_seconds=45.0,
    )
    site.do(lambda: server.say(run.id, "reading /srv/etc"))
    site.do(
        lambda: server.change_run(
            run.id, state=api.RunState.RUNNING, started_at=server.now(), progress=progress
        )
    )
    expect(page.locator("#run-progress")).to_contain_text("25 %")
    expect(page.locator("#run-progress")).to_contain_text("about 45 s to go")
    expect(page.locator("#run-progress")).to_contain_text("3.00 GiB of 12.0 GiB")
    expect(page.locator("#run-log")).to_contain_text("reading /srv/etc")
    expect(page.locator("#run-tiles")).to_contain_text("191 MiB/s")

    job = server.jobs[run.job_id or ""]
    point = site.do(lambda: server.add_point(job, host, "/srv/etc", server.now()))
    site.do(
        lambda: server.change_run(
            run.id, state=api.RunState.DONE, ended_at=server.now(), point_ids=[point.id]
        )
    )
    expect(page.locator("#run-state")).to_have_text("Done")
    page.get_by_role("link", name="See the point").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("build-07:/srv/etc")

    page.get_by_role("link", name="Browse files").click()
    page.get_by_label("Tick index.html").check()
    page.get_by_role("button", name="Restore ticked").click()
    expect(page.locator("main")).to_contain_text("/index.html")
    page.get_by_label("Directory").fill("/srv/back")
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".summary")).to_contain_text("1 ticked entry is written to /srv/back on build-07.")
    page.get_by_role("button", name="Start the restore").click()
    page.wait_for_url(re.compile("/runs/"))
    sent = next(call for name, call in reversed(server.calls) if name == "restore.start")
    assert isinstance(sent, api.RestoreStart)
    assert (sent.paths, sent.target_path) == (["/index.html"], "/srv/back")


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("device", WIDTHS)
def test_every_page_fits_every_screen_without_a_complaint(
    browser: Browser, site: Site, device: str, language: str
) -> None:
    size = {"width": WIDTHS[device], "height": 900}
    visitor = Visitor(browser, site, viewport=size, locale={"en": "en-GB", "zh": "zh-CN"}[language])
    visitor.go("/login")
    visitor.log_in()
    for path in addresses(site):
        visitor.go(path)
        over = visitor.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert over <= 0, f"{path} is {over} px too wide"
    visitor.close()
    assert visitor.complaints == []


TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
  const light = (rgb) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    if (element.closest('svg, [hidden], .only-read, button[disabled], option, script')) continue;
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    const style = getComputedStyle(element);
    if (style.visibility === 'hidden' || !element.getClientRects().length) continue;
    const under = ground(element);
    const [a, b] = [light(over(rgba(style.color), under)), light(under)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    const words = element.textContent.trim().slice(0, 40);
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${element.className} ${words}`);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast_of_level_aa(browser: Browser, site: Site, scheme: Any) -> None:
    visitor = Visitor(browser, site, color_scheme=scheme, viewport={"width": 1280, "height": 900})
    visitor.go("/login")
    assert visitor.page.evaluate(CONTRAST) == []
    visitor.log_in()
    for path in addresses(site):
        visitor.go(path)
        assert visitor.page.evaluate(CONTRAST) == [], path
    visitor.close()


def test_pages_can_be_read_and_forms_sent_with_scripts_off(browser: Browser, site: Site) -> None:
    visitor = Visitor(browser, site, java_script_enabled=False)
    visitor.log_in()
    page = visitor.page
    visitor.go("/points")
    assert page.get_by_role("row").count() > 50
    job = next(job for job in site.server.jobs.values() if job.name == "Web content")
    visitor.go(f"/jobs/{job.id}")
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Web content")
    page.get_by_role("button", name="Cancel run").click()
    expect(page.locator("#run-state")).to_have_text("Cancelled")
    visitor.close()


def test_keyboard_reaches_everything_with_a_visible_focus(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/jobs")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    expect(page.get_by_text("Skip to the content")).to_be_in_viewport()
    wanted = page.evaluate(
        "[...document.querySelectorAll('a[href], button, input, select, textarea, summary')]"
        ".filter((e) => e.checkVisibility() && !e.disabled && e.type !== 'hidden').length"
    )
    seen = 1
    for _ in range(wanted - 1):
        page.keyboard.press("Tab")
        outline = page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e);"
            " return [e.tagName, s.outlineStyle, parseFloat(s.outlineWidth)] })()"
        )
        if outline[0] == "BODY":
            break
        assert outline[1] == "solid", outline
        assert outline[2] >= 2, outline
        seen += 1
    assert seen == wanted
    page.locator("main").click(position={"x": 5, "y": 5})
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("web")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Results for web")


def test_live_page_keeps_focus_and_says_when_it_is_disconnected(visitor: Visitor) -> None:
    site, page, server = visitor.site, visitor.page, visitor.site.server
    run = next(run for run in server.runs.values() if run.state == api.RunState.RUNNING)
    visitor.go(f"/runs/{run.id}")
    state = page.locator(".rail [data-live-state]")
    expect(state).to_have_text("Live")
    page.get_by_role("button", name="Cancel run").focus()
    site.do(
        lambda: server.change_run(run.id, progress=api.RunProgress(step="x", done_bytes=50, total_bytes=100))
    )
    expect(page.locator("#run-progress")).to_contain_text("50 %")
    expect(page.get_by_role("button", name="Cancel run")).to_be_focused()
    server.is_reachable = False
    site.do(lambda: server.happen("run", run.id))
    expect(state).to_have_text("Disconnected, trying again")
    server.is_reachable = True
    expect(state).to_have_text("Live", timeout=60_000)
    site.do(
        lambda: server.change_run(run.id, progress=api.RunProgress(step="x", done_bytes=75, total_bytes=100))
    )
    expect(page.locator("#run-progress")).to_contain_text("75 %")
    visitor.complaints.clear()


def test_address_to_copy_lands_on_the_clipboard(visitor: Visitor) -> None:
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=visitor.site.address)
    visitor.go("/recovery")
    visitor.page.get_by_role("button", name="Copy NFS address").click()
    copied = visitor.page.evaluate("navigator.clipboard.readText()")
    assert copied == next(iter(visitor.site.server.exports.values())).url


def test_name_with_a_script_runs_nowhere(visitor: Visitor) -> None:
    server = visitor.site.server
    nasty = '"><img src=x onerror="window.broken=1"><script>window.broken=1</script>'
    host = visitor.site.do(lambda: server.add_host(nasty))
    for path in ("/", "/hosts", f"/hosts/{host.id}", f"/jobs/new?host={host.id}", "/search?q=img"):
        visitor.go(path)
        assert visitor.page.evaluate("window.broken") is None, path
        assert nasty in visitor.page.locator("main").inner_text(), path
