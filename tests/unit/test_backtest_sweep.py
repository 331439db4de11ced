"""Sweeps: the kernel says what the exact engine says, vectors what expressions say, and the best is run exactly."""

import random
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest

from fademoe.account.step import MissingSettlement
from fademoe.backtest.market import Market
from fademoe.backtest.plan import LAST_MS
from fademoe.backtest.rules import ExpressionView
from fademoe.backtest.strategies import StrategyFile
from fademoe.backtest.sweep import (
    AGREES,
    CachedLoader,
    Ground,
    _Kernel,
    _Reader,
    compute_deflated_sharpe,
    describe_folds,
    describe_trials,
    read_grid,
    run_exactly,
    run_sweep,
    walk_forward,
)
from fademoe.backtest.vector import NotVectorised, VectorEvaluator
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window
from fademoe.errors import ConfigError
from fademoe.expressions import Evaluator, Vocabulary, compile_expression
from fademoe.feeds import registry
from fademoe.store.coverage import Series
from tests.support.markets import START, MemoryLoader, draw_market, make_plan, read_strategy

MINUTES = 3000
CROSS = """
long = "sma(c, {fast}m) > sma(c, {slow}m)"
short = "sma(c, {fast}m) < sma(c, {slow}m)"
size = 0.4
[params]
fast = 5
slow = 30
"""
CASES = [
    "sma(c, 7m) > c",
    "ema(c, 9m) - c > 0",
    "zscore(c, 20m) > 1.5",
    "chg(c, 15m) > 0.3% and not v > 200",
    "cross_above(c, sma(c, 10m))",
    "cross_below(pfr, 0)",
    "max(h, 13m) == h or min(l, 6m) == l",
    "std(c, 30m) / c > 0.2%",
    "(c if tbv / v > 0.5 else o) > lag(c, 3m)",
    "min2(mark_c, c) > max2(o, lag(c, 1m))",
    "sum(v, 5m) > 1000",
    "diff(pfr, 4m) > 0 or log(c) < 0",
]


TIES = [
    "sma(c, 3m) > sma(c, 7m)",
    "sma(c, 7m) < c",
    "sma(c, 2m) >= o",
    "c > sma(c, 5m) > o",
    "cross_above(c, sma(c, 4m))",
    "cross_below(sma(c, 3m), sma(c, 6m))",
    "chg(c, 5m) >= 1%",
    "c / o - 1 >= 1%",
    "diff(c, 3m) > 0.1",
    "c - sma(c, 3m) > 0",
    "sum(c, 5m) / 5 > c",
    "c * 1.01 > h",
    "ema(c, 3m) > c",
    "std(c, 3m) > 0",
    "zscore(c, 3m) < 100",
    "-sma(c, 3m) < -c or abs(c - o) <= 0.1",
]


def make_ground(loader: MemoryLoader, symbols: list[str]) -> Ground:
    lives = {symbol: (Window(0, LAST_MS),) for symbol in symbols}
    return Ground(loader=CachedLoader(loader), lags={}, all_lives=None, lives=lives, terms={})


@pytest.fixture(scope="module")
def loader() -> MemoryLoader:
    return draw_market(["A", "B"], MINUTES, 11, holes=0.01)


@pytest.fixture(scope="module")
def coarse() -> MemoryLoader:
    """A coin whose price goes by few and large ticks, and stands still often."""
    drawn, loader, tick = random.Random(3), MemoryLoader(), 100
    for n in range(900):
        after = min(104, max(98, tick + drawn.choice([-1, 0, 0, 0, 0, 1])))
        prices = [Decimal(each) / 10 for each in (tick, max(tick, after), min(tick, after), after)]
        loader.add("bin-ohlcv", "A", START + n * MINUTE_MS, *prices, drawn.randrange(1, 4), None, 1, None)
        tick = after
    return loader


@pytest.mark.parametrize("text", CASES)
def test_vectors_say_what_expressions_say(loader: MemoryLoader, text: str):
    check_vectors(loader, text, step=3)


def check_vectors(loader: MemoryLoader, text: str, step: int) -> None:
    names = [name for exchange in registry.load_exchanges().values() for name in exchange.list_perpspecs()]
    expression = compile_expression(text, Vocabulary.build(names), truth=True)
    since, back = START + 400 * MINUTE_MS, 300
    market = Market(loader, "bin", since, START + 900 * MINUTE_MS, {})
    values = VectorEvaluator(_Reader(market, "A", back).read_known, "bin").evaluate(expression.root)[back:]
    assert len(values) == 500
    for place in range(0, 500, step):
        view = ExpressionView(market, ["A"], since + (place + 1) * MINUTE_MS, lambda ts: ["A"])
        reported = Evaluator(view).evaluate(expression.root, "bin", "A")
        found = None if np.isnan(values[place]) else bool(values[place])
        assert found == reported, place


@pytest.mark.parametrize("text", TIES)
def test_vectors_say_what_expressions_say_where_both_sides_are_equal(coarse: MemoryLoader, text: str):
    check_vectors(coarse, text, step=1)


