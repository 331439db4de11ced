"""Chromium on a running web, whose database and queues hold something of everything."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright import sync_api
from psycopg2.extensions import cursor as Cursor
from redis import Redis

from fademoe.clock import DAY_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.store.connection import Database
from fademoe.store.partitions import Partitions
from tests.conftest import fresh_database, run_redis
from tests.support.web import fail, report

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-browser"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DAYS = 8
SYMBOLS = ("BTC", "ETH", "PEPE")
SOURCES = ("bin-ohlcv", "byb-ohlcv", "bin-pfr", "byb-oi", "byb-lsr")


sync_api.expect.set_options(timeout=60_000)  # for a machine that runs the other tests meanwhile

PAGES = {
    "status": "/",
    "data": "/data?perpspec=bin-ohlcv&symbol=BTC,PEPE",
    "coverage": "/coverage?perpspec=byb-oi&columns=14",
    "coverage-list": "/coverage?perpspec=byb-oi&view=list",
    "cell": "/coverage/cell?perpspec=byb-oi&symbol=BTC",
    "fill": "/coverage/fill?perpspec=byb-oi",
    "charts": "/charts?symbol=BTC",
    "compare": "/compare?symbol=BTC",
    "queues": "/queues",
    "limits": "/limits",
    "archives": "/archives",
    "schema": "/schema",
    "alerts": "/alerts",
    "api": "/api",
    "login": "/login",
    "rq": "/rq/",
}
IGNORED = ("Password forms should have",)  # a hint of Chromium about user names, which this form has none of
BUSY = "status of 503"  # is_busy() tells which of them are complaints
ABORTED = "net::ERR_ABORTED"  # a request that was under way when its page was left


@dataclass
class Site:
    """A running web and what its browser complained about."""

    address: str
    redis: Redis
    sql: Cursor
    begin_ms: int
    complaints: list[str] = field(default_factory=list)


def watch(page: sync_api.Page, complaints: list[str]) -> None:
    """Keep what the console says and every answer that is an error."""
    page.on(
        "console",
        lambda message: (
            message.type in ("error", "warning")
            and not message.text.startswith(IGNORED)
            and BUSY not in message.text
            and complaints.append(message.text)
        ),
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "requestfailed",
        lambda request: request.failure != ABORTED and complaints.append(f"{request.url}: {request.failure}"),
    )
    page.on(
        "response",
        lambda answer: (
            answer.status >= 400 and not is_busy(answer) and complaints.append(f"{answer.status} {answer.url}")
        ),
    )


def is_busy(answer: sync_api.Response) -> bool:
    """Tell whether the web says that its database is busy: a loaded machine's answer, which the page asks again."""
    return answer.status == 503 and "retry-after" in answer.headers


def settle(page: sync_api.Page, name: str) -> None:
    """Wait until a page shows what it has to show."""
    if name == "charts":
        page.wait_for_selector("#chart[data-drawn-ms]")
    elif name == "rq":
        page.wait_for_function("!document.body.innerText.includes('Loading')")
    else:
        page.wait_for_load_state("load")


