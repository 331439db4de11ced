"""Sweeps over params, and walking forward: many runs over the same rows, all of them recorded.

Rules without stop and take go through the kernel, in floats; the best of them, and all that came near their margin, are
run again exactly. Every other strategy is run exactly for every set.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import product
from statistics import NormalDist, fmean, pvariance
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fademoe.account.market import Terms
from fademoe.account.numbers import EXACT, format_decimal
from fademoe.backtest.kernel import Costs, Prices, find_signals, simulate
from fademoe.backtest.market import Bars, Loader, Market
from fademoe.backtest.plan import Plan, write_param
from fademoe.backtest.rules import RuleStrategy
from fademoe.backtest.run import Cancelled, run_plan
from fademoe.backtest.vector import NotVectorised, VectorEvaluator
from fademoe.backtest.view import Lives, RunMinute
from fademoe.clock import DAY_MS, MINUTE_MS, Window
from fademoe.errors import ConfigError
from fademoe.store.coverage import Series
from fademoe.store.read.market import Known

Floats = NDArray[np.float64]
SETS_MOST = 100_000
AGREES = Decimal("0.01")  # USDT, between kernel and exact engine
EULER = 0.5772156649015329
DAY = DAY_MS // MINUTE_MS


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One set of params: what it earned. `by_kernel` is the equity that the kernel computes, where it runs.

    `unknown`: in how many ranges it held a position and it is not known what was settled, so that `profit` lacks it.
    """

    params: dict[str, Any]
    equity: str
    profit: float
    fills: int
    sharpe: float | None  # of daily returns, not yearly
    max_drawdown: float
    is_exact: bool
    by_kernel: float | None
    daily: list[float]
    unknown: int = 0

    def describe(self) -> dict[str, Any]:
        """Return the trial as values that JSON can hold."""
        fields = {name: value for name, value in vars(self).items() if name != "daily"}
        fields["params"] = {name: write_param(value) for name, value in self.params.items()}
        if self.is_exact and self.by_kernel is not None:
            fields["agrees"] = abs(Decimal(self.equity) - Decimal(self.by_kernel)) <= AGREES
        return fields


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """What a sweep is asked for: `k=a,b,c` of each param, how many of the best are run exactly.

    With `folds_ms` (training, test) it walks forward.
    """

    grid: tuple[str, ...]
    best: int = 5
    folds_ms: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the request as values that JSON can hold."""
        return {"grid": list(self.grid), "best": self.best, "folds_ms": self.folds_ms and list(self.folds_ms)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return the request that `to_json` wrote."""
        folds = stored["folds_ms"]
        return cls(grid=tuple(stored["grid"]), best=stored["best"], folds_ms=folds and (folds[0], folds[1]))


class CachedLoader:
    """Rows that are read once and kept, for runs over the same range."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self.lines: dict[tuple[Series, str, Window, bool], bytes] = {}
        self.known: dict[Series, Known] = {}

    def read(self, series: Series, metric: str, window: Window, *, timed: bool = False) -> bytes:
        key = (series, metric, window, timed)
        if key not in self.lines:
            self.lines[key] = self._loader.read(series, metric, window, timed=timed)
        return self.lines[key]

    def read_known(self, series: Series) -> Known:
        if series not in self.known:
            self.known[series] = self._loader.read_known(series)
        return self.known[series]


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What all runs of a sweep share. `back`: minutes before the range that the kernel reads, the same for all sets."""

    loader: Loader
    lags: Mapping[str, Mapping[str, int]]
    all_lives: Mapping[tuple[str, str], Sequence[Window]] | None
    lives: Mapping[str, Sequence[Window]]
    terms: Mapping[str, Sequence[tuple[int, Terms]]]
    back: int = 0

    def open_market(self, plan: Plan) -> Market:
        """Return a market over the range of a plan."""
        return Market(self.loader, plan.code, plan.since, plan.until, self.lags, self.all_lives)


