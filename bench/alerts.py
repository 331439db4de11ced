"""Alert rules: 200 rules x 500 symbols x 3 exchanges, minute by minute in one process, and what that process takes."""

import json
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import psutil

from bench.report import Report, Table
from bench.stage import stage
from fademoe.alerts.minute import evaluate_minute, merge_states
from fademoe.alerts.program import make_watch
from fademoe.alerts.records import StoredRule
from fademoe.alerts.rules import Rule, parse_rule_file
from fademoe.cli.environment import load_settings
from fademoe.clock import HOUR_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.evaluation import LiveEngine
from fademoe.runtime.startup import wait_until_ready
from fademoe.store.connection import Database
from fademoe.store.partitions import Partitions

PRESETS = Path(__file__).parent.parent / "rules" / "presets.toml"
RULES, SYMBOLS, MINUTES = 200, 500, 10
EXCHANGES = {"bin": "binance", "byb": "bybit", "okx": "okx"}
LENGTHS = ("2m", "3m", "5m", "10m", "15m", "20m", "30m", "45m", "1h", "90m", "2h", "3h", "4h", "6h")
AT_MOST_S, AT_MOST_MB = 5, 300
PRICE = "round(100 + (i * 7919 + n * 31) %% 10 / 100.0, 2)"
# metric: interval, step in ms, hours back, columns and their values of row i of symbol n
ROWS = {
    "ohlcv": (
        "1m",
        MINUTE_MS,
        25,
        "o, h, l, c, v, qv, n, tbv",
        f"{PRICE}, {PRICE} + 0.5, {PRICE} - 0.5, {PRICE}, (i * 31 + n) %% 977 + 0.123, 5000.5, 7, 1.5",
    ),
    "pfr": ("1m", MINUTE_MS, 5, "pfr", "round(((i * 13 + n) %% 20 - 10) / 100000.0, 6)"),
    "lq": ("1m", MINUTE_MS, 5, "lql, lqs", "(i * 17 + n) %% 900, (i * 23 + n) %% 700"),
    "oi": ("5m", 5 * MINUTE_MS, 8, "oi, oi_usd", "10000 + (i * 37 + n) %% 90, NULL::numeric"),
    "lsr": ("5m", 5 * MINUTE_MS, 8, "lsr", "round(1.4 + ((i * 41 + n) %% 100 - 30) / 100.0, 3)"),
    "fr": ("settlement", 8 * HOUR_MS, 48, "fr, fr_hours", "round((n %% 20 - 10) / 100000.0, 7), 8"),
}


def run() -> Report:
    """Fill a database, evaluate its newest minutes in a process of their own, and watch that process."""
    begin = floor_to(now_ms(), MINUTE_MS) - (MINUTES + 5) * MINUTE_MS
    with stage(with_simulator=False) as servers:
        context = servers.context()
        fill(context.database, begin + (MINUTES + 1) * MINUTE_MS)
        context.close()
        command = [sys.executable, "-m", "bench.alerts", str(servers.home), str(begin)]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    table = Table(columns=("", "measured", "at most"))
    table.rows.append(("rules x contracts", found["evaluations"], ""))
    table.rows.append(("one minute: median s", found["median_s"], AT_MOST_S))
    table.rows.append(("one minute: slowest s", found["slowest_s"], AT_MOST_S))
    table.rows.append(("one minute: median s of CPU in the process", found["cpu_s"], AT_MOST_S))
    table.rows.append(("of it the states of all instances, median s", found["states_s"], ""))
    table.rows.append(("first minute, which fills the windows: s", found["first_s"], ""))
    table.rows.append(("memory of the process: MB", found["memory_mb"], AT_MOST_MB))
    notes = [
        f"The 12 presets with other lengths ({LENGTHS[0]} to {LENGTHS[-1]}) and thresholds, {RULES} rules in all, over"
        f" {SYMBOLS} symbols of three exchanges, {MINUTES} minutes in order: rows of the minute are read from"
        " PostgreSQL,"
        " every rule is evaluated for every contract and its states are stepped. The time holds what the process waits"
        " for PostgreSQL and for other programs of the machine.",
    ]
    return Report(title="rules over all contracts", tables=[table], notes=notes)


