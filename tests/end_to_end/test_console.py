"""A person at a browser: from the first log-in on a fresh appliance to a restored file and a served disk."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.console.test_browser import ARGUMENTS, CHROMIUM
from tests.end_to_end.conftest import Daemon, free_ports

START_SECONDS = 90.0
BIN = Path(sys.executable).parent


class Machine:
    """An appliance with its console, and room for an agent."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        server, node, console, *nfs = free_ports(6)
        conf = directory / "conf"
        conf.mkdir()
        conf.joinpath("test.toml").write_text(
            f"""
            [appliance]
            state_directory = "{self.state}"
            [server]
            listen = ["127.0.0.1:{server}"]
            [node]
            listen = ["127.0.0.1:{node}"]
            server = "127.0.0.1:{server}"
            nfs_port = {nfs[0]}
            mount_port = {nfs[1]}
            portmap_port = {nfs[2]}
            [console]
            listen = ["127.0.0.1:{console}"]
            server = "127.0.0.1:{server}"
            [agent]
            state_directory = "{directory / "agent"}"
            """
        )
        self.options = ["--config-dir", str(conf)]
        self.appliance = Daemon([str(BIN / "vdrd"), "appliance", *self.options], directory / "appliance.log")
        self.agent = Daemon([str(BIN / "vdr-agent"), *self.options], directory / "agent.log")

    def start(self) -> None:
        self.appliance.start()
        deadline = time.monotonic() + START_SECONDS
        while not (self.state / "appliance.json").exists():
            assert self.appliance.process is not None
            assert self.appliance.process.poll() is None, self.appliance.text
            assert time.monotonic() < deadline, self.appliance.text
            time.sleep(0.1)
        status = json.loads((self.state / "appliance.json").read_text())
        self.address = status["console"].rstrip("/")
        self.password = Path(status["password_file"]).read_text().strip()

    def stop(self) -> None:
        for daemon in (self.agent, self.appliance):
            if daemon.process is not None:
                assert daemon.stop(signal.SIGTERM) == 0, daemon.text


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def page(machine: Machine) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 900})
        opened = context.new_page()
        opened.set_default_timeout(30_000)
        expect.set_options(timeout=60_000)
        yield opened
        expect.set_options(timeout=5_000)
        browser.close()


def log_in(machine: Machine, page: Page) -> None:
    page.goto(machine.address)
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(machine.password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{machine.address}/")


def enrol(machine: Machine, page: Page) -> None:
    """Copies the command off the page and types it on 'the new machine'."""
    page.goto(f"{machine.address}/hosts/enrol")
    page.get_by_label("Name in this console").fill("first-host")
    page.get_by_role("button", name="Make the command").click()
    program, *words = shlex.split(page.locator("#token .copyable code").first.inner_text())
    subprocess.run([BIN / program, *machine.options, *words], check=True, timeout=60)
    page.goto(f"{machine.address}/hosts")
    machine.agent.start()
    expect(page.locator("#hosts")).to_contain_text("Online")


def make_and_run(page: Page, machine: Machine, kind: str, path: Path) -> None:
    """Through the wizard to a run that ended well."""
    page.goto(f"{machine.address}/jobs/new?kind={kind}")
    page.get_by_role("button", name="Next").click()
    page.locator("textarea").first.fill(str(path))
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Next").click()
    page.get_by_label("Name of the job").fill(f"First {kind}")
    page.get_by_role("button", name="Create and run now").click()
    page.wait_for_url(re.compile("/runs/"))
    expect(page.locator("#run-state")).to_have_text("Done")
    expect(page.locator("#run-progress")).to_contain_text("100 %")
    page.get_by_role("link", name="See the point").click()


def test_files_are_protected_and_one_brought_back_in_the_browser(machine: Machine, page: Page) -> None:
    source = machine.directory / "source"
    source.joinpath("papers").mkdir(parents=True)
    source.joinpath("papers", "contract <1>.txt").write_bytes(b"signed" * 1000)
    source.joinpath("papers", "draft.txt").write_bytes(b"crossed out")
    log_in(machine, page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing is protected yet")
    enrol(machine, page)
    make_and_run(page, machine, "files", source)

    page.get_by_role("link", name="Browse files").click()
    page.get_by_role("link", name="papers", exact=True).click()
    page.get_by_label("Tick contract <1>.txt").check()
    page.get_by_role("button", name="Restore ticked").click()
    target = machine.directory / "back"
    page.get_by_label("Directory").fill(str(target))
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Start the restore").click()
    page.wait_for_url(re.compile("/runs/"))
    expect(page.locator("#run-state")).to_have_text("Done")
    (restored,) = [path for path in target.rglob("*") if path.is_file()]
    assert restored.name == "contract <1>.txt"
    assert restored.read_bytes() == b"signed" * 1000
    page.goto(machine.address)
    expect(page.get_by_role("heading", level=1)).to_have_text("Your host is protected")


def test_disk_is_protected_served_at_once_and_verified_in_the_browser(machine: Machine, page: Page) -> None:
    image = machine.directory / "disk.img"
    with image.open("wb") as file:
        file.truncate(32 << 20)
        file.write(bytes(range(256)) * 8192)
    log_in(machine, page)
    enrol(machine, page)
    make_and_run(page, machine, "disk", image)

    page.get_by_role("button", name="Start").click()
    address = page.locator("#point-exports .copyable code").first
    expect(address).to_have_text(re.compile(r"^nfs://127\.0\.0\.1/.+/disk\.raw"))
    page.get_by_role("button", name="Stop serving").click()
    expect(page.locator("#point-exports .copyable")).to_have_count(0)
    page.get_by_role("button", name="Verify").click()
    page.wait_for_url(re.compile("/runs/"))
    expect(page.locator("#run-state")).to_have_text("Done")
    page.goto(f"{machine.address}/points")
    expect(page.locator("#points")).to_contain_text("Verified")
    page.goto(f"{machine.address}/log")
    for action in ("session.login", "host.create_token", "job.create", "job.run_now", "export.start"):
        expect(page.locator("#log")).to_contain_text(action)
