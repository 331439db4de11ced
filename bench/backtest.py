"""The backtester: fills and equity beside backtesting.py and vectorbt, and the speed of all of them in one run."""

import json
import subprocess
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers import ENVIRONMENTS, environment
from bench.report import Report, Table
from bench.stage import stage
from fademoe.account.market import Terms, Tier
from fademoe.account.state import Conditions
from fademoe.backtest.database import execute
from fademoe.backtest.kernel import Costs, Prices, Signals, simulate
from fademoe.backtest.market import Market
from fademoe.backtest.plan import LAST_MS, Plan
from fademoe.backtest.request import RunRequest, make_plan
from fademoe.backtest.run import Result, run_plan
from fademoe.backtest.strategies import StrategyFile
from fademoe.backtest.sweep import CachedLoader, Ground, _Kernel, read_grid
from fademoe.clock import MINUTE_MS, Window
from fademoe.store.coverage import Series
from fademoe.store.partitions import Partitions
from fademoe.store.read.market import Known

BARS = 525_600  # a year of minutes
EVERY = 97  # bars between two changes of side
QUANTITY = 10
CASH = 1_000_000
FEES = ("0", "0.0005", "0.002")
SYMBOLS = 20
DAYS = 15
STORED_DAYS = 30
START = 1_700_006_400_000
PACKAGES = ("backtesting==0.6.6", "vectorbt==1.2.0")
PEER = Path(__file__).parent / "peer_backtest.py"
SCHEDULE = """
from fademoe.strategy import Market, Strategy

class Scheduled(Strategy):
    def on_minute(self, view):
        place = (view.ts - {start}) // 60_000 - 1
        if place % {every} == {every} - 1:
            turn = place // {every}
            return {{"A": Market({quantity} if turn == 0 else 2 * {quantity} * (1 if turn % 2 == 0 else -1))}}
"""
MINUTELY = """
from fademoe.strategy import Strategy, Target

class Minutely(Strategy):
    def on_minute(self, view):
        minute = view.ts // 60_000
        if minute % 240 == 0:
            side = 1 if minute // 240 % 2 else -1
            return {symbol: Target(side * 0.04) for symbol in view.symbols}
"""
CROSS = """
long = "sma(c, {fast}m) > sma(c, {slow}m)"
short = "sma(c, {fast}m) < sma(c, {slow}m)"
size = 0.5
[params]
fast = 60
slow = 600
"""
_PRICES = """
    FROM (SELECT i, 1000 + 50 * sin((i + 37 * %(number)s) / 300.0)::numeric(10, 4) AS p
          FROM generate_series(0, (%(until)s - %(start)s) / 60000 - 1) AS i) AS rows
"""
_STORE = (
    f"""
    INSERT INTO perp_data (ts, symbol, source, interval, o, h, l, c, v)
    SELECT %(start)s + i * 60000, %(symbol)s, 'bin-ohlcv', '1m', p, p + 0.75, p - 0.75, p + 0.25, 1000 {_PRICES}""",
    f"""
    INSERT INTO perp_data (ts, symbol, source, interval, mark_o, mark_h, mark_l, mark_c)
    SELECT %(start)s + i * 60000, %(symbol)s, 'bin-mark', '1m', p, p + 0.5, p - 0.5, p + 0.2 {_PRICES}""",
    f"""
    INSERT INTO perp_data (ts, symbol, source, interval, fr, fr_hours)
    SELECT %(start)s + i * 60000, %(symbol)s, 'bin-fr', 'settlement', 0.0001, 8 {_PRICES} WHERE i %% 480 = 0""",
    """
    INSERT INTO perp_coverage (source, symbol, wanted, covered)
    SELECT source, %(symbol)s, int8multirange(int8range(%(start)s, %(until)s)),
           int8multirange(int8range(%(start)s, %(until)s))
    FROM unnest(ARRAY['bin-ohlcv', 'bin-mark', 'bin-fr']) AS source""",
    """
    INSERT INTO perp_lives (exchange, code, instrument, symbol, listed_ms)
    VALUES ('binance', 'bin', %(symbol)s || 'USDT', %(symbol)s, %(start)s - 1)""",
)


