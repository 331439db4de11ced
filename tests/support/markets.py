"""Markets for backtests without a database: rows by series, given or drawn."""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from fademoe.account.market import Terms
from fademoe.account.state import Conditions
from fademoe.backtest.market import Market
from fademoe.backtest.plan import LAST_MS, Plan
from fademoe.backtest.run import Result, run_plan
from fademoe.backtest.strategies import StrategyFile
from fademoe.clock import HOUR_MS, MINUTE_MS, Window
from fademoe.metrics import METRICS
from fademoe.store import coverage
from fademoe.store.connection import Database
from fademoe.store.coverage import Covered, Series
from fademoe.store.read.market import Known
from fademoe.store.writer import Batch, Writer, group_rows

START = 1_700_006_400_000  # 2023-11-15T00:00:00Z
SEEN: list[Any] = []  # what strategies of tests wrote down
EXCHANGES = {"bin": "binance", "byb": "bybit", "okx": "okx"}
EXAMPLES = Path(__file__).resolve().parents[2] / "strategies"


class MemoryLoader:
    """Rows in memory: `rows[series][ts] = (interval, values…)`; all is covered but `missing`."""

    def __init__(self) -> None:
        self.rows: dict[Series, dict[int, tuple[Any, ...]]] = defaultdict(dict)
        self.missing: set[Series] = set()
        self.absent: dict[Series, list[Window]] = defaultdict(list)

    def add(self, source: str, symbol: str, ts: int, *values: object, interval: str | None = None) -> None:
        """Add a row; columns without a value are None."""
        metric = METRICS[source.rpartition("-")[2]]
        padded = (*values, *[None] * (len(metric.columns) - len(values)))
        self.rows[Series(source, symbol)][ts] = (interval or metric.interval, *padded)

    def read(self, series: Series, metric: str, window: Window, *, timed: bool = False) -> bytes:
        """Return the rows of a window as COPY text, oldest first; `timed` ones with their interval."""
        lines = []
        rows = self.rows.get(series, {})
        for ts in sorted(ts for ts in rows if window.start_ms <= ts < window.end_ms):
            interval, *values = rows[ts]
            texts = ["\\N" if value is None else str(value) for value in values]
            lines.append("\t".join([str(ts), *([interval] if timed else []), *texts]) + "\n")
        return "".join(lines).encode()

    def read_known(self, series: Series) -> Known:
        """Return all time as covered, or nothing of a missing series."""
        covered = () if series in self.missing else (Window(0, LAST_MS),)
        return Known(covered, tuple(self.absent[series]))


def draw_market(
    symbols: Sequence[str], minutes: int, seed: int = 1, codes: Iterable[str] = ("bin",), *, holes: float = 0.0
) -> MemoryLoader:
    """Draw candles, marks, settlements, premiums, open interest and liquidations of some minutes from START on."""
    drawn = random.Random(seed)
    loader = MemoryLoader()
    for code in codes:
        for symbol in symbols:
            price = drawn.uniform(50, 500)
            interest = drawn.uniform(1_000, 5_000)
            for n in range(minutes):
                ts = START + n * MINUTE_MS
                after = price * (1 + drawn.gauss(0, 0.002))
                high = max(price, after) * (1 + drawn.random() * 0.001)
                low = min(price, after) * (1 - drawn.random() * 0.001)
                texts = [f"{value:.2f}" for value in (price, high, low, after)]
                volume = f"{drawn.uniform(1, 400):.3f}"
                if drawn.random() >= holes:
                    taken = f"{float(volume) * drawn.random():.3f}"
                    loader.add(f"{code}-ohlcv", symbol, ts, *texts, volume, None, drawn.randrange(500), taken)
                if drawn.random() >= holes:
                    marks = [f"{value * (1 + drawn.gauss(0, 0.0002)):.3f}" for value in (price, high, low, after)]
                    loader.add(f"{code}-mark", symbol, ts, *marks)
                loader.add(f"{code}-pfr", symbol, ts, f"{drawn.gauss(0, 0.0005):.8f}")
                if drawn.random() < 0.1:
                    loader.add(f"{code}-lq", symbol, ts, drawn.randrange(9_000), drawn.randrange(9_000))
                interest *= 1 + drawn.gauss(0, 0.003)
                if n % 5 == 0:
                    loader.add(f"{code}-oi", symbol, ts, f"{interest:.3f}", f"{interest * price:.2f}")
                if ts % (8 * HOUR_MS) == 0:
                    rate, mark = f"{drawn.gauss(0, 0.0002):.8f}", f"{price:.2f}"
                    loader.add(f"{code}-fr", symbol, ts, rate, 8, drawn.choice([None, mark]))
                price = after
    return loader


def make_plan(strategy: StrategyFile, symbols: Sequence[str], minutes: int, **changes: Any) -> Plan:
    """Return a plan over the first minutes from START on."""
    since = START + changes.pop("skip", 0) * MINUTE_MS
    conditions = {"maker": Decimal("0.0002"), "taker": Decimal("0.0005")} | changes.pop("conditions", {})
    return Plan(
        strategy=strategy,
        params=strategy.read_params(changes.pop("params", {})),
        exchange="binance",
        code="bin",
        symbols=tuple(sorted(symbols)),
        since=since,
        until=START + minutes * MINUTE_MS,
        capital=Decimal(changes.pop("capital", 10_000)),
        conditions=Conditions(symbols=tuple(sorted(symbols)), **conditions),
        **changes,
    )


def run_in_memory(
    plan: Plan,
    loader: MemoryLoader,
    lives: Mapping[str, Sequence[Window]] | None = None,
    terms: Mapping[str, Sequence[tuple[int, Terms]]] | None = None,
) -> Result:
    """Run a plan over rows in memory, with the declared lags."""
    market = Market(loader, plan.code, plan.since, plan.until, {})
    return run_plan(plan, market, lives or {s: (Window(0, LAST_MS),) for s in plan.symbols}, terms or {})


def read_strategy(text: str, name: str = "tried.py") -> StrategyFile:
    """Return a strategy of its text."""
    return StrategyFile(name, text)


def store_market(url: str, loader: MemoryLoader, window: Window, lives: Mapping[tuple[str, str], int | None]) -> None:
    """Store all rows, wanted and covered, and the contracts by code and symbol with their delisting or None."""
    database = Database(url)
    batches, answers = [], []
    for series, rows in loader.rows.items():
        metric = METRICS[series.source.rpartition("-")[2]]
        made = [(series, metric.row_type(ts, *values[1:])) for ts, values in sorted(rows.items())]
        batches.append(Batch(metric.name, metric.interval, group_rows(made)))
        answers.append(Covered(series, [window]))
    Writer(database).write(batches, answers)
    with database.open_transaction() as cursor:
        coverage.want(cursor, list(loader.rows), window.start_ms, window.end_ms)
        for (code, symbol), delisted_ms in lives.items():
            cursor.execute(
                "INSERT INTO perp_lives (exchange, code, instrument, symbol, listed_ms, delisted_ms)"
                " VALUES (%s, %s, %s, %s, %s, %s)",
                (EXCHANGES[code], code, f"{symbol}USDT", symbol, window.start_ms - 1, delisted_ms),
            )
    database.close()
