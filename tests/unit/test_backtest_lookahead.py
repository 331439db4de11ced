"""No look-ahead: what is not known at an instant can be anything, and no decision up to it changes."""

import random
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fademoe.backtest.plan import Plan
from fademoe.backtest.strategies import RunningStrategy, StrategyFile
from fademoe.clock import MINUTE_MS
from fademoe.feeds.lags import find_lags
from tests.support.markets import EXAMPLES, START, MemoryLoader, draw_market, make_plan, run_in_memory

MINUTES = 1300
SYMBOLS = ("A", "B")
SHORT = {  # so that each example decides often within a day
    "sma_cross.py": {"fast": "5", "slow": "30"},
    "funding_carry.py": {"enter": "0.01", "leave": "0.005"},
    "oi_breakout.py": {"range": "10", "rise": "0.001", "hold": "20"},
    "liquidation_fade.py": {"window": "20", "times": "2", "patience": "5"},
    "premium_reversion.toml": {},
    "pairs.py": {"window": "60", "enter": "1"},
}
# They read equity or positions, which the account settles by marks of the minute that are not published yet; the
# others never came to a position that such a mark decides.
OWN_ACCOUNT = {"sma_cross.py", "oi_breakout.py", "liquidation_fade.py"}


class Recorder(StrategyFile):
    """A strategy that writes down what it decides."""

    decisions: list[tuple[int, Any]]

    def make(self, params: Any) -> Any:
        running: RunningStrategy = super().make(params)
        self.decisions = decisions = []

        class Recording:
            def decide(self, view: Any, symbols: frozenset[str]) -> Any:
                decided = running.decide(view, symbols)
                decisions.append((view.ts, deepcopy(decided)))
                return decided

        return Recording()


@cache
def draw() -> MemoryLoader:
    return draw_market(SYMBOLS, MINUTES, 7, ("bin", "byb"), holes=0.001)


def decide(plan: Plan, loader: MemoryLoader, until: int) -> list[tuple[int, Any]]:
    """Return what is decided up to the end of the minute before `until`."""
    strategy = Recorder(plan.strategy.name, plan.strategy.text)
    run_in_memory(replace(plan, strategy=strategy, until=until), loader)
    return strategy.decisions


def change_unknown(loader: MemoryLoader, at_ms: int, seed: int, *, keep_account: bool) -> MemoryLoader:
    """Return the rows with others in place of those that are not known at `at_ms`.

    `keep_account`: marks and settlements of the run's exchange up to then stay, by which its account is settled.
    """
    drawn, changed = random.Random(seed), MemoryLoader()
    for series, rows in loader.rows.items():
        lags = {lag.interval: lag for lag in find_lags(series.source)}
        for ts, (interval, *values) in rows.items():
            lag = lags[interval]
            known_ms = ts + lag.span_ms + (0 if lag.at_minute_end else lag.lag_ms)
            is_kept = keep_account and series.source in ("bin-mark", "bin-fr") and ts < at_ms
            if known_ms > at_ms and not is_kept:
                if drawn.random() < 0.1:
                    continue
                factor = Decimal(str(round(drawn.uniform(0.5, 1.5), 4)))
                values = [None if value is None else Decimal(str(value)) * factor for value in values]
                if series.source.endswith("-fr"):
                    values[1] = 8
            changed.rows[series][ts] = (interval, *values)
    return changed


def find_changed(name: str, text: str, params: dict[str, str], instants: int, *, keep_account: bool = False) -> int:
    """Return at how many instants a decision depends on what was not known."""
    plan = make_plan(StrategyFile(name, text), SYMBOLS, MINUTES, params=params)
    drawn = random.Random(len(name))
    whole = decide(plan, draw(), START + MINUTES * MINUTE_MS)
    assert any(decided for _, decided in whole), f"{name} decides nothing"
    changed = 0
    for n in range(instants):
        at_ms = START + drawn.randrange(60, MINUTES) * MINUTE_MS
        other = change_unknown(draw(), at_ms, n, keep_account=keep_account)
        before = [each for each in whole if each[0] <= at_ms]
        changed += decide(plan, other, at_ms) != before
    return changed


@pytest.mark.parametrize("name", SHORT)
def test_no_decision_of_an_example_knows_the_future(name: str):
    text = (EXAMPLES / name).read_text()
    assert find_changed(name, text, SHORT[name], 2, keep_account=name in OWN_ACCOUNT) == 0


@pytest.mark.full
@pytest.mark.parametrize("name", SHORT)
def test_no_decision_at_fifty_instants_knows_the_future(name: str):
    text = (EXAMPLES / name).read_text()
    assert find_changed(name, text, SHORT[name], 50, keep_account=name in OWN_ACCOUNT) == 0


def test_every_example_is_tried():
    assert {path.name for path in Path(EXAMPLES).glob("*.*")} == set(SHORT)


CHEATS = {
    "a shifted series": "view._market.get_bars('ohlcv', symbol).get('c', view.ts) or 0",
    "a centred window": "sum(v or 0 for v in "
    "view._market.get_bars('ohlcv', symbol).list_points('c', view.ts + 120000, 9))",
    "scaling by the whole sample": "(view.value(symbol, 'c') or 0) - max(filter(None, "
    "view._market.get_bars('ohlcv', symbol).read_day('c', 0)))",
    "a settlement before its time": "next((v for t, v in zip(view._market.get_settlements(symbol)._ts, "
    "view._market.get_settlements(symbol)._values['fr']) if t > view.ts), 0)",
    "a mark before its lag": "view._market.get_bars('mark', symbol).get('mark_c', view.ts - 60000) or 0",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_planted_cheat_is_caught(cheat: str):
    body = f"return {{symbol: Target(round(float({CHEATS[cheat]}), 9)) for symbol in view.symbols}}"
    head = "from fademoe.strategy import Strategy, Target\nclass C(Strategy):\n    def on_minute(self, view):\n"
    assert find_changed("cheat.py", f"{head}        {body}\n", {}, 2) == 2
