"""`fademoe demo`, as its users see it: every page, a stream that dies, collecting that is turned off and on again."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from PIL import Image
from playwright import sync_api
from playwright.sync_api import expect

from fademoe.clock import MINUTE_MS, floor_to, now_ms
from fademoe.deploy.checks import find_free_port
from fademoe.supervisord.daemon import CHECKOUT, Supervisord
from tests.browser.conftest import PAGES, faults, settle, sign_in, watch

SCREENSHOTS = CHECKOUT / "build" / "screenshots"
README_PAGES = ("status", "data", "coverage", "charts", "alerts", "compare", "queues", "limits")
SHOWN = {"coverage": "/coverage?perpspec=bin-ohlcv&by=hour&columns=48"}  # of the README's pages
CANDLES = ("bin-ohlcv", "byb-ohlcv", "okx-ohlcv")
FILLED_S = 240


class Demo:
    """A demo with a home and a checkout of its own, so that it meets no other."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        for part in ("conf", "fademoe"):
            shutil.copytree(CHECKOUT / part, self.checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
        self.home = folder / "var" / "demo"
        port = find_free_port(0)
        self.address = f"http://127.0.0.1:{port}"
        self.environ = dict(os.environ) | {
            "PYTHONPATH": str(self.checkout),
            "FADEMOE_HOME": str(self.home.parent),
            "FADEMOE_WEB_PORT": str(port),
            "FADEMOE_WORKERS": "2",
            "FADEMOE_SYMBOLS": "BTC,ETH,PEPE",
        }
        self.supervisord = Supervisord(self.home, self.checkout)

    def run(self, *command: str, home: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """Run `fademoe COMMAND ...`, on another home if one is given."""
        return subprocess.run(
            [sys.executable, "-m", "fademoe", *command],
            env=self.environ | ({"FADEMOE_HOME": str(home)} if home else {}),
            cwd=self.checkout,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def seed(self, *arguments: str) -> None:
        """Ask for history."""
        seeded = self.run("seed", *arguments, home=self.home)
        assert seeded.returncode == 0, seeded.stderr

    def control(self, *command: str) -> None:
        """Run supervisorctl."""
        server = f"unix://{self.home}/run/ctl.sock"
        program = [str(Path(sys.executable).with_name("supervisorctl")), "-s", server]
        subprocess.run([*program, *command], capture_output=True, check=True)

    def get(self, path: str, **query: str | int) -> str:
        """Ask the API."""
        with urllib.request.urlopen(f"{self.address}{path}?{urlencode(query)}", timeout=60) as answer:
            return str(answer.read().decode())

    def minutes(self, perpspec: str, start_ms: int, end_ms: int, symbol: str) -> set[int]:
        """Return the times of the rows of a symbol in a range."""
        rows = json.loads(self.get(f"/api/data/{perpspec}", symbol=symbol, **{"from": start_ms, "to": end_ms}))["rows"]
        return {row["ts"] for row in rows}

    def series(self, perpspecs: Iterable[str]) -> list[dict[str, Any]]:
        """Return the ranges of every series of some perpspecs."""
        found: list[dict[str, Any]] = json.loads(self.get("/api/coverage", source=",".join(perpspecs)))["series"]
        return found


@pytest.fixture
def demo() -> Iterator[Demo]:
    """A demo that is up."""
    folder = Path(tempfile.mkdtemp(prefix="fademoe-"))
    folder.chmod(0o755)
    built = Demo(folder)
    try:
        came_up = built.run("demo")
        assert came_up.returncode == 0, came_up.stdout + came_up.stderr
        yield built
    finally:
        went_down = built.run("down")
        shutil.rmtree(folder)
    assert went_down.returncode == 0, went_down.stdout


@pytest.mark.long
@pytest.mark.waits(320)
def test_the_demo_from_the_first_look_to_a_gap_that_was_filled(demo: Demo, chromium: sync_api.Browser):
    complaints: list[str] = []
    context = chromium.new_context(base_url=demo.address, viewport={"width": 1280, "height": 860})
    page = context.new_page()
    watch(page, complaints)
    page.goto("/")
    sign_in(page, (demo.home / "admin_token").read_text().strip())
    see_a_stream_die(demo, page)
    off_ms = turn_off(page)
    read_a_table(demo, page)
    go_from_a_cell_to_its_job(demo, page)
    on_ms = turn_on(demo, page, off_ms)
    look_at_everything(page)  # while the gap is filled
    see_no_gap(demo, off_ms, on_ms)
    context.close()
    assert complaints == []


def see_a_stream_die(demo: Demo, page: sync_api.Page) -> None:
    """Killed, it is seen to begin again; stopped, it is called so; started, it is live again; all without a reload."""
    page.goto("/?kind=stream")
    expect(page.locator("#box")).to_contain_text("3 of 3 live", timeout=90_000)
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="stream binance")).first
    before = row.locator("td").last.get_attribute("title")
    (pid,) = [program.pid for program in demo.supervisord.list_programs() if program.name == "stream-binance"]
    os.kill(pid, signal.SIGKILL)
    expect(row.locator("td").last).not_to_have_attribute("title", before, timeout=90_000)
    demo.control("stop", "stream-binance")
    expect(row.locator("td").first).to_have_text("stopped", timeout=90_000)
    expect(page.locator("#box")).to_contain_text("2 of 3 live", timeout=90_000)
    demo.control("start", "stream-binance")
    expect(page.locator("#box")).to_contain_text("3 of 3 live", timeout=90_000)


def turn_off(page: sync_api.Page) -> int:
    """Turn the collecting off; return when it was so."""
    page.get_by_label("DB APIs").get_by_role("button", name="Off", exact=True).click()
    done = "workers paused; streams stopped: stream-binance, stream-bybit, stream-okx"
    expect(page.get_by_role("status")).to_have_text(done)
    expect(page.get_by_role("row").filter(has_text="web DB APIs off")).to_contain_text(done)
    expect(page.locator("#box")).to_contain_text("0 of 3 live", timeout=90_000)
    expect(page.locator("#box")).to_contain_text("no new job starts")
    return now_ms()


def read_a_table(demo: Demo, page: sync_api.Page) -> None:
    """Forward, back, a reload; the CSV of a page holds what the table shows, digit by digit."""
    page.goto("/data?perpspec=bin-ohlcv&symbol=BTC,ETH&limit=50")
    times = page.locator("table.figures tbody th")
    first = times.first.get_attribute("title")
    page.get_by_role("link", name="Next page").click()
    second = times.first.get_attribute("title")
    assert int(second) < int(first)
    page.reload()
    assert times.first.get_attribute("title") == second
    shown = [
        [
            row.locator("th").get_attribute("title"),
            *(cell.get_attribute("title") or cell.inner_text() for cell in cells),
        ]
        for row in page.locator("table.figures tbody tr").all()
        if (cells := row.locator("td").all())
    ]
    address = page.get_by_role("link", name="CSV").first.get_attribute("href")
    with urllib.request.urlopen(demo.address + address, timeout=60) as answer:
        _, *rows = csv.reader(io.StringIO(answer.read().decode()))
    assert [[row[0], row[1], *(value or "–" for value in row[4:])] for row in rows] == shown
    page.get_by_role("link", name="Previous page").click()
    assert times.first.get_attribute("title") == first
    whole = csv.reader(io.StringIO(demo.get("/api/export/bin-ohlcv", symbol="BTC,ETH")))
    assert [row[:2] for row in list(whole)[51:101]] == [row[:2] for row in shown]


def go_from_a_cell_to_its_job(demo: Demo, page: sync_api.Page) -> None:
    """A cell of older days that are asked for while no worker works, its job that waits, the job itself."""
    demo.seed("--days", "7", "--metrics", "ohlcv", "--exchanges", "bybit")
    page.goto("/coverage?perpspec=byb-ohlcv&columns=7")
    page.locator("td.cell.missing a").first.click()
    page.get_by_role("heading", name="Jobs here").wait_for()
    job = page.locator("a[href^='/rq/0/view/job/']").first
    name = job.inner_text()
    job.click()
    expect(page.locator("body")).to_contain_text(name)
    expect(page.locator("body")).to_contain_text("Enqueued at")


def turn_on(demo: Demo, page: sync_api.Page, off_ms: int) -> int:
    """Let a minute pass, see that nothing came, turn the collecting on; return when it was so."""
    minute_ms = floor_to(off_ms, MINUTE_MS)
    time.sleep(max(0, minute_ms + MINUTE_MS + 5_000 - now_ms()) / 1000)
    assert demo.minutes("bin-ohlcv", minute_ms, now_ms(), "BTC") == set()
    page.goto("/")
    page.get_by_label("DB APIs").get_by_role("button", name="On", exact=True).click()
    done = "workers resumed; streams started: stream-binance, stream-bybit, stream-okx"
    expect(page.get_by_role("status")).to_have_text(done)
    return now_ms()


def see_no_gap(demo: Demo, off_ms: int, on_ms: int) -> None:
    """See every minute from before the collecting was off to after it was on again, of every series of candles."""
    minutes = set(range(floor_to(off_ms, MINUTE_MS) - MINUTE_MS, on_ms, MINUTE_MS))
    deadline = time.monotonic() + FILLED_S
    while open_ones := {
        one["source"]: left for one in demo.series(CANDLES) if (left := minutes - inside(one["covered"]))
    }:
        assert time.monotonic() < deadline, f"not filled: {open_ones}"
        time.sleep(1)
    for one in demo.series(CANDLES):
        stored = demo.minutes(one["source"], min(minutes), max(minutes) + 1, one["symbol"])
        assert stored == minutes - inside(one["absent"])


def inside(ranges: list[list[int]]) -> set[int]:
    """Return the minutes that begin in some ranges."""
    return {minute for begin, end in ranges for minute in range(begin, end, MINUTE_MS)}


def look_at_everything(page: sync_api.Page) -> None:
    """Every page on the live demo: whole, nothing that axe calls serious, and a picture of it.

    The README's pictures are made as WebP too, to be copied into docs/ by hand.
    """
    (SCREENSHOTS / "docs").mkdir(parents=True, exist_ok=True)
    for name, path in PAGES.items():
        page.goto(SHOWN.get(name, path))
        settle(page, name)
        assert page.locator("h1").count() == 1, name
        assert "SIMULATED DATA" in page.inner_text("body"), name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
        if name in README_PAGES:
            with Image.open(io.BytesIO(page.screenshot())) as image:
                image.save(SCREENSHOTS / "docs" / f"{name}.webp", lossless=True, method=4)
        if name != "rq":  # not ours
            assert faults(page) == []
