"""The JSON API at 1, 10 and 30 million rows: first page, page at depth 1,000,000, filtered, coverage."""

import random
import socket
import time
from collections.abc import Callable
from statistics import median

import requests

from bench import rows
from bench.report import Report, Table
from bench.stage import Stage, stage, until
from fademoe.clock import DAY_MS, MINUTE_MS, to_iso
from fademoe.web.api.row_query import AFTER
from fademoe.web.http.params import write_cursor

REQUESTS = 400
WARM = 20
DEPTH = 1_000_000
LIMIT = 500
AT_MOST_MS = 50
SOURCE = rows.SOURCES[0]

Address = Callable[[], str]


def run() -> Report:
    """Ask the web server while the table grows."""
    table = Table(
        columns=("request", "rows in the table", "p50 ms", "p99 ms", "p99 at most", "p99 against 1 M", "at most")
    )
    first: dict[str, float] = {}
    with stage(with_simulator=False) as servers:
        address = start_web(servers)
        context = servers.context()
        end_ms = rows.last_ms()
        for sources, minutes in rows.STAGES:
            rows.fill(context.database, sources, minutes, end_ms)
            there = rows.count(context.database)
            for name, make in _requests(minutes, end_ms).items():
                taken_ms = ask(address, make)
                p99 = taken_ms[len(taken_ms) * 99 // 100]
                ratio = p99 / first.setdefault(name, p99)
                limits = (AT_MOST_MS, ratio, 1.5) if name.startswith("/api/data") else ("", ratio, "")
                table.rows.append((name, there, median(taken_ms), p99, *limits))
        context.close()
    table.rows.sort(key=lambda row: str(row[0]))
    notes = [
        f"{REQUESTS} requests one after the other by one client that keeps its connection and takes gzip; pages of"
        f" {LIMIT} rows of all {len(rows.SYMBOLS)} symbols of {SOURCE} with all columns, unless it says otherwise.",
    ]
    return Report(title="the JSON API as the table grows", tables=[table], notes=notes)


def start_web(servers: Stage) -> str:
    """Start the web on a free port; return its address when it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    servers.start("web", FADEMOE_WEB_PORT=str(port))
    address = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        try:
            return requests.get(f"{address}/api/perpspecs", timeout=30).ok
        except requests.RequestException:
            return False

    until(is_up, 60)
    return address


def _requests(minutes: int, end_ms: int) -> dict[str, Address]:
    """Return, by name, what makes the path of the next request of a kind."""
    dice = random.Random(1)

    def deep() -> str:
        minute, symbol = divmod(DEPTH + dice.randrange(10_000), len(rows.SYMBOLS))
        after = end_ms - (minute + 1) * MINUTE_MS, rows.SYMBOLS[symbol]
        return f"/api/data/{SOURCE}?limit={LIMIT}&cursor={write_cursor('desc', AFTER, *map(str, after))}"

    def filtered() -> str:
        start_ms = end_ms - minutes * MINUTE_MS + dice.randrange(minutes - 7 * 1440) * MINUTE_MS
        span = f"from={to_iso(start_ms)}&to={to_iso(start_ms + 7 * DAY_MS)}"
        return f"/api/data/{SOURCE}?symbol={dice.choice(rows.SYMBOLS)}&columns=c,v&limit={LIMIT}&{span}"

    return {
        "/api/data first page": lambda: f"/api/data/{SOURCE}?limit={LIMIT}",
        f"/api/data at depth {DEPTH:,}": deep,
        "/api/data one symbol, a week, two columns": filtered,
        "/api/coverage of one perpspec": lambda: f"/api/coverage?source={SOURCE}",
    }


def ask(address: str, make: Address, limit: int = LIMIT, times: int = REQUESTS) -> list[float]:
    """Return the milliseconds of each answer, ascending; every answer has to have `limit` rows."""
    taken_ms = []
    with requests.Session() as session:
        for number in range(times + WARM):
            path = make()
            begin_s = time.perf_counter()
            answer = session.get(address + path, timeout=30)
            took_ms = (time.perf_counter() - begin_s) * 1000
            if not answer.ok or ("/api/coverage" not in path and len(answer.json()["rows"]) != limit):
                raise RuntimeError(f"{path}: HTTP {answer.status_code} {answer.text[:200]}")
            if number >= WARM:
                taken_ms.append(took_ms)
    return sorted(taken_ms)
