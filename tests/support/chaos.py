"""A whole FadeMoe under supervisord, and what breaks it."""

import os
import random
import time

from fademoe.clock import MINUTE_MS, monotonic_s
from fademoe.feeds import registry
from tests.support.installation import Installation
from tests.support.simulator import Simulator, same

SYMBOLS = ["BTC", "ETH", "SOL", "XRP", "DOGE", "ADA", "AVAX", "LINK", "LTC", "PEPE", "SHIB", "UNI"]
EXCHANGES = {"binance": "bin", "bybit": "byb", "okx": "okx"}
LIVE_ONLY = ("ppr", "lq")
PACE_S = 5.0
YOUNG_MS = 5 * MINUTE_MS
REST_FAULTS = (  # (kind, share of the requests that it strikes)
    ("reset", 0.03),
    ("truncated", 0.03),
    ("html_502", 0.03),
    ("html_200", 0.02),
    ("error_503", 0.02),
    ("stall", 0.01),
)


class Chaos:
    """Kills a program every few seconds, in turn, while the exchanges misbehave. The same seed does the same."""

    def __init__(self, system: Installation, seed: int) -> None:
        self._system = system
        self._dice = random.Random(seed)
        streams = [f"stream-{name}" for name in EXCHANGES]
        self._kinds = ["worker", "horse", *streams, "scheduler", "redis", "postgres", "web", "worker-live"]
        self.killed: list[str] = []

    def rage(self, seconds: float) -> None:
        """Break things for some time, then leave the exchanges in peace."""
        simulator = self._system.simulator
        for kind, share in REST_FAULTS:
            simulator.fault(kind=kind, probability=share, seconds=4)
        simulator.fault(kind="lost_close", probability=0.3)
        end_s = monotonic_s() + seconds
        turn: list[str] = []
        while (now_s := monotonic_s()) < end_s:
            turn = turn or self._dice.sample(self._kinds, len(self._kinds))
            kind = turn.pop()
            if not self._kill(kind):  # it is just coming back
                turn.insert(0, kind)
            if self._dice.random() < 0.5:
                simulator.fault(kind="drop_sockets", exchange=self._dice.choice(list(EXCHANGES)), count=1)
            time.sleep(max(0.0, min(end_s, now_s + PACE_S) - monotonic_s()))
        simulator.clear()

    def spared(self) -> set[str]:
        """Return the programs that were never killed; of the workers any one counts."""
        return set(self._kinds) - {name.partition(":")[0] for name in self.killed}

    def _kill(self, name: str) -> bool:
        """Kill a program; tell whether it ran."""
        before = self._system.pids()
        workers = [program for program in before if program.startswith("worker:")]
        name = self._dice.choice(workers) if name == "worker" and workers else name
        if name != "horse" and name not in before:
            return False
        self._system.kill(name)
        self.killed.append(name)
        return True


def missing(system: Installation, metric: str, start_ms: int, end_ms: int) -> list[tuple]:
    """Return (source, symbol, from, to) of what is not covered of a metric in a range.

    Left out are minutes that the exchange itself does not have: holes of the last three are not confirmed yet.
    """
    found = system.query(
        "SELECT source, symbol, lower(r), upper(r) FROM perp_coverage,"
        " unnest(int8multirange(int8range(%s, %s)) - covered) r WHERE source = ANY(%s) AND symbol = ANY(%s)",
        start_ms,
        end_ms,
        [f"{code}-{metric}" for code in EXCHANGES.values()],
        SYMBOLS,
    )
    return [row for row in found if not (metric == "ohlcv" and row[3] - row[2] < YOUNG_MS and is_hole(system, row))]


def is_hole(system: Installation, row: tuple, *, quiet: bool = False) -> bool:
    """Tell whether the exchange has no candle in (source, symbol, from, to); `quiet`: or none with a trade."""
    source, symbol, start_ms, end_ms = row
    (exchange,) = [name for name, code in EXCHANGES.items() if source == f"{code}-ohlcv"]
    candles = system.simulator.truth(exchange, "ohlcv", symbol, start_ms, end_ms).values()
    return not any(float(candle["v"]) for candle in candles) if quiet else not candles


def assert_exact(system: Installation, metric: str, start_ms: int, end_ms: int) -> None:
    """Nothing wrong, missing, too much or twice in a range of a metric, on any exchange."""
    for exchange, code in EXCHANGES.items():
        for symbol in SYMBOLS:
            found = system.differences(exchange, f"{code}-{metric}", symbol, start_ms, end_ms)
            assert found == [], f"{code}-{metric} {symbol}: {len(found)} differences"
    twice = system.query("SELECT source, symbol, ts FROM perp_data GROUP BY 1, 2, 3 HAVING count(*) > 1")
    assert twice == []


def assert_nothing_invented(system: Installation, metric: str, start_ms: int, end_ms: int) -> None:
    """Every stored row of a metric without history is the truth; a minute that was not watched has none."""
    for exchange, code in EXCHANGES.items():
        for symbol in SYMBOLS:
            truth = system.simulator.truth(exchange, metric, symbol, start_ms, end_ms)
            columns = sorted({name for row in truth.values() for name in row}) or ["ts"]
            stored = system.query(
                f"SELECT ts, {', '.join(f'{name}::text' for name in columns)} FROM perp_data"
                " WHERE source = %s AND symbol = %s AND ts >= %s AND ts < %s",
                f"{code}-{metric}",
                symbol,
                start_ms,
                end_ms,
            )
            for ts, *values in stored:
                assert ts in truth, f"{code}-{metric} {symbol} {ts} is too much"
                for name, value in zip(columns, values, strict=True):
                    assert same(truth[ts][name], value), f"{code}-{metric} {symbol} {ts} {name}: {value}"


def installation(folder, simulator: Simulator, **environment: str) -> Installation:
    """Return a system of the three exchanges."""
    system = Installation(folder, simulator, SYMBOLS, workers=3)
    return system.with_settings(FADEMOE_EXCHANGES=",".join(EXCHANGES), **environment)


def seed_of(environ=os.environ) -> int:
    """Return the seed of a run: that of CHAOS_SEED, else another one each time."""
    return int(environ.get("CHAOS_SEED", "") or random.SystemRandom().randrange(1_000_000))


def history_metrics() -> list[str]:
    """Return the metrics that all three exchanges have a history of."""
    tables = [registry.load_exchanges()[name] for name in EXCHANGES]
    return [metric for metric in tables[0].list_metrics() if all(table.find_rest_feed(metric) for table in tables)]


def minute_of(ms: int) -> int:
    """Return the start of a minute."""
    return ms - ms % MINUTE_MS