def read_grid(plan: Plan, grid: Sequence[str]) -> list[dict[str, Any]]:
    """Return the sets of params of `k=a,b,c …`; raise ConfigError that names what is wrong."""
    axes: dict[str, list[Any]] = {}
    for text in grid:
        name, equals, values = text.partition("=")
        given = [value.strip() for value in values.split(",") if value.strip()]
        if not equals or not given:
            raise ConfigError(f"--grid is {text!r}: valid is name=value,value,…")
        axes[name.strip()] = [plan.strategy.read_params({name.strip(): value})[name.strip()] for value in given]
    count = math.prod(map(len, axes.values()))
    if count > SETS_MOST:
        raise ConfigError(f"--grid has {count} sets: at most {SETS_MOST} are run")
    return [dict(plan.params) | dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def run_sweep(
    plan: Plan,
    sets: Sequence[dict[str, Any]],
    ground: Ground,
    best: int = 5,
    progress: Callable[[float], bool] = lambda share: True,
) -> list[Trial]:
    """Run all sets; return their trials, the best first. Raises Cancelled."""
    return choose_best(plan, run_sets(plan, sets, ground, progress), ground, best)


def find_look_back(plan: Plan, sets: Sequence[dict[str, Any]]) -> int:
    """Return the minutes before the range that the rules of any of the sets look at, whole days."""
    furthest = max((_find_look_back(plan.strategy.make_rules(params)) for params in sets), default=0)
    return -(-furthest // DAY) * DAY


def _find_look_back(rules: RuleStrategy | None) -> int:
    compiled = {} if rules is None or rules.stop or rules.take else rules.compile_rules()
    return max((rule.needs.look_back_ms // MINUTE_MS + 2 for rule in compiled.values()), default=0)


def run_sets(
    plan: Plan,
    sets: Sequence[dict[str, Any]],
    ground: Ground,
    progress: Callable[[float], bool] = lambda share: True,
) -> list[Trial]:
    """Run sets, by the kernel where it can; return their trials in the same order. Raises Cancelled."""
    kernel = _Kernel(plan, ground)
    trials = []
    for done, params in enumerate(sets):
        trials.append(kernel.run(params) or run_exactly(plan, params, ground))
        if not progress(done / len(sets)):
            raise Cancelled("the sweep was cancelled")
    return trials


def choose_best(
    plan: Plan,
    trials: Sequence[Trial],
    ground: Ground,
    best: int,
    progress: Callable[[float], bool] = lambda share: True,
) -> list[Trial]:
    """Return the trials of all sets, the best first, of which some were run again exactly. Raises Cancelled."""
    ordered = sorted(trials, key=lambda trial: -trial.profit)
    for place, trial in enumerate(ordered[:best]):
        if not trial.is_exact:
            ordered[place] = run_exactly(plan, trial.params, ground, by_kernel=compute_last_equity(plan, trial))
        if not progress(place / best):
            raise Cancelled("the sweep was cancelled")
    return sorted(ordered, key=lambda trial: -trial.profit)


def compute_last_equity(plan: Plan, trial: Trial) -> float:
    """Return the equity at the end of a trial."""
    return float(plan.capital) + trial.profit


def run_exactly(plan: Plan, params: dict[str, Any], ground: Ground, by_kernel: float | None = None) -> Trial:
    """Run one set of params with the exact engine."""
    result = run_plan(replace(plan, params=params), ground.open_market(plan), ground.lives, ground.terms)
    equity = np.frombuffer(result.equity.equity, dtype=np.float64)
    fills = sum(1 for row in result.ledger if row.kind == "fill")
    return _make_trial(
        plan,
        params,
        equity,
        format_decimal(result.account.equity),
        fills,
        is_exact=True,
        by_kernel=by_kernel,
        unknown=len(result.unknown),
    )


def _make_trial(
    plan: Plan,
    params: dict[str, Any],
    equity: Floats,
    final: str,
    fills: int,
    *,
    is_exact: bool,
    by_kernel: float | None = None,
    unknown: int,
) -> Trial:
    capital = float(plan.capital)
    daily = np.concatenate(([capital], equity[DAY - 1 :: DAY]))
    returns = np.diff(daily) / daily[:-1] if len(daily) > 2 else np.empty(0)
    deviation = float(np.std(returns)) if len(returns) else 0.0
    peaks = np.maximum.accumulate(np.maximum(equity, capital))
    return Trial(
        params=params,
        equity=final,
        profit=float(Decimal(final) - plan.capital),
        fills=fills,
        sharpe=float(np.mean(returns)) / deviation if deviation else None,
        max_drawdown=float(np.max(1 - equity / peaks)) if len(equity) else 0.0,
        is_exact=is_exact,
        by_kernel=by_kernel,
        daily=returns.tolist(),
        unknown=unknown,
    )


class _Kernel:
    """The kernel over the rows of a plan; what it cannot run it leaves to the exact engine."""

    def __init__(self, plan: Plan, ground: Ground) -> None:
        self._plan = plan
        self._ground = ground
        self._market = ground.open_market(plan)
        self._evaluators: dict[str, VectorEvaluator] = {}
        self._prices: dict[str, Prices] = {}
        self._back = ground.back

    def run(self, params: dict[str, Any]) -> Trial | None:
        """Return the trial of a set of params, None where only the exact engine can tell."""
        plan = self._plan
        rules = plan.strategy.make_rules(params)
        is_plain = not plan.conditions.latency and not plan.conditions.isolated and self._is_listed_throughout()
        if rules is None or rules.stop or rules.take or not is_plain:
            return None
        try:
            signals = {symbol: self._find_signals(symbol, rules) for symbol in plan.symbols}
        except NotVectorised:
            return None
        outcome = simulate(
            self._read_prices(),
            signals,
            size=float(rules.size),
            capital=float(plan.capital),
            costs=Costs(
                taker=float(plan.conditions.taker),
                slippage=float(plan.conditions.slippage),
                leverage=float(plan.conditions.leverage),
            ),
        )
        if outcome.is_tight or (outcome.unknown and not plan.conditions.allow_holes):
            return None
        return _make_trial(
            plan,
            params,
            outcome.equity,
            format_decimal(Decimal(repr(outcome.final))),
            outcome.fills,
            is_exact=False,
            unknown=outcome.unknown,
        )

    def _is_listed_throughout(self) -> bool:
        window = Window(self._plan.since, self._plan.until)
        return all(
            any(
                life.start_ms <= window.start_ms and life.end_ms >= window.end_ms for life in self._ground.lives[symbol]
            )
            and len(self._ground.terms.get(symbol, ())) <= 1
            for symbol in self._plan.symbols
        )

    def _find_signals(self, symbol: str, rules: RuleStrategy) -> Any:
        compiled = rules.compile_rules()
        back = max((rule.needs.look_back_ms for rule in compiled.values()), default=0) // MINUTE_MS + 2
        if back > self._back:
            self._back = -(-back // DAY) * DAY
            self._evaluators.clear()
        if symbol not in self._evaluators:
            reader = _Reader(self._market, symbol, self._back)
            self._evaluators[symbol] = VectorEvaluator(reader.read_known, self._plan.code)
        evaluator = self._evaluators[symbol]
        length = (self._plan.until - self._plan.since) // MINUTE_MS
        truths = [
            np.broadcast_to(evaluator.evaluate(compiled[key].root), self._back + length)[self._back :]
            if key in compiled
            else np.zeros(length)
            for key in ("long", "short", "exit")
        ]
        return find_signals(*truths)

    def _read_prices(self) -> dict[str, Prices]:
        if not self._prices:
            minute = RunMinute(self._market, self._plan.symbols, Lives(self._ground.lives), self._ground.terms)
            for symbol in self._plan.symbols:
                self._prices[symbol] = _make_prices(self._plan, self._market, symbol, minute.get_terms(symbol))
        return self._prices


class _Reader:
    """Columns of a symbol over the minutes of a run and those before it."""

    def __init__(self, market: Market, symbol: str, back: int) -> None:
        self._market = market
        self._symbol = symbol
        self._back = back

    def read_known(self, metric: str, column: str) -> Floats:
        """Return the values that are known at the end of each minute."""
        bars = self._market.find_reading(self._symbol, column)
        if not isinstance(bars, Bars) or bars.step_ms != MINUTE_MS:
            raise NotVectorised(f"{column} has no value for every minute")
        late = (self._market.since - bars.find_last(column, self._market.since + MINUTE_MS)) // MINUTE_MS
        values = read_floats(self._market, bars, column, self._back + late)
        return values[: len(values) - late] if late else values


def read_floats(market: Market, bars: Bars, column: str, back: int = 0) -> Floats:
    """Return a column from `back` minutes before the run to its end, NaN where there is none."""
    first, last = bars.chunk_of(market.since - back * MINUTE_MS), bars.chunk_of(market.until - 1)
    parts = {chunk: bars.get_column(column, chunk).read_floats() for chunk in range(first, last + 1)}
    values = np.concatenate(list(parts.values()))
    before = sum(len(part) for chunk, part in parts.items() if chunk < 0)
    return values[before - back :]


def _make_prices(plan: Plan, market: Market, symbol: str, terms: Terms) -> Prices:
    candles, marks = market.get_bars("ohlcv", symbol), market.get_bars("mark", symbol)
    o, h, l, c = (read_floats(market, candles, name) for name in "ohlc")  # noqa: E741 - the columns' names
    mark = {name: read_floats(market, marks, f"mark_{name}") for name in "ohlc"}
    closes = _carry(np.where(np.isnan(mark["c"]), c, mark["c"]))
    before = np.concatenate(([np.nan], closes[:-1]))
    values = np.where(np.isnan(mark["o"]), np.where(np.isnan(o), before, o), mark["o"])
    has_mark = ~np.isnan(mark["o"])
    lows = np.where(has_mark, np.fmin(mark["o"], mark["l"]), np.where(np.isnan(l), before, np.fmin(o, l)))
    highs = np.where(has_mark, np.fmax(mark["o"], mark["h"]), np.where(np.isnan(h), before, np.fmax(o, h)))
    last_close = np.concatenate(([np.nan], _carry(c)[:-1]))
    settled = []
    for ts, settlements in sorted(market.get_settlements(symbol).list_by_minute().items()):
        minute = (ts - plan.since) // MINUTE_MS
        for each in settlements:
            known = [float(each.mark)] if each.mark is not None else [mark["o"][minute], o[minute], last_close[minute]]
            price = next((float(value) for value in known if not np.isnan(value)), math.nan)
            if not math.isnan(price):
                settled.append((minute, float(each.rate), price))
    absent = market.get_known(market.get_settlements(symbol).series).absent
    return Prices(
        opens=o,
        values=np.nan_to_num(values),
        closes=np.nan_to_num(closes),
        lows=np.nan_to_num(lows),
        highs=np.nan_to_num(highs),
        settled=settled,
        absent=[
            ((start_ms - plan.since) // MINUTE_MS, -((plan.since - end_ms) // MINUTE_MS)) for start_ms, end_ms in absent
        ],
        lot=float(terms.lot),
        min_notional=float(terms.min_notional),
        maintenance=float(max(tier.rate for tier in terms.tiers)),
    )


def _carry(values: Floats) -> Floats:
    """Return the values with the last known one in place of each NaN."""
    places = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(len(values))))
    return values[places]


def compute_deflated_sharpe(trials: Sequence[Trial]) -> float | None:
    """Return the probability that the best trial's Sharpe ratio is above what the best of so many by chance would have.

    After Bailey and Lopez de Prado (2014), of daily returns; None where there are too few days or trials.
    """
    ratios = [trial.sharpe for trial in trials if trial.sharpe is not None]
    best = trials[0] if trials else None
    if best is None or best.sharpe is None or len(ratios) < 2 or len(best.daily) < 3:
        return None
    normal, count = NormalDist(), len(trials)
    spread = math.sqrt(pvariance(ratios))
    chance = spread * ((1 - EULER) * normal.inv_cdf(1 - 1 / count) + EULER * normal.inv_cdf(1 - 1 / (count * math.e)))
    mean, days = fmean(best.daily), len(best.daily)
    deviation = math.sqrt(pvariance(best.daily))
    skew = fmean([((r - mean) / deviation) ** 3 for r in best.daily])
    kurtosis = fmean([((r - mean) / deviation) ** 4 for r in best.daily])
    width = 1 - skew * best.sharpe + (kurtosis - 1) / 4 * best.sharpe**2
    return normal.cdf((best.sharpe - chance) * math.sqrt(days - 1) / math.sqrt(width)) if width > 0 else None


@dataclass(frozen=True, kw_only=True)
class Fold:
    """A part of walking forward: chosen on what lies before `since`, run on [since, until)."""

    since: int
    until: int
    params: dict[str, Any]
    in_sample: float
    trial: Trial


def walk_forward(
    plan: Plan,
    sets: Sequence[dict[str, Any]],
    ground: Ground,
    train_ms: int,
    test_ms: int,
    progress: Callable[[float], bool] = lambda share: True,
) -> list[Fold]:
    """Choose the best set on each training range and run it exactly on the test range behind it, with what is left."""
    parts = split_folds(plan, train_ms, test_ms)

    def train(number: int) -> list[Trial]:
        return run_sets(parts[number][0], sets, ground, lambda share: progress((number + share) / len(parts)))

    return join_folds(plan, parts, map(train, range(len(parts))), ground)


def split_folds(plan: Plan, train_ms: int, test_ms: int) -> list[tuple[Plan, Plan]]:
    """Return the plan of each training range, and of the test range behind it."""
    starts = range(plan.since, plan.until - train_ms - test_ms + 1, test_ms)
    return [
        (
            replace(plan, since=start, until=start + train_ms),
            replace(plan, since=start + train_ms, until=start + train_ms + test_ms),
        )
        for start in starts
    ]


def join_folds(
    plan: Plan,
    parts: Sequence[tuple[Plan, Plan]],
    trained: Iterable[Sequence[Trial]],
    ground: Ground,
    progress: Callable[[float], bool] = lambda share: True,
) -> list[Fold]:
    """Run what was the best on each training range on its test range, with the capital that was left."""
    folds: list[Fold] = []
    capital = plan.capital
    for (train, test), trials in zip(parts, trained, strict=True):
        best = choose_best(train, trials, ground, 1)[0]
        trial = run_exactly(replace(test, capital=capital), best.params, ground)
        folds.append(Fold(since=test.since, until=test.until, params=trial.params, in_sample=best.profit, trial=trial))
        capital = Decimal(trial.equity)
        if not progress(len(folds) / len(parts)):
            raise Cancelled("the sweep was cancelled")
    return folds


def describe_trials(trials: Sequence[Trial]) -> dict[str, Any]:
    """Return the report of a sweep: how many trials, how much of the best is chance, and all of them.

    `unknown`: how many of the trials lack settlements that are not known.
    """
    return {
        "trials": len(trials),
        "exact": sum(1 for trial in trials if trial.is_exact),
        "unknown": sum(1 for trial in trials if trial.unknown),
        "deflated_sharpe": compute_deflated_sharpe(trials),
        "best": trials[0].describe() if trials else None,
        "trials_list": [trial.describe() for trial in trials],
    }


def describe_folds(plan: Plan, folds: Sequence[Fold], sets: int) -> dict[str, Any]:
    """Return the report of walking forward: out of sample first, then what was chosen and what it had promised.

    `unknown`: in how many ranges a position was held and it is not known what was settled.
    """
    final = Decimal(folds[-1].trial.equity) if folds else plan.capital
    return {
        "out_of_sample": {
            "equity": format_decimal(final),
            "profit": format_decimal(EXACT.subtract(final, plan.capital)),
            "return": float(final / plan.capital - 1),
            "folds": len(folds),
            "won": sum(1 for fold in folds if fold.trial.profit > 0),
            "unknown": sum(fold.trial.unknown for fold in folds),
        },
        "trials": sets * len(folds),
        "folds": [
            {
                "since": fold.since,
                "until": fold.until,
                "params": {name: write_param(value) for name, value in fold.params.items()},
                "in_sample": fold.in_sample,
                "profit": fold.trial.profit,
                "equity": fold.trial.equity,
                "unknown": fold.trial.unknown,
            }
            for fold in folds
        ],
    }
