"""Indicators of expressions against TA-Lib: 1,000 random series, and the definitions across holes."""

from decimal import Decimal as D

import numpy as np
import pytest
import talib

from fademoe.expressions import Evaluator, Vocabulary, compile_expression
from tests.support.views import ListView

MINUTE = 60_000
NOON = 1_795_694_400_000
WORDS = Vocabulary.build()
SERIES = 1_000
POINTS = 160
LENGTHS = (2, 3, 5, 14)

JUDGES = {
    "sma": (1, lambda c, n: talib.SMA(c, n)),
    "ema": (4, lambda c, n: talib.EMA(c, n)),
    "rsi": (10, lambda c, n: talib.RSI(c, n)),
    "std": (1, lambda c, n: talib.STDDEV(c, n)),
    "min": (1, lambda c, n: talib.MIN(c, n)),
    "max": (1, lambda c, n: talib.MAX(c, n)),
    "sum": (1, lambda c, n: talib.SUM(c, n)),
}


def make_series(random: np.random.Generator, index: int) -> dict[str, np.ndarray]:
    """Make bars of a random walk: prices from 1e-6 to 1e5; every fifth series hardly moves."""
    level = 10.0 ** random.uniform(-6, 5)
    size = 1e-5 if index % 5 == 0 else 10.0 ** random.uniform(-4, -1)
    closes = np.round(level * np.exp(np.cumsum(random.normal(0, size, POINTS))), 12)
    opens = np.roll(closes, 1)
    opens[0] = closes[0]
    wicks = np.abs(random.normal(0, size, (2, POINTS))) * closes
    highs = np.round(np.maximum(opens, closes) + wicks[0], 12)
    lows = np.round(np.maximum(np.minimum(opens, closes) - wicks[1], closes / 2), 12)
    return {"h": highs, "l": lows, "c": closes}


def make_view(bars: dict[str, np.ndarray]) -> ListView:
    first = NOON - POINTS * MINUTE
    series = {
        ("bin", "BTC", column): {first + i * MINUTE: D(repr(float(x))) for i, x in enumerate(values)}
        for column, values in bars.items()
    }
    return ListView(NOON, series)


@pytest.fixture(scope="module")
def rules():
    texts = [f"{name}(c, {n}m)" for name in JUDGES for n in LENGTHS] + [f"atr({n}m)" for n in LENGTHS]
    return {text: compile_expression(text, WORDS) for text in texts}


def test_indicators_equal_talib(rules):
    random = np.random.default_rng(13)
    worst = dict.fromkeys((*JUDGES, "atr"), 0.0)
    for index in range(SERIES):
        bars = make_series(random, index)
        evaluator = Evaluator(make_view(bars))
        n = LENGTHS[index % len(LENGTHS)]
        for name, (times, judge) in JUDGES.items():
            value = evaluator.evaluate(rules[f"{name}(c, {n}m)"].root, "bin", "BTC")
            expected = judge(bars["c"][-times * n :].copy(), n)[-1]
            allowed = 1e-6 * bars["c"][-1] if name == "std" else 0.0  # TA-Lib's loses digits on flat prices
            error = max(0.0, abs(float(value) - expected) - allowed)
            worst[name] = max(worst[name], error / max(abs(expected), 1e-12))
        value = evaluator.evaluate(rules[f"atr({n}m)"].root, "bin", "BTC")
        expected = talib.ATR(*(bars[column][-4 * n :].copy() for column in "hlc"), n)[-1]
        worst["atr"] = max(worst["atr"], abs(float(value) - expected) / expected)
    assert {name: error for name, error in worst.items() if error > 1e-9} == {}


def test_zscore_is_the_newest_value_in_deviations():
    random = np.random.default_rng(5)
    bars = make_series(random, 1)
    value = compile_expression("zscore(c, 20m)", WORDS).evaluate(make_view(bars), "bin", "BTC")
    window = bars["c"][-20:]
    assert float(value) == pytest.approx((window[-1] - window.mean()) / window.std(), rel=1e-9)