@pytest.mark.parametrize(
    "text", ["oi > 1", "fr > 0", "byb.c > c", "rsi(c, 14m) > 70", "c > sma(2, 3m)", "ema(1, 2m) > 0"]
)
def test_what_vectors_cannot_say_is_left_to_the_exact_engine(loader: MemoryLoader, text: str):
    names = [name for exchange in registry.load_exchanges().values() for name in exchange.list_perpspecs()]
    root = compile_expression(text, Vocabulary.build(names), truth=True).root
    market = Market(loader, "bin", START, START + HOUR_MS, {})
    with pytest.raises(NotVectorised):
        VectorEvaluator(_Reader(market, "A", 300).read_known, "bin").evaluate(root)


@pytest.mark.parametrize(
    "conditions", [{}, {"slippage": Decimal(0)}, {"taker": Decimal("0.002"), "leverage": Decimal(2)}]
)
def test_the_kernel_agrees_with_the_exact_engine(loader: MemoryLoader, conditions: dict[str, Decimal]):
    plan = make_plan(StrategyFile("cross.toml", CROSS), ["A", "B"], MINUTES, skip=60, conditions=conditions)
    ground = make_ground(loader, ["A", "B"])
    for params in read_grid(plan, ["fast=3,9", "size=0.2,0.45"]):
        by_kernel = _Kernel(plan, ground).run(params)
        exactly = run_exactly(plan, params, ground)
        assert by_kernel is not None
        assert by_kernel.fills == exactly.fills > 100
        assert abs(by_kernel.profit - exactly.profit) < float(AGREES)
        assert by_kernel.max_drawdown == pytest.approx(exactly.max_drawdown, abs=1e-6)


@pytest.mark.parametrize("mark", ["100.5", "99.5"])
def test_the_kernel_values_what_filled_in_the_minute_at_its_fill(mark: str):
    """Its mark is another price than that of the candle: buying power would suffice or fail by it."""
    loader = MemoryLoader()
    for n in range(10):
        for symbol, price in (("A", "100"), ("B", "100")):
            loader.add("bin-ohlcv", symbol, START + n * MINUTE_MS, *[price] * 4, 1000)
            loader.add("bin-mark", symbol, START + n * MINUTE_MS, *[mark] * 4)
    rules = StrategyFile("hold.toml", 'long = "c > 0"\nsize = 0.5\n')
    plan = make_plan(rules, ["A", "B"], 10, conditions={"slippage": Decimal("0.0001")})
    ground = make_ground(loader, ["A", "B"])
    by_kernel, exactly = _Kernel(plan, ground).run(plan.params), run_exactly(plan, plan.params, ground)
    assert by_kernel is not None
    assert by_kernel.fills == exactly.fills == 2
    assert abs(by_kernel.profit - exactly.profit) < float(AGREES)


def test_a_run_near_its_margin_is_left_to_the_exact_engine():
    loader = MemoryLoader()
    for n in range(200):
        price = 100 if n < 100 else 17
        loader.add("bin-ohlcv", "A", START + n * MINUTE_MS, price, price, price, price, 1000)
    plan = make_plan(
        StrategyFile("long.toml", 'long = "c > 0"\nsize = 1.2'), ["A"], 200, conditions={"leverage": Decimal(5)}
    )
    ground = make_ground(loader, ["A"])
    assert _Kernel(plan, ground).run(dict(plan.params)) is None
    (trial,) = run_sweep(plan, [dict(plan.params)], ground)
    assert trial.is_exact


@pytest.mark.parametrize(
    ("prices", "rates"),
    [
        ([*[100] * 5, 50, 10, 1, "0.04", "0.04", 1, 10, 50, 100, 100, 100], {}),
        ([*[100] * 40, *[60] * 10, *[100] * 10], dict.fromkeys(range(3, 38), "0.02")),
    ],
)
def test_a_long_run_without_leverage_can_come_near_its_margin(prices, rates):
    """A crash of 99.96 % that recovers, and funding that eats the cash."""
    loader = MemoryLoader()
    for n, (opened, closed) in enumerate(pairwise([*map(Decimal, prices), Decimal(100)])):
        candle = (opened, max(opened, closed), min(opened, closed), closed)
        loader.add("bin-ohlcv", "A", START + n * MINUTE_MS, *candle, 1000)
        loader.add("bin-mark", "A", START + n * MINUTE_MS, *candle)
    for minute, rate in rates.items():
        loader.add("bin-fr", "A", START + minute * MINUTE_MS, rate, 8, None)
    plan = make_plan(StrategyFile("long.toml", 'long = "c > 0"'), ["A"], len(prices))
    assert _Kernel(plan, make_ground(loader, ["A"])).run(dict(plan.params)) is None


def test_liquidations_are_left_to_the_exact_engine():
    """A covered minute without a row is 0 there."""
    loader = draw_market(["A"], 300, 3)
    plan = make_plan(StrategyFile("lq.toml", 'long = "sum(lql, 30m) < 9000"'), ["A"], 200, skip=60)
    (trial,) = run_sweep(plan, [dict(plan.params)], make_ground(loader, ["A"]), best=0)
    assert trial.is_exact