def faults(page: sync_api.Page) -> list[tuple[str, str, str]]:
    """Return what axe calls serious or critical: address, rule, the first place."""
    page.evaluate(AXE_SCRIPT)
    found = page.evaluate("axe.run()")["violations"]
    return [
        (page.url, one["id"], one["nodes"][0]["html"][:200] + str(one["nodes"][0].get("failureSummary")))
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@contextmanager
def run_site(home: Path, database_url: str, redis_url: str) -> Iterator[Site]:
    """Run `fademoe web` as a process of its own, on servers that are filled with something of everything."""
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    redis = Redis.from_url(redis_url)
    with connection.cursor() as sql:
        begin_ms = _fill(database_url, sql, redis)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environ = {
            "FADEMOE_HOME": str(home),
            "FADEMOE_DATABASE_URL": database_url,
            "FADEMOE_REDIS_URL": redis_url,
            "FADEMOE_WEB_PORT": str(port),
            "FADEMOE_ADMIN_TOKEN": TOKEN,
            "FADEMOE_BINANCE_REST_URL": "http://127.0.0.1:9",
        }
        process = subprocess.Popen([sys.executable, "-m", "fademoe", "web"], env=dict(os.environ) | environ, cwd=ROOT)
        try:
            _wait(f"http://127.0.0.1:{port}/health")
            yield Site(f"http://127.0.0.1:{port}", redis, sql, begin_ms)
        finally:
            process.terminate()
            process.wait(60)
    connection.close()
    redis.close()


@pytest.fixture(scope="session")
def _read_only_site(tmp_path_factory: pytest.TempPathFactory, postgres_url: str, _template: str) -> Iterator[Site]:
    home = Path(tempfile.mkdtemp(prefix="fademoe-site-"))  # its own Redis: that of other tests is emptied
    with (
        fresh_database(postgres_url) as database_url,
        run_redis(home) as redis_url,
        run_site(tmp_path_factory.mktemp("site"), database_url, redis_url) as site,
    ):
        yield site
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def site(_read_only_site: Site) -> Site:
    """A web that the tests of the browser share: a test that changes anything takes `own_site`."""
    _read_only_site.complaints.clear()
    _read_only_site.sql.execute("UPDATE perp_status SET heartbeat = now() WHERE unit <> 'stream bybit'")
    return _read_only_site


@pytest.fixture
def own_site(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Site]:
    """A web whose data this test may change."""
    with run_site(tmp_path / "home", database_url, redis_url) as site:
        yield site


@pytest.fixture(scope="session")
def chromium() -> Iterator[sync_api.Browser]:
    """One browser for the run."""
    path = shutil.which("chromium") or shutil.which(ROOT / ".venv" / "chromium" / "bin" / "chromium")
    if path is None:
        pytest.fail("no chromium is here: make test-all installs or unpacks one (.ci/browser)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: sync_api.Browser, request: pytest.FixtureRequest) -> Iterator[Callable[..., sync_api.Page]]:
    """Open pages of the test's site; what the console says, and every answer that is an error, is kept in the site."""
    site = request.getfixturevalue("own_site" if "own_site" in request.fixturenames else "site")
    contexts = []

    def open_one(path: str = "/", width: int = 1400, height: int = 1000) -> sync_api.Page:
        context = chromium.new_context(base_url=site.address, viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        watch(page, site.complaints)
        page.goto(path)
        return page

    yield open_one
    for context in contexts:
        context.close()


def sign_in(page: sync_api.Page, token: str = TOKEN) -> None:
    """Sign in by the form, and come back."""
    page.get_by_role("link", name="Sign in", exact=True).click()
    page.get_by_label("Admin token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()


def _fill(url: str, sql: Cursor, redis: Redis) -> int:
    """Store rows, holes, units, errors, jobs and budgets; return the time of the first row."""
    now = floor_to(now_ms(), MINUTE_MS)
    begin = floor_to(now - DAYS * DAY_MS, DAY_MS)
    database = Database(url)
    Partitions(database).ensure(Window(begin, now + DAY_MS))
    database.close()
    for symbol, scale in zip(SYMBOLS, (90_000, 3_000, 0.00001), strict=True):
        for source, columns, values in (
            ("bin-ohlcv", "o, h, l, c, v", "p, p * 1.001, p * 0.999, p * 1.0002, 5"),
            ("byb-ohlcv", "o, h, l, c, v", "p, p * 1.002, p * 0.998, p * 1.0004, 4"),
            ("bin-pfr", "pfr", "0.0001 * sin(i)"),
            ("byb-oi", "oi, oi_usd", "1000 + i %% 100, 90000000"),
            ("byb-lsr", "lsr", "1.5 + 0.1 * sin(i)"),
        ):
            step = 300_000 if source in ("byb-oi", "byb-lsr") else 60_000
            sql.execute(
                f"INSERT INTO perp_data (ts, symbol, source, interval, {columns})"
                f" SELECT ts, %s, %s, '1m', {values} FROM (SELECT ts, (ts - %s) / %s AS i,"
                " round((%s * (1 + 0.03 * sin(ts / 40000000.0)))::numeric, 9) AS p"
                " FROM generate_series(%s::bigint, %s::bigint, %s) AS ts) AS x"
                " WHERE NOT ts BETWEEN %s AND %s",
                (symbol, source, begin, step, scale, begin, now - 1, step, begin + 3 * DAY_MS, begin + 3.4 * DAY_MS),
            )
            covered = f"{{[{begin},{begin + 3 * DAY_MS}),[{begin + int(3.4 * DAY_MS)},{now})}}"
            sql.execute(
                "INSERT INTO perp_coverage (source, symbol, wanted, covered, absent) VALUES (%s, %s, %s, %s, %s)",
                (
                    source,
                    symbol,
                    f"{{[{begin},)}}",
                    covered,
                    f"{{[{begin},{begin + DAY_MS})}}" if symbol == "PEPE" else "{}",
                ),
            )
    sql.execute("ANALYZE perp_data, perp_coverage")  # else the first reads are planned for empty tables
    report(sql, "stream binance", "running", message="topics: 3, sockets: 1, messages: 12")
    report(sql, "stream bybit", "running", silent_s=4000, interval_s=5)
    report(sql, "scheduler", "running")
    report(sql, "backfill byb-oi ETH", "error", message="HTTP 404: unknown symbol")
    sql.execute(
        "INSERT INTO perp_errors (unit, class, fingerprint, message, exchange, request, http_status, excerpt) VALUES"
        " ('backfill byb-oi ETH', 'Refused', 'f1', 'unknown symbol', 'bybit', '/v5/x?symbol=ETH', 404, '{}')"
    )
    sql.execute("INSERT INTO perp_status_history (unit, state) VALUES ('stream bybit', 'running')")
    fail(redis, "bybit", "bf-byb-oi_ETH_1_2", "bf-byb-oi_ETH_2_3")
    mapping = {"window": now // 60_000, "used": 1900, "limit": 2400, "period_ms": 60_000, "server_used": 1950}
    redis.hset("budget:slots1:binance:weight:home", mapping=mapping)
    closed = {"used": 5, "limit": 500, "period_ms": 5_000, "closed_until": now + 3_600_000, "closed_why": "HTTP 403"}
    redis.hset("budget:slots1:bybit:ip:home", mapping=closed)
    return begin


def _wait(address: str) -> None:
    for _ in range(900):
        try:
            urllib.request.urlopen(address, timeout=60).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{address} does not answer")