def fill(database: Database, end_ms: int) -> None:
    """Store contracts, rows and coverage up to `end_ms`."""
    Partitions(database).ensure(Window(end_ms - 49 * HOUR_MS, end_ms))
    with database.open_transaction() as cursor:
        for code, exchange in EXCHANGES.items():
            cursor.execute(
                "INSERT INTO perp_lives (exchange, code, instrument, symbol, listed_ms)"
                " SELECT %s, %s, 'I' || n, 'S' || n, 0 FROM generate_series(1, %s) AS n",
                (exchange, code, SYMBOLS),
            )
    for code in EXCHANGES:
        for metric, (interval, step, hours, columns, values) in ROWS.items():
            about = {
                "source": f"{code}-{metric}",
                "interval": interval,
                "start": floor_to(end_ms - hours * HOUR_MS, step),
                "end": end_ms,
                "step": step,
                "symbols": SYMBOLS,
            }
            with database.open_transaction() as cursor:
                cursor.execute(
                    f"INSERT INTO perp_data (ts, symbol, source, interval, {columns})"
                    f" SELECT ts, 'S' || n, %(source)s, %(interval)s, {values}"
                    " FROM generate_series(1, %(symbols)s) AS n,"
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


def make_rules() -> Iterator[Rule]:
    """Yield rules: the presets, then the same with other lengths and thresholds."""
    presets = parse_rule_file(PRESETS.read_text(encoding="utf-8")).rules
    for number in range(RULES):
        preset = presets[number % len(presets)]
        turn = number // len(presets)

        def change(text: str, turn: int = turn) -> str:
            longer = re.sub(r"\b(\d+)([mh])\b", lambda m: _lengthen(m[0], turn), text)
            return re.sub(r"> (\d+)%", lambda m: f"> {int(m[1]) + turn % 3}%", longer)

        codes = 'codes = ["bin", "byb", "okx"]'
        clear = f"clear = '{change(preset.clear)}'\n" if preset.clear else ""
        text = f"[[rule]]\nname = 'r{number}'\nexpr = '{change(preset.expr)}'\n{clear}{codes}\nsymbols = 'all'\n"
        tomllib.loads(text)
        found = parse_rule_file(text)
        if found.faults:
            raise ValueError(f"{text}: {found.faults}")
        yield found.rules[0]


def _lengthen(length: str, turn: int) -> str:
    """Return another length that is a multiple of five minutes where this one is."""
    choices = [one for one in LENGTHS if one.endswith("h") or int(one[:-1]) % 5 == 0 or length in ("1m", "2m", "3m")]
    return (
        length if turn == 0 else choices[(choices.index(length) + turn if length in choices else turn) % len(choices)]
    )


def measure(home: str, begin: int) -> dict[str, float]:
    """Evaluate the minutes from `begin` on and return what it took."""
    context = wait_until_ready(load_settings({"FADEMOE_HOME": home}))
    database = context.database
    rules = [StoredRule(id=number, file="", first_minute=0, rule=rule) for number, rule in enumerate(make_rules())]
    engine = LiveEngine([make_watch(rule) for rule in rules])
    states: dict[int, dict[tuple[str, str], object]] = {}
    taken, stepped, spent, evaluations = [], [], [], 0
    for minute in range(begin, begin + (MINUTES + 1) * MINUTE_MS, MINUTE_MS):
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        with database.open_transaction() as cursor:
            missing = engine.list_missing(cursor, minute)
            evaluated = engine.evaluate(cursor, minute)
            before_s = time.perf_counter()
            results = {int(result.watch.key): result for result in evaluated.results}
            outcome = evaluate_minute(minute, rules, states, results)  # type: ignore[arg-type]
            states = merge_states(states, outcome.changed)  # type: ignore[arg-type, assignment]
        stepped.append(time.perf_counter() - before_s)
        taken.append(time.perf_counter() - started_s)
        spent.append(time.process_time() - started_cpu_s)
        evaluations = outcome.instances
        if missing and minute > begin + 5 * MINUTE_MS:
            print(f"{len(missing)} series are missing: {missing[:3]}", file=sys.stderr)
    memory_mb = psutil.Process().memory_info().rss / 1e6
    context.close()
    print(sum(map(len, states.values())), "instances are not idle", file=sys.stderr)
    return {
        "evaluations": evaluations,
        "first_s": taken[0],
        "median_s": median(taken[1:]),
        "slowest_s": max(taken[1:]),
        "cpu_s": median(spent[1:]),
        "states_s": median(stepped[1:]),
        "memory_mb": memory_mb,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
