"""The same candles from the same simulator with real limits: FadeMoe beside ccxt and freqtrade's downloader."""

import json
import re
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.addresses import moved
from bench.report import Report, Table
from bench.stage import Stage, stage, until
from fademoe.client import instruments
from fademoe.clock import DAY_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.feeds import registry
from fademoe.jobs import seed
from fademoe.runtime.services import Services
from fademoe.settings import DEFAULT_SYMBOLS

WORKERS = 16
LATENCY_MS = 80
DAYS = 3
# the starting list of coins without the two whose contracts are on a thousand coins: ccxt names those in its own way
SYMBOLS = (*(coin for coin in DEFAULT_SYMBOLS.split(",") if coin not in ("PEPE", "SHIB")), "AAVE", "ATOM")
CCXT = "ccxt==4.5.90"
FREQTRADE = "freqtrade"
PAGES = {"binance": (0, 499, 1000, 1500), "bybit": (0, 1000), "okx": (0, 100, 300)}  # 0: what ccxt takes by itself
REFUSALS = ("403", "418", "429", "10006", "50011")
TARGETS = {"binance": 2.0, "bybit": 4.0, "okx": 1.1}
ENVIRONMENTS = Path(__file__).parent / "data"
PEER = Path(__file__).parent / "peer_ccxt.py"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one downloader did."""

    seconds: float
    rows: int
    requests: int
    refusals: int
    verdict: str

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds


def run() -> Report:
    """Let each download 20 symbols x 3 days from each exchange."""
    python = environment("peers", CCXT)
    try:
        freqtrade = environment("freqtrade", FREQTRADE)
        installed = version_of(freqtrade)
    except subprocess.CalledProcessError:
        freqtrade, installed = None, "freqtrade cannot be installed here"
    columns = ("exchange", "downloader", "rows/s", "seconds", "rows", "requests", "refusals", "rows right", "ratio")
    table = Table(columns=columns)
    for name, target in TARGETS.items():
        peers = {limit: by_ccxt(python, name, limit) for limit in PAGES[name]}
        best = max(peers, key=lambda limit: peers[limit].rate)
        for limit, outcome in peers.items():
            label = f"ccxt, {limit or 'default'} a page" + (" (its best)" if limit == best else "")
            table.rows.append(line(name, label, outcome, ""))
        if freqtrade:
            table.rows.append(line(name, "freqtrade download-data", by_freqtrade(freqtrade, name), ""))
        ours = by_fademoe(name)
        ratio = f"{ours.rate / peers[best].rate:.2f} x (at least {target} x)"
        table.rows.append(line(name, "FadeMoe", ours, ratio))
        print(table.markdown(), flush=True)
    return Report(
        title=f"{len(SYMBOLS)} symbols x {DAYS} days of candles, {LATENCY_MS} ms latency, the exchanges' limits",
        tables=[table],
        notes=[
            f"FadeMoe: {WORKERS} workers that wait for work; from the wish to the last commit in PostgreSQL",
            f"{CCXT}: async, its own rate limiter, a task per symbol; from the first request to the last row in memory",
            f"{installed}: from its first line about data to its last, one pair after the other; it fetches"
            " up to now, so a little more; its rows are not compared",
            "lists of contracts are loaded before the clock starts, for both",
            "rows right: every value equal to the simulator's own, to the digit; of ccxt their number and times",
        ],
    )


def last_days() -> Window:
    """Return the last days whose candles all exchanges have by now."""
    end_ms = floor_to(now_ms() - 5 * MINUTE_MS, MINUTE_MS)
    return Window(end_ms - DAYS * DAY_MS, end_ms)


def line(name: str, label: str, outcome: Outcome, ratio: str) -> tuple[object, ...]:
    """Return a row of the table."""
    counts = (outcome.rows, outcome.requests, outcome.refusals, outcome.verdict)
    return (name, label, outcome.rate, f"{outcome.seconds:.1f}", *counts, ratio)


def by_fademoe(name: str) -> Outcome:
    """Let 16 workers fetch, and compare every value."""
    exchange = registry.load_exchanges()[name]
    with stage("--latency-ms", str(LATENCY_MS)) as on:
        on.environ["FADEMOE_EXCHANGES"] = name
        programs = [on.start("scheduler"), *(on.start("worker") for _ in range(WORKERS))]
        context = on.context()
        instruments.refresh(exchange, context.rest, context.database)
        until(lambda: context.redis.scard("rq:workers") == WORKERS, 60)
        window = last_days()
        before = requests_and_refusals(on, name)
        ask = seed.SeedRequest(
            exchanges=[exchange], metrics=["ohlcv"], symbols=SYMBOLS, since_ms=window.start_ms, until_ms=window.end_ms
        )
        begin_s = time.monotonic()
        seed.carry_out(context, ask, seed.make_plan(context, ask))
        source = f"{exchange.codes[0]}-ohlcv"
        until(lambda: is_covered(context, source, window), 900, every_s=0.05)
        seconds = time.monotonic() - begin_s
        requests, refusals = (now - then for now, then in zip(requests_and_refusals(on, name), before, strict=True))
        rows, wrong = compare(on, context, name, source, window)
        on.stop(*programs)
        context.close()
    verdict = "all" if not wrong else f"{wrong} wrong"
    return Outcome(seconds=seconds, rows=rows, requests=requests, refusals=refusals, verdict=verdict)


def by_ccxt(python: Path, name: str, limit: int) -> Outcome:
    """Let ccxt fetch in a process of its own, and compare the times of the rows."""
    with stage("--latency-ms", str(LATENCY_MS), with_servers=False) as on:
        window = last_days()
        command = [python, PEER, name, on.simulator_url, window.start_ms, window.end_ms, limit, *SYMBOLS]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            raise RuntimeError(f"ccxt failed: {done.stderr.strip()[-500:]}")
        found = json.loads(done.stdout)
        requests, refusals = requests_and_refusals(on, name)
        times = [ts for symbol in SYMBOLS for ts in truth(on, name, symbol, window)]
    is_right = (found["rows"], found["checksum"]) == (len(times), sum(times))
    return Outcome(
        seconds=found["seconds"],
        rows=found["rows"],
        requests=requests,
        refusals=refusals,
        verdict="all" if is_right else f"{found['rows']} of {len(times)}",
    )


def by_freqtrade(python: Path, name: str) -> Outcome:
    """Let freqtrade fetch into files, and read in its log what it says of it."""
    with stage("--latency-ms", str(LATENCY_MS), with_servers=False) as on:
        window = last_days()
        (on.logs / "config.json").write_text(json.dumps(freqtrade_config(python, name, on.simulator_url)))
        where = ("--config", on.logs / "config.json", "--userdir", on.logs, "--datadir", on.logs / "candles")
        times = f"{window.start_ms // 1000}-{window.end_ms // 1000}"
        what = ("--timeframes", "1m", "--candle-types", "futures", "--timerange", times, "--pairs")
        pairs = [f"{symbol}/USDT:USDT" for symbol in SYMBOLS]
        command = [python.parent / "freqtrade", "download-data", *where, *what, *pairs]
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=900, check=False, cwd=on.logs
        )
        requests, refusals = requests_and_refusals(on, name)
    # lines are wrapped, so a length may stand on the line below
    lengths = re.findall(
        r"Downloaded\s+data\s+for[^,]*,[^,]*,\s+futures\s+with\s+length\s+(\d+)", done.stdout + done.stderr
    )
    if done.returncode or len(lengths) != len(SYMBOLS):
        raise RuntimeError(f"freqtrade failed: {done.stderr.strip()[-500:]}")
    moments = re.findall(r"(\d{4}-\S+ \S+),(\d{3}) - freqtrade\.data\.history", done.stdout + done.stderr)
    begin, end = (datetime.fromisoformat(f"{moment[0]}.{moment[1]}+00:00") for moment in (moments[0], moments[-1]))
    seconds = (end - begin).total_seconds()
    return Outcome(
        seconds=seconds, rows=sum(map(int, lengths)), requests=requests, refusals=refusals, verdict="not compared"
    )


def freqtrade_config(python: Path, name: str, address: str) -> dict[str, Any]:
    """Return a configuration for futures without keys, every address of its ccxt replaced."""
    script = "import ccxt, json, sys; print(json.dumps(getattr(ccxt, sys.argv[1])().urls['api']))"
    urls = subprocess.run([str(python), "-c", script, name], capture_output=True, text=True, check=True).stdout
    markets = {"fetchMarkets": {"types": ["swap" if name == "okx" else "linear"]}}
    ccxt_config = {
        "urls": {"api": moved(json.loads(urls), address)},
        "options": markets,
        "has": {"fetchCurrencies": False},
    }
    return {
        "trading_mode": "futures",
        "margin_mode": "isolated",
        "stake_currency": "USDT",
        "stake_amount": 10,
        "max_open_trades": 1,
        "dry_run": True,
        "exchange": {"name": name, "ccxt_config": ccxt_config, "pair_whitelist": [], "only_from_ccxt": True},
        "pairlists": [{"method": "StaticPairList"}],
        "entry_pricing": {"price_side": "same"},
        "exit_pricing": {"price_side": "same"},
    }


def version_of(python: Path) -> str:
    """Return what freqtrade calls itself."""
    script = (
        "import importlib.metadata as m; print('freqtrade', m.version('freqtrade'), 'with ccxt', m.version('ccxt'))"
    )
    return subprocess.run([str(python), "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def compare(on: Stage, context: Services, name: str, source: str, window: Window) -> tuple[int, int]:
    """Return how many rows are stored and how many values differ from the simulator's own."""
    stored_rows = wrong = 0
    for symbol in SYMBOLS:
        expected = truth(on, name, symbol, window)
        columns = sorted({column for row in expected.values() for column in row})
        with context.database.open_transaction() as cursor:
            cursor.execute(
                f"SELECT ts, {', '.join(columns)} FROM perp_data WHERE source = %s AND symbol = %s", (source, symbol)
            )
            stored = {row[0]: row[1:] for row in cursor.fetchall()}
        stored_rows += len(stored)
        wrong += len(stored.keys() ^ expected.keys())
        for ts in stored.keys() & expected.keys():
            wanted = [None if expected[ts][column] is None else Decimal(expected[ts][column]) for column in columns]
            wrong += list(stored[ts]) != wanted
    return stored_rows, wrong


def truth(on: Stage, name: str, symbol: str, window: Window) -> dict[int, dict[str, Any]]:
    """Return the rows that a downloader must have, by time."""
    query = {"exchange": name, "metric": "ohlcv", "symbol": symbol, "from": window.start_ms, "to": window.end_ms}
    answer: Any = on.ask("/sim/truth", **query)
    return {row.pop("ts"): row for row in answer["rows"]}


def is_covered(context: Services, source: str, window: Window) -> bool:
    """Return whether nothing is missing of any symbol."""
    with context.database.open_transaction() as cursor:
        cursor.execute(
            "SELECT count(*) FROM perp_coverage WHERE source = %s AND covered @> int8range(%s, %s)", (source, *window)
        )
        return cursor.fetchone() == (len(SYMBOLS),)


def requests_and_refusals(on: Stage, name: str) -> tuple[int, int]:
    """Return what the simulator counted."""
    stats: Any = on.ask("/sim/stats")
    return stats[name]["requests"], sum(stats[name]["refusals"].get(code, 0) for code in REFUSALS)


def environment(name: str, *packages: str) -> Path:
    """Return the Python of an environment with these packages, made when it is not there yet."""
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, stdout=sys.stderr)
    return python