class Drawn:
    """Drawn bars of some symbols, as the lines that PostgreSQL would send."""

    def __init__(self, symbols: int, bars: int) -> None:
        drawn = np.random.default_rng(1)
        self._lines: dict[Series, list[bytes]] = {}
        self.columns: dict[str, dict[str, Any]] = {}
        for number in range(symbols):
            name = chr(65 + number)
            close = np.round(1000 * np.exp(np.cumsum(drawn.normal(0, 0.0005, bars))), 2)
            opened = np.concatenate(([1000.0], close[:-1]))
            high = np.round(np.maximum(opened, close) * 1.0005, 2)
            low = np.round(np.minimum(opened, close) * 0.9995, 2)
            self.columns[name] = {"open": opened, "high": high, "low": low, "close": close}
            rows = list(zip(*(values.tolist() for values in (opened, high, low, close)), strict=True))
            times = [START + place * MINUTE_MS for place in range(bars)]
            self._lines[Series("bin-ohlcv", name)] = [
                f"{ts}\t{o:.2f}\t{h:.2f}\t{l:.2f}\t{c:.2f}\t100\t\\N\t\\N\t\\N\n".encode()
                for ts, (o, h, l, c) in zip(times, rows, strict=True)  # noqa: E741 - the columns' names
            ]
            self._lines[Series("bin-mark", name)] = [
                f"{ts}\t{o:.2f}\t{h:.2f}\t{l:.2f}\t{c:.2f}\n".encode()
                for ts, (o, h, l, c) in zip(times, rows, strict=True)  # noqa: E741 - the columns' names
            ]
            self._lines[Series("bin-fr", name)] = [
                f"{START + place * MINUTE_MS}\tsettlement\t0.0001\t8\t\\N\n".encode() for place in range(0, bars, 480)
            ]

    def read(self, series: Series, metric: str, window: Window, *, timed: bool = False) -> bytes:
        """Return the lines of a window."""
        step = 480 if metric == "fr" else 1
        first, last = (max(0, -(-(ts - START) // (step * MINUTE_MS))) for ts in window)
        return b"".join(self._lines.get(series, [])[first:last])

    def read_known(self, series: Series) -> Known:
        """Say that all is covered."""
        return Known((Window(0, LAST_MS),), ())


def run() -> Report:
    """Compare fills and equity, and measure engine, kernel and peers."""
    python = environment("backtest-peers", *PACKAGES)
    drawn = Drawn(1, BARS)
    equality, speed = (
        Table(columns=("peer", "fee", "fills", "fills that differ", "difference of equity, USDT")),
        Table(columns=("what", "bars", "CPU seconds", "bars/s", "at least")),
    )
    peers = _run_peers(python, drawn)
    ours = {fee: _run_schedule(drawn, fee) for fee in FEES}
    for peer, results in peers.items():
        for fee, result in zip(FEES, results, strict=True):
            equality.rows.append((peer, fee, *_compare(ours[fee][0], result)))
        best = min(result["seconds"] for result in results)
        speed.rows.append((peer, BARS, round(best, 3), round(BARS / best), ""))
    exact = min(seconds for _, seconds in ours.values())
    speed.rows.append(("exact engine, one symbol", BARS, round(exact, 2), round(BARS / exact), "1 x backtesting.py"))
    speed.rows.append(_measure_engine())
    speed.rows.append(_measure_database())
    speed.rows += _measure_kernel(drawn)
    notes = [
        f"Equality: one symbol, {BARS:,} bars, long and short in turn every {EVERY} bars, fills at the next open.",
        f"Exact engine: {SYMBOLS} symbols x {DAYS} days, all positions held throughout, a call a minute, marks,"
        " funding, margin, ledger, hashes; from the text of the rows to the result.",
        "Kernel: a year of minutes of one symbol with funding; the sweep evaluates expressions of each set as well.",
        "Peers run in an environment and processes of their own; vectorbt after its compilation. Seconds of CPU time.",
    ]
    return Report(title="fills, equity and speed beside peers", tables=[equality, speed], notes=notes)


def _run_peers(python: Path, drawn: Drawn) -> dict[str, list[dict[str, Any]]]:
    columns = drawn.columns["A"]
    sizes = np.zeros(BARS)
    for turn, place in enumerate(range(EVERY - 1, BARS, EVERY)):
        sizes[place] = QUANTITY if turn == 0 else 2 * QUANTITY * (1 if turn % 2 == 0 else -1)
    path = ENVIRONMENTS / "backtest.npz"
    np.savez(path, **columns, volume=np.full(BARS, 100.0), sizes=sizes, cash=CASH)
    made = {}
    for peer in ("backtesting", "vectorbt"):
        done = subprocess.run([python, PEER, path, peer, *FEES], capture_output=True, text=True, check=True)
        made[peer] = json.loads(done.stdout.splitlines()[-1])
    path.unlink()
    return made


def _make_plan(strategy: StrategyFile, symbols: tuple[str, ...], bars: int, **conditions: Decimal) -> Plan:
    given = {"maker": Decimal(0), "taker": Decimal(0), "slippage": Decimal(0)} | conditions
    return Plan(
        strategy=strategy,
        params=dict(strategy.params),
        exchange="binance",
        code="bin",
        symbols=symbols,
        since=START,
        until=START + bars * MINUTE_MS,
        capital=Decimal(CASH),
        conditions=Conditions(symbols=symbols, **given),
    )


def _terms(symbols: tuple[str, ...]) -> dict[str, list[tuple[int, Terms]]]:
    return {symbol: [(START, Terms(lot=Decimal("0.001"), tiers=(Tier(None, Decimal("0.005")),)))] for symbol in symbols}


def _run_plan(plan: Plan, loader: Any) -> tuple[Result, float]:
    market = Market(loader, "bin", plan.since, plan.until, {})
    lives = {symbol: (Window(0, LAST_MS),) for symbol in plan.symbols}
    begin = time.process_time()
    result = run_plan(plan, market, lives, _terms(plan.symbols))
    return result, time.process_time() - begin


class _WithoutFunding:
    """The drawn bars without settlements: the peers know none."""

    def __init__(self, drawn: Drawn) -> None:
        self._drawn = drawn
        self.read_known = drawn.read_known

    def read(self, series: Series, metric: str, window: Window, *, timed: bool = False) -> bytes:
        return b"" if metric == "fr" else self._drawn.read(series, metric, window, timed=timed)


def _run_schedule(drawn: Drawn, fee: str) -> tuple[Result, float]:
    strategy = StrategyFile("scheduled.py", SCHEDULE.format(start=START, every=EVERY, quantity=QUANTITY))
    return _run_plan(_make_plan(strategy, ("A",), BARS, taker=Decimal(fee)), _WithoutFunding(drawn))


def _compare(ours: Result, theirs: dict[str, Any]) -> tuple[int, int, str]:
    """Return how many fills there are, how many differ, and the difference of the equity."""
    fills = [((row.ts - START) // MINUTE_MS, row.price, row.quantity) for row in ours.ledger if row.kind == "fill"]
    other = [(at, Decimal(repr(round(price, 2))), Decimal(size)) for at, price, size in theirs["fills"]]
    differ = sum(1 for a, b in zip(fills, other, strict=False) if a != b) + abs(len(fills) - len(other))
    return len(fills), differ, f"{abs(float(ours.account.equity) - theirs['equity']):.2e}"


def _measure_engine() -> tuple[object, ...]:
    bars = DAYS * 1440
    drawn = Drawn(SYMBOLS, bars)
    symbols = tuple(drawn.columns)
    plan = _make_plan(StrategyFile("minutely.py", MINUTELY), symbols, bars)
    seconds = min(_run_plan(plan, drawn)[1] for _ in range(3))
    total = SYMBOLS * bars
    return (f"exact engine, {SYMBOLS} symbols", total, round(seconds, 2), round(total / seconds), "200,000")


def _measure_database() -> tuple[object, ...]:
    """Run over PostgreSQL, from the plan to the report."""
    names = [f"S{number:02}" for number in range(SYMBOLS)]
    bars = STORED_DAYS * 1440
    window = Window(START, START + bars * MINUTE_MS)
    with stage(with_simulator=False) as servers:
        context = servers.context()
        Partitions(context.database).ensure(window)
        with context.database.open_transaction() as cursor:
            for number, name in enumerate(names):
                values = {"symbol": name, "number": number, "start": window.start_ms, "until": window.end_ms}
                for statement in _STORE:
                    cursor.execute(statement, values)
            cursor.execute("ANALYZE perp_data")
        request = RunRequest(
            name="minutely.py",
            text=MINUTELY,
            exchange="binance",
            symbols=",".join(names),
            since=window.start_ms,
            until=window.end_ms,
        )
        times = []
        for _ in range(2):
            begin = time.perf_counter()
            with context.database.open_transaction() as cursor:
                plan = make_plan(cursor, request)
            with context.database.open_transaction() as cursor:
                outcome = execute(cursor, plan)
            times.append(time.perf_counter() - begin)
        context.close()
    total, seconds = SYMBOLS * bars, min(times)
    name = f"PostgreSQL to report, {SYMBOLS} symbols x {STORED_DAYS} days, {outcome.report['trades']} trades, wall"
    return (name, total, round(seconds, 2), round(total / seconds), "10 s")


def _measure_kernel(drawn: Drawn) -> list[tuple[object, ...]]:
    columns = drawn.columns["A"]
    opened, close = columns["open"], columns["close"]
    prices = Prices(
        opens=opened,
        values=opened,
        closes=close,
        lows=columns["low"],
        highs=columns["high"],
        settled=[(place, 0.0001, float(opened[place])) for place in range(0, BARS, 480)],
        lot=0.001,
        min_notional=0.0,
        maintenance=0.005,
    )
    signals = Signals(long=range(0, BARS, 600), short=range(300, BARS, 600), out=())
    costs = Costs(taker=0.0005, slippage=0.0001, leverage=1.0)
    times = []
    for _ in range(5):
        begin = time.process_time()
        simulate({"A": prices}, {"A": signals}, size=0.5, capital=CASH, costs=costs)
        times.append(time.process_time() - begin)
    rows: list[tuple[object, ...]] = [
        ("kernel, with funding", BARS, round(min(times), 4), round(BARS / min(times)), "20,000,000")
    ]
    plan = _make_plan(StrategyFile("cross.toml", CROSS), ("A",), BARS)
    lives = {"A": (Window(0, LAST_MS),)}
    ground = Ground(loader=CachedLoader(drawn), lags={}, all_lives=None, lives=lives, terms=_terms(("A",)))
    kernel = _Kernel(plan, ground)
    fast, slow = range(20, 220, 20), range(300, 2300, 200)
    sets = read_grid(plan, [f"fast={','.join(map(str, fast))}", f"slow={','.join(map(str, slow))}"])
    begin = time.process_time()
    for params in sets:
        kernel.run(params)
    seconds = time.process_time() - begin
    rows.append(
        (f"sweep of {len(sets)} sets", len(sets) * BARS, round(seconds, 1), round(len(sets) * BARS / seconds), "")
    )
    return rows
