"""Coarser bars of one symbol of three years, beside millions of rows of others."""

import os
from functools import partial
from statistics import median

from bench import rows
from bench.read import ask, start_web
from bench.report import Report, Table
from bench.stage import stage
from fademoe.clock import DAY_MS, MINUTE_MS, Window, to_iso
from fademoe.jobs.hours import LONGEST_MS, refresh
from fademoe.runtime.services import Services

SYMBOL = "LONG"
DAYS = 3 * 365
SOURCES = rows.SOURCES
MINUTES = int(os.environ.get("BENCH_STEPS_MINUTES", "20000"))  # of each of 50 others on each exchange: 3 million rows
# request -> (path, rows of the answer, p99 at most in ms)
REQUESTS = {
    "step=1d, three years": (f"/api/data/bin-ohlcv?symbol={SYMBOL}&step=1d&limit={DAYS}", DAYS, 100),
    "step=1h, first page": (f"/api/data/bin-ohlcv?symbol={SYMBOL}&step=1h&limit=500", 500, 50),
    "step=4h, first page": (f"/api/data/bin-ohlcv?symbol={SYMBOL}&step=4h&limit=500", 500, ""),
    "step=5m, first page": (f"/api/data/bin-ohlcv?symbol={SYMBOL}&step=5m&limit=500", 500, ""),
    "bin-vwap, step=1d, three years": (f"/api/data/bin-vwap?symbol={SYMBOL}&step=1d&limit={DAYS}", DAYS, ""),
    "x-spread, first page": (f"/api/data/x-spread?symbol={SYMBOL}&limit=500", 500, ""),
    "x-spread, step=1h, first page": (f"/api/data/x-spread?symbol={SYMBOL}&step=1h&limit=500", 500, ""),
    "/metric/ohlcv, step=1h, first page": (f"/metric/ohlcv?symbol={SYMBOL}&step=1h&limit=500", 500, ""),
}


def run() -> Report:
    """Fill, let the job make the hours, and ask the web server; then as if no hour were made."""
    table = Table(columns=("request", "p50 ms", "p99 ms", "p99 at most", "p50 ms without made hours"))
    with stage(with_simulator=False, kept_as="steps") as servers:
        address = start_web(servers)
        context = servers.context()
        end_ms = rows.last_ms()
        rows.fill(context.database, SOURCES, MINUTES, end_ms)
        rows.fill_symbol(context.database, SOURCES, SYMBOL, Window(end_ms - DAYS * DAY_MS, end_ms))
        made = _make_hours(context)
        taken = {name: ask(address, partial(str, path), count) for name, (path, count, _) in REQUESTS.items()}
        context.database.run(lambda cursor: cursor.execute("DELETE FROM perp_hours_made"))
        without = {
            name: median(ask(address, partial(str, path), count, 10)) for name, (path, count, _) in REQUESTS.items()
        }
        there = rows.count(context.database)
        context.close()
    for name, (_, _, at_most) in REQUESTS.items():
        times = taken[name]
        table.rows.append((name, median(times), times[len(times) * 99 // 100], at_most, without[name]))
    notes = [
        f"{there:,} rows; {SYMBOL} has every minute of {DAYS} days until {to_iso(end_ms)} on {len(SOURCES)} exchanges;"
        f" {made:,} hours made by the job",
    ]
    return Report(title="coarser bars of three years", tables=[table], notes=notes)


def _make_hours(services: Services) -> int:
    """Run the job until nothing is due; return how many hours it made."""
    count = 0
    while made := refresh(services, run_s=LONGEST_MS / MINUTE_MS):
        count += made
    return count
