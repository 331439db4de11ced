"""Minutes that are marked in stretches: a run gives to the byte what stepping each of its minutes gives."""

import random
from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext

import pytest

from fademoe.account.market import Terms, Tier
from fademoe.account.numbers import EXACT
from fademoe.account.state import Account
from fademoe.account.step import step_in_place
from fademoe.backtest.equity import Equity
from fademoe.backtest.market import Market
from fademoe.backtest.plan import LAST_MS, Plan
from fademoe.backtest.run import hash_result, write_ledger
from fademoe.backtest.view import Lives, RunMinute, RunView
from fademoe.clock import MINUTE_MS, Window
from fademoe.store.coverage import Series
from tests.support.markets import START, MemoryLoader, draw_market, make_plan, read_strategy, run_in_memory

SYMBOLS = ("A", "B", "C")
MINUTES = 1700  # so that a run goes over the edge of a day
RANDOM = """
import random
from decimal import Decimal
from fademoe.strategy import Limit, Market, Stop, Strategy, Target

class Drawn(Strategy):
    params = {"seed": 0, "often": 0.02, "most": 1.0}

    def on_minute(self, view):
        drawn = random.Random(f"{self.seed} {view.ts}")
        orders = {}
        for symbol in view.symbols:
            close = view.value(symbol, "c")
            if close is None or drawn.random() >= self.often:
                continue
            held, side = view.position(symbol), drawn.choice([1, -1])
            quantity = round(float(view.equity) * self.most * drawn.random() / float(close), 3) * side
            far = Decimal(str(round(drawn.uniform(0.001, 0.03), 4)))
            orders[symbol] = drawn.choice([
                [Target(round(side * self.most * drawn.random(), 2))],
                [Target(0)],
                [Market(quantity)],
                [Limit(quantity, close * (1 - side * far))],
                [Stop(-held or quantity, close * (1 + side * far), bool(held)), Limit(-quantity, close * (1 + far))],
                [],
            ])
        return orders
"""


def step_each_minute(
    plan: Plan,
    loader: MemoryLoader,
    lives: Mapping[str, Sequence[Window]],
    terms: Mapping[str, Sequence[tuple[int, Terms]]],
) -> tuple[str, Equity, Account, int]:
    """Return ledger, equity, account and the age of the oldest price of a run that steps all of its minutes."""
    market = Market(loader, plan.code, plan.since, plan.until, {})
    account, listed, equity = Account.open(plan.conditions, plan.capital), Lives(lives), Equity(plan.since)
    minute, view = RunMinute(market, plan.symbols, listed, terms), RunView(market, account, listed)
    ledger, stale = [], 0
    with localcontext(EXACT):
        strategy = plan.strategy.make(plan.params)
        for ts in range(plan.since, plan.until, MINUTE_MS):
            market.now = ts
            minute.move(ts)
            ledger += step_in_place(account, minute)
            stale = max(stale, account.stale_ms)
            equity.add(ts, account)
            view.move(ts)
            account.send(strategy.decide(view, frozenset(plan.symbols)), ts)
    return write_ledger(ledger), equity, account, stale // MINUTE_MS


def compare(seed: int, minutes: int) -> int:
    """Compare a drawn run with its minutes stepped one by one; return the rows of its ledger."""
    drawn = random.Random(seed)
    loader = draw_market(SYMBOLS, minutes, seed, holes=drawn.choice([0, 0.002, 0.1]))
    for symbol in SYMBOLS:  # settlements at odd times, and some that nobody knows
        for n in range(drawn.randrange(40), minutes, drawn.choice([60, 240])):
            loader.add(
                "bin-fr", symbol, START + n * MINUTE_MS + drawn.choice([0, 1_500]), f"{drawn.gauss(0, 1e-4):.8f}"
            )
    if drawn.random() < 0.5:
        begin = START + drawn.randrange(minutes) * MINUTE_MS + 500
        loader.absent[Series("bin-fr", "A")].append(Window(begin, begin + drawn.randrange(1, 200) * 30_000))
    if drawn.random() < 0.3:  # no marks at all
        loader.rows[Series("bin-mark", "B")].clear()
    lives: dict[str, tuple[Window, ...]] = {s: (Window(0, LAST_MS),) for s in SYMBOLS}
    if drawn.random() < 0.5:
        edges = sorted(START + drawn.randrange(minutes) * MINUTE_MS + 700 for _ in range(3))
        lives["C"] = (Window(0, edges[0]), Window(edges[1], edges[2]))
    lot = Decimal("0.001")
    steep = Terms(lot=lot, tiers=(Tier(Decimal(3000), Decimal("0.01")), Tier(Decimal(9000), Decimal("0.3"))))
    coins = Terms(lot=lot, tiers=(Tier(Decimal(9), Decimal("0.01")), Tier(None, Decimal("0.2"))), tiers_in_coins=True)
    terms = {
        "A": [(START, Terms(lot=lot)), (START + minutes // 2 * MINUTE_MS, steep)],
        "B": [(START, coins if drawn.random() < 0.5 else steep)],
    }
    leverage = drawn.choice([1, 3, 20])
    plan = make_plan(
        read_strategy(RANDOM),
        SYMBOLS,
        minutes,
        params={"seed": str(seed), "often": str(drawn.choice([0.002, 0.02, 0.3])), "most": str(leverage)},
        conditions={
            "leverage": Decimal(leverage),
            "isolated": drawn.random() < 0.4,
            "latency": drawn.choice([0, 0, 3]),
            "allow_holes": True,
        },
    )
    ledger, equity, account, stale = step_each_minute(plan, loader, lives, terms)
    result = run_in_memory(plan, loader, lives, terms)
    assert write_ledger(result.ledger) == ledger
    assert result.equity.lines == equity.lines
    assert result.sha256 == hash_result(result.ledger, equity)
    assert (result.equity.equity, result.equity.cash) == (equity.equity, equity.cash)
    assert result.equity.exposure.tolist() == pytest.approx(equity.exposure.tolist(), rel=1e-12)
    assert result.account.to_json() == account.to_json()
    assert result.longest_stale_minutes == stale
    return len(result.ledger)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_gives_what_stepping_each_minute_gives(seed: int):
    assert compare(seed, 400)


@pytest.mark.full
def test_three_hundred_runs_give_what_stepping_each_minute_gives():
    rows = [compare(seed, MINUTES) for seed in range(300)]
    assert min(rows) < 20 < max(rows)