def test_a_run_that_holds_where_nobody_knows_what_was_settled_is_left_to_the_exact_engine():
    loader = draw_market(["A"], 300, 4)
    plan = make_plan(StrategyFile("cross.toml", CROSS), ["A"], 300, skip=60)
    ground = make_ground(loader, ["A"])
    begin = START + 200 * MINUTE_MS
    assert _Kernel(plan, ground).run(dict(plan.params)) is not None
    loader.absent[Series("bin-fr", "A")].append(Window(begin + 1, begin + 2))
    ground = make_ground(loader, ["A"])
    assert _Kernel(plan, ground).run(dict(plan.params)) is None
    with pytest.raises(MissingSettlement):
        run_sweep(plan, [dict(plan.params)], ground)
    idle = dict(plan.params) | {"slow": 500}  # never known, so nothing is held
    assert _Kernel(plan, ground).run(idle) is not None
    allowed = make_plan(StrategyFile("cross.toml", CROSS), ["A"], 300, skip=60, conditions={"allow_holes": True})
    by_kernel = _Kernel(allowed, ground).run(dict(plan.params))
    exactly = run_exactly(allowed, dict(plan.params), ground)
    assert by_kernel is not None
    assert by_kernel.unknown == exactly.unknown == 1
    sets = [idle, dict(plan.params)]
    report = describe_trials(run_sweep(allowed, sets, ground, best=0))
    assert report["unknown"] == 1, "what holes cost nobody knows"
    assert sorted(trial["unknown"] for trial in report["trials_list"]) == [0, 1]
    folds = walk_forward(allowed, sets[1:], ground, HOUR_MS, HOUR_MS)
    walked = describe_folds(allowed, folds, 1)
    assert walked["out_of_sample"]["unknown"] == sum(fold["unknown"] for fold in walked["folds"]) == 1


def test_a_sweep_records_every_trial_and_runs_the_best_exactly(loader: MemoryLoader):
    plan = make_plan(StrategyFile("cross.toml", CROSS), ["A"], MINUTES)
    sets = read_grid(plan, ["fast=2,4,8", "slow=16,32,64"])
    trials = run_sweep(plan, sets, make_ground(loader, ["A"]), best=3)
    assert len(trials) == 9
    assert [trial.profit for trial in trials] == sorted((trial.profit for trial in trials), reverse=True)
    assert [trial.is_exact for trial in trials] == [True] * 3 + [False] * 6
    assert all(trial.describe()["agrees"] for trial in trials[:3])
    assert 0 <= (compute_deflated_sharpe(trials) or 0) <= 1


def test_a_python_strategy_is_run_exactly_for_every_set(loader: MemoryLoader):
    text = (
        "from fademoe.strategy import Strategy, Target\nclass Hold(Strategy):\n    params = {'share': 0.1}\n"
        "    minutes = 60\n    def on_minute(self, view):\n"
        "        return dict.fromkeys(view.symbols, Target(self.share))\n"
    )
    plan = make_plan(read_strategy(text), ["A"], 600)
    trials = run_sweep(plan, read_grid(plan, ["share=0.1,0.2,-0.3"]), make_ground(loader, ["A"]))
    assert all(trial.is_exact for trial in trials)
    assert len({trial.equity for trial in trials}) == 3


def test_money_of_trials_and_folds_is_plain_text(loader: MemoryLoader):
    text = (
        "from fademoe.strategy import Strategy\nclass Idle(Strategy):\n    def on_minute(self, view):\n        pass\n"
    )
    plan = make_plan(read_strategy(text), ["A"], 120, capital="1E+6")
    ground = make_ground(loader, ["A"])
    assert run_exactly(plan, {}, ground).equity == "1000000"
    folds = walk_forward(plan, [{}], ground, HOUR_MS, HOUR_MS)
    assert describe_folds(plan, folds, 1)["out_of_sample"]["equity"] == "1000000"


def test_walking_forward_chooses_on_what_lies_before(loader: MemoryLoader):
    plan = make_plan(StrategyFile("cross.toml", CROSS), ["A"], MINUTES)
    sets = read_grid(plan, ["fast=2,4", "slow=16,32"])
    folds = walk_forward(plan, sets, make_ground(loader, ["A"]), DAY_MS // 2, DAY_MS // 4)
    assert [fold.since for fold in folds] == [START + DAY_MS // 2 + n * (DAY_MS // 4) for n in range(len(folds))]
    assert len(folds) == 6
    assert folds[1].trial.profit == pytest.approx(float(folds[1].trial.equity) - float(folds[0].trial.equity))


def test_a_wrong_grid_names_the_valid_words(loader: MemoryLoader):
    plan = make_plan(StrategyFile("cross.toml", CROSS), ["A"], 600)
    for grid, words in (("fast", "valid is name=value"), ("x=1", "valid are fast, slow, size, stop, take")):
        with pytest.raises(ConfigError, match=words):
            read_grid(plan, [grid])
