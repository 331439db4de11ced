"""Paper accounts: a hundred on 20 symbols step a minute in one process, and what that process takes."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from unittest import mock

import psutil

from bench.alerts import ROWS as OTHER_ROWS
from bench.report import Report, Table
from bench.stage import stage
from fademoe.backtest.request import RunRequest
from fademoe.cli.environment import load_settings
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.runtime.startup import wait_until_ready
from fademoe.store import trader as store
from fademoe.store.connection import Database
from fademoe.store.partitions import Partitions
from fademoe.trader import program
from fademoe.trader.accounts import add_account
from fademoe.trader.switches import TraderSettings

STRATEGIES = Path(__file__).parent.parent / "strategies"
ACCOUNTS, SYMBOLS, MINUTES = 100, 20, 15
AT_MOST_S, AT_MOST_MB = 5, 300
PRICE = "round(100 + (i * 7919 + n * 31) %% 10 / 100.0, 2)"
PRICES = f"{PRICE}, {PRICE} + 0.5, {PRICE} - 0.5, {PRICE}"
ROWS = {  # source: interval, step in ms, hours back, columns and their values of row i of symbol n
    "bin-ohlcv": ("1m", MINUTE_MS, 120, *OTHER_ROWS["ohlcv"][3:]),
    "bin-mark": ("1m", MINUTE_MS, 120, "mark_o, mark_h, mark_l, mark_c", PRICES),
    "bin-pfr": OTHER_ROWS["pfr"],
    "bin-oi": OTHER_ROWS["oi"],
    "bin-fr": OTHER_ROWS["fr"],
    "byb-fr": OTHER_ROWS["fr"],
}
SMA = (STRATEGIES / "sma_cross.py").read_text(encoding="utf-8")
CHOICES: tuple[tuple[str, str, Callable[[int], dict[str, str]]], ...] = (  # (file, text, params of account n)
    ("sma_cross.py", SMA, lambda n: {"fast": str(2 + n % 9), "slow": str(20 + n)}),
    ("funding_carry.py", (STRATEGIES / "funding_carry.py").read_text(encoding="utf-8"), lambda n: {}),
    ("premium_reversion.toml", (STRATEGIES / "premium_reversion.toml").read_text(encoding="utf-8"), lambda n: {}),
    ("sma_cross.py", SMA, lambda n: {"fast": "1", "slow": "2"}),  # it trades in nearly every minute
)


def run() -> Report:
    """Fill a database, step its newest minutes in a process of their own, and watch that process."""
    begin = floor_to(now_ms(), DAY_MS) - MINUTES * MINUTE_MS  # a settlement comes after as many minutes
    with stage(with_simulator=False) as servers:
        context = servers.context()
        fill(context.database, begin + 2 * MINUTES * MINUTE_MS)
        for number in range(ACCOUNTS):
            add(context.database, number, begin)
        context.close()
        command = [sys.executable, "-m", "bench.trader", str(servers.home), str(begin)]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    table = Table(columns=("", "measured", "at most"))
    table.rows.append(("accounts x symbols", f"{ACCOUNTS} x {SYMBOLS}", ""))
    table.rows.append(("one minute of all: median s", found["median_s"], AT_MOST_S))
    table.rows.append(("one minute of all: slowest s", found["slowest_s"], AT_MOST_S))
    table.rows.append(("one minute: median s of CPU in the process", found["cpu_s"], ""))
    table.rows.append(("first minute, which loads the accounts: s", found["first_s"], ""))
    table.rows.append(("memory of the process, at most: MB", found["memory_mb"], AT_MOST_MB))
    table.rows.append(("rows of the ledgers", found["ledger"], ""))
    notes = [
        f"Three of the strategies that come with FadeMoe, {2 * MINUTES} minutes in order, a settlement among them. A"
        " quarter of the accounts trades in nearly every minute. Each account's state, ledger and cursor are a"
        " transaction of their own."
    ]
    return Report(title="paper accounts", tables=[table], notes=notes)


def fill(database: Database, end_ms: int) -> None:
    """Store contracts, rows and coverage up to `end_ms`."""
    Partitions(database).ensure(Window(end_ms - 120 * HOUR_MS, end_ms))
    with database.open_transaction() as cursor:
        for code, exchange in (("bin", "binance"), ("byb", "bybit")):
            cursor.execute(
                "INSERT INTO perp_lives (exchange, code, instrument, symbol, listed_ms)"
                " SELECT %s, %s, 'I' || n, 'S' || n, 0 FROM generate_series(1, %s) AS n",
                (exchange, code, SYMBOLS),
            )
        for source, (interval, step, hours, columns, values) in ROWS.items():
            about = {
                "source": source,
                "interval": interval,
                "start": floor_to(end_ms - hours * HOUR_MS, step),
                "end": end_ms,
                "step": step,
                "symbols": SYMBOLS,
            }
            cursor.execute(
                f"INSERT INTO perp_data (ts, symbol, source, interval, {columns})"
                f" SELECT ts, 'S' || n, %(source)s, %(interval)s, {values} FROM generate_series(1, %(symbols)s) AS n,"
                " LATERAL (SELECT ts, ts / %(step)s AS i"
                " FROM generate_series(%(start)s, %(end)s - 1, %(step)s) AS ts) AS times",
                about,
            )
            cursor.execute(
                "INSERT INTO perp_coverage (source, symbol, wanted, covered)"
                " SELECT %(source)s, 'S' || n, int8multirange(int8range(%(start)s, NULL)),"
                " int8multirange(int8range(%(start)s, %(end)s)) FROM generate_series(1, %(symbols)s) AS n",
                about,
            )
    with database.open_transaction() as cursor:
        cursor.execute("ANALYZE")


def add(database: Database, number: int, since: int) -> None:
    """Make an account."""
    name, text, choose = CHOICES[number % len(CHOICES)]
    request = RunRequest(
        name=name,
        text=text,
        exchange="binance",
        symbols=",".join(f"S{n}" for n in range(1, SYMBOLS + 1)),
        since=since,
        until=since + MINUTE_MS,
        params=choose(number),
    )
    database.run(lambda cursor: add_account(cursor, f"account-{number}", request, TraderSettings()))


def measure(home: str, begin: int) -> dict[str, float]:
    """Step the minutes from `begin` on and return what it took."""
    context = wait_until_ready(load_settings({"FADEMOE_HOME": home}))
    reading = Database(context.settings.postgres_url)
    taken, spent, process = [], [], psutil.Process()
    memory = 0
    trader = program.TraderProgram(context.database, reading, context.stop)
    for minute in range(begin, begin + 2 * MINUTES * MINUTE_MS, MINUTE_MS):
        with context.database.open_transaction() as cursor:
            cursor.execute(
                "INSERT INTO perp_status (unit, kind, state, message, interval_s, heartbeat)"
                " VALUES ('stream binance', 'stream', 'running', '', 5, now())"
                " ON CONFLICT (unit) DO UPDATE SET heartbeat = excluded.heartbeat"
            )
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        with mock.patch.object(program, "now_ms", lambda: minute + MINUTE_MS + 1):  # noqa: B023
            trader.step_once()
        taken.append(time.perf_counter() - started_s)
        spent.append(time.process_time() - started_cpu_s)
        memory = max(memory, process.memory_info().rss)
    with context.database.open_transaction() as cursor:
        assert {at for at, *_ in store.list_cursors(cursor).values()} == {begin + 2 * MINUTES * MINUTE_MS}
        cursor.execute("SELECT count(*) FROM perp_trader_ledger")
        ((rows,),) = cursor.fetchall()
    context.close()
    reading.close()
    return {
        "first_s": taken[0],
        "median_s": median(taken[1:]),
        "slowest_s": max(taken[1:]),
        "cpu_s": median(spent[1:]),
        "memory_mb": memory / 1e6,
        "ledger": rows,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
