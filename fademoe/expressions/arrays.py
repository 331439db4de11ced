"""Evaluates expressions for many series, or many points, at once: in floats with a bound of their error.

Every number comes with a bound of how far it may be from the exact value of `evaluate`. Where the bounds leave a
comparison open the truth is OPEN, and the caller evaluates that one exactly: so every truth is the exact one, and few
are computed in decimals. Arrays have a row for each series and a column for each point, oldest first.
"""

from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from fademoe.expressions.evaluate import NOW, Points
from fademoe.expressions.numbers import ATR_POINTS, EMA_POINTS, RSI_POINTS
from fademoe.expressions.tree import Arithmetic, Call, Choice, Comparison, Logic, Name, Node, Number, Sign
from fademoe.expressions.words import Kind, Measure

Floats = npt.NDArray[np.float64]
Truths = npt.NDArray[np.int8]

FALSE, TRUE, UNKNOWN, OPEN = 0, 1, -1, 2  # OPEN: the error's bound does not tell
ROUNDING = 2.0**-51  # four times the greatest relative error of one operation
SMALLEST = 1e-300  # below it floats lose digits, so a product may be this wrong
YEAR_HOURS = 8760.0


class Numbers(NamedTuple):
    """Numbers, NaN where unknown, and how far each may be from the exact one; no bound (inf) where all is open."""

    value: Floats
    error: Floats


class ArrayView(Protocol):
    """What is known at one or more moments, of all series at once. NaN is unknown; see evaluate.View."""

    def read_value(self, code: str | None, measure: Measure) -> Floats:
        """Return what a bare name is, in one column."""
        ...

    def read_points(self, code: str | None, measure: Measure, points: Points) -> Floats:
        """Return the values at strict grid points, or of the settlements in force."""
        ...

    def compute_settled(self, node: Call, points: Points) -> Numbers:
        """Return a function over the settlements of a window."""
        ...

    def rank(self, x: Numbers) -> Numbers:
        """Return the rank of each series among those that it is compared with."""
        ...

    def find_then(self, node: Call) -> Truths | None:
        """Return what the second half of a crossing was a minute before, None where that is not kept."""
        ...


class ArrayEvaluator:
    """Evaluates any number of expressions at one view; what they share is computed once."""

    def __init__(self, view: ArrayView) -> None:
        """Evaluate at `view`."""
        self._view = view
        self._numbers: dict[tuple[str, Points], Numbers] = {}
        self._truths: dict[tuple[str, Points], Truths] = {}

    def decide(self, node: Node, points: Points = NOW) -> Truths:
        """Return the truths of a node."""
        key = (node.text, points)
        if key not in self._truths:
            with np.errstate(all="ignore"):  # what has no value is NaN, and handled
                self._truths[key] = self._decide(node, points)
        return self._truths[key]

    def compute(self, node: Node, points: Points = NOW) -> Numbers:
        """Return the numbers of a node."""
        key = (node.text, points)
        found = self._numbers.get(key)
        if found is None:
            with np.errstate(all="ignore"):
                found = self._compute(node, points)
            if points.size == 1:  # the points of a window are many, and rarely asked for twice
                self._numbers[key] = found
        return found

    def _decide(self, node: Node, points: Points) -> Truths:
        match node:
            case Comparison(operators=operators):
                sides = [self.compute(child, points) for child in node.children]
                links = [compare(sign, a, b) for sign, a, b in zip(operators, sides, sides[1:], strict=False)]
                return all_true(links)
            case Logic(operator="not"):
                truths = self.decide(node.children[0], points)
                return np.where((truths == TRUE) | (truths == FALSE), 1 - truths, truths).astype(np.int8)
            case Logic(operator=operator):
                parts = [self.decide(child, points) for child in node.children]
                return all_true(parts) if operator == "and" else any_true(parts)
            case Choice():
                test, first, second = (self.decide(child, points) for child in node.children)
                chosen = np.where(test == TRUE, first, second)
                return np.where(test >= OPEN, OPEN, np.where(test == UNKNOWN, UNKNOWN, chosen)).astype(np.int8)
            case Call(function=("cross_above" | "cross_below") as name):
                a, b = (self.compute(child, points) for child in node.children)
                now = compare(">" if name == "cross_above" else "<", a, b)
                then = self._view.find_then(node) if points == NOW else None
                return all_true([now, np.full_like(now, OPEN) if then is None else then])
        raise TypeError(f"{type(node).__name__} is no truth")

    def _compute(self, node: Node, points: Points) -> Numbers:
        match node:
            case Number(value=literal):
                return _round_literal(literal, points.size)
            case Name():
                return self._read(node, points)
            case Call():
                return self._call(node, points)
            case Sign(operator=operator):
                x = self.compute(node.children[0], points)
                return Numbers(-x.value, x.error) if operator == "-" else x
            case Arithmetic(operator=operator):
                a, b = (self.compute(child, points) for child in node.children)
                return OPERATIONS[operator](a, b)
            case Choice():
                test = self.decide(node.children[0], points)
                a, b = (self.compute(child, points) for child in node.children[1:])
                chosen = np.where(test == TRUE, a.value, np.where(test == FALSE, b.value, np.nan))
                error = np.where(test == TRUE, a.error, b.error)
                return Numbers(np.where(test == OPEN, 0.0, chosen), np.where(test == OPEN, np.inf, error))
        raise TypeError(f"{type(node).__name__} is no number")

    def _read(self, node: Name, points: Points) -> Numbers:
        if points.is_strict or node.measure.kind is Kind.SETTLEMENT:
            return _exact(self._view.read_points(node.code, node.measure, points))
        return _exact(self._view.read_value(node.code, node.measure))

    def _call(self, node: Call, points: Points) -> Numbers:
        first = node.children[0]
        match node.function:
            case "lag":
                return self.compute(first, points.shift(node.length_ms))
            case "chg" | "diff":
                now = self.compute(first, points.shift(0))
                then = self.compute(first, points.shift(node.length_ms))
                return subtract(divide(now, then), ONE) if node.function == "chg" else subtract(now, then)
            case "rank":
                return self._view.rank(self.compute(first, points))
            case "abs":
                x = self.compute(first, points)
                return Numbers(np.abs(x.value), x.error)
            case "log":
                return take_log(self.compute(first, points))
            case "min2" | "max2":
                a, b = (self.compute(child, points) for child in node.children)
                choose = np.minimum if node.function == "min2" else np.maximum
                return Numbers(choose(a.value, b.value), np.maximum(a.error, b.error))
            case "annual":
                rate, hours = (self.compute(child, points) for child in node.children)
                return divide(multiply(rate, _exact(np.full((1, 1), YEAR_HOURS), 0.0)), hours)
        if isinstance(first, Name) and first.measure.kind is Kind.SETTLEMENT:
            return self._view.compute_settled(node, points)
        return self._window(node, points)

    def _window(self, node: Call, points: Points) -> Numbers:
        grid_ms = node.grid_ms
        times = {"ema": EMA_POINTS, "rsi": RSI_POINTS, "atr": ATR_POINTS}.get(node.function, 1)
        length = times * (node.length_ms // grid_ms)
        if points.size > 1 and points.step_ms < grid_ms:  # a window at every minute, of points that lie further apart
            gap, stride = grid_ms // points.step_ms, 1
            size = points.size + (length - 1) * gap
            wide = Points(points.offset_ms, points.step_ms, size, is_strict=True)
        else:
            gap, stride = 1, 1 if points.size == 1 else points.step_ms // grid_ms
            wide = points.widen(node.length_ms, grid_ms, times)
        windows = [_cut(self.compute(child, wide), length, gap, stride) for child in node.children]
        n = length // times
        match node.function:
            case "ema":
                return weigh(windows[0], weigh_ema(n))
            case "rsi":
                return compute_rsi(windows[0], n)
            case "atr":
                return compute_atr(windows[0], windows[1], windows[2], n)
        return OVER_WINDOWS[node.function](windows[0])


def _exact(value: Floats, rounding: float = ROUNDING) -> Numbers:
    """Return values that were rounded once."""
    return Numbers(value, np.abs(value) * rounding)


def _round_literal(literal: Decimal, count: int) -> Numbers:
    """Return a literal at so many points; one too small for a float may be anything near 0, but is not 0."""
    number = float(literal)
    error = 0.0 if literal == Decimal(number) else abs(number) * ROUNDING + SMALLEST
    return Numbers(np.full((1, count), number), np.full((1, count), error))


ONE = Numbers(np.ones((1, 1)), np.zeros((1, 1)))


def _settle(value: Floats, error: Floats) -> Numbers:
    """Return a result; one that is too large for a float is open."""
    is_open = np.isinf(value) | np.isnan(error) & ~np.isnan(value)
    return Numbers(np.where(is_open, 0.0, value), np.where(is_open, np.inf, error))


def add(a: Numbers, b: Numbers) -> Numbers:
    """Return a + b."""
    value = a.value + b.value
    return _settle(value, a.error + b.error + np.abs(value) * ROUNDING)


def subtract(a: Numbers, b: Numbers) -> Numbers:
    """Return a - b."""
    return add(a, Numbers(-b.value, b.error))


def multiply(a: Numbers, b: Numbers) -> Numbers:
    """Return a * b: 0 where one of them is and the other has a bound, for what is open may be unknown."""
    value = a.value * b.value
    error = np.abs(a.value) * b.error + np.abs(b.value) * a.error + a.error * b.error
    a_is_zero = (a.value == 0) & (a.error == 0) & np.isfinite(b.error)
    b_is_zero = (b.value == 0) & (b.error == 0) & np.isfinite(a.error)
    return _settle(value, np.where(a_is_zero | b_is_zero, 0.0, error + np.abs(value) * ROUNDING + SMALLEST))


def divide(a: Numbers, b: Numbers) -> Numbers:
    """Return a / b: unknown where b is 0, open where b may be 0."""
    smallest = np.abs(b.value) - b.error
    value = np.where(b.value == 0, np.nan, a.value / b.value)
    error = (a.error + np.abs(value) * b.error) / smallest + np.abs(value) * ROUNDING + SMALLEST
    is_open = ~(smallest > 0) & ~((b.value == 0) & (b.error == 0)) & ~np.isnan(a.value) & ~np.isnan(b.value)
    return _settle(np.where(is_open, 0.0, value), np.where(is_open, np.inf, error))


def take_log(x: Numbers) -> Numbers:
    """Return the natural logarithm: unknown for 0 and below, open where x may be that."""
    smallest = x.value - x.error
    value = np.log(np.where(x.value > 0, x.value, np.nan))
    error = x.error / smallest + (np.abs(value) + 1) * ROUNDING
    is_open = ~(smallest > 0) & ~(x.value + x.error <= 0) & ~np.isnan(x.value)
    return _settle(np.where(is_open, 0.0, value), np.where(is_open, np.inf, error))


OPERATIONS: dict[str, Callable[[Numbers, Numbers], Numbers]] = {"+": add, "-": subtract, "*": multiply, "/": divide}


def compare(operator: str, a: Numbers, b: Numbers) -> Truths:
    """Compare numbers: OPEN where they may be equal and may be not."""
    difference = a.value - b.value
    margin = a.error + b.error + np.abs(difference) * ROUNDING
    above, below, equal = difference > margin, difference < -margin, (difference == 0) & (margin == 0)
    match operator:
        case ">":
            truths = _choose(above, below | equal)
        case ">=":
            truths = _choose(above | equal, below)
        case "<":
            truths = _choose(below, above | equal)
        case "<=":
            truths = _choose(below | equal, above)
        case "==":
            truths = _choose(equal, above | below)
        case _:
            truths = _choose(above | below, equal)
    truths[np.isnan(difference)] = UNKNOWN
    return truths


def _choose(true: npt.NDArray[np.bool_], false: npt.NDArray[np.bool_]) -> Truths:
    return np.where(true, TRUE, np.where(false, FALSE, OPEN)).astype(np.int8)


def all_true(parts: list[Truths]) -> Truths:
    """Return Kleene's and; open where what is open decides."""
    return _join(parts, FALSE, TRUE)


def any_true(parts: list[Truths]) -> Truths:
    """Return Kleene's or; open where what is open decides."""
    return _join(parts, TRUE, FALSE)


def _join(parts: list[Truths], decisive: int, neutral: int) -> Truths:
    shape = np.broadcast_shapes(*(part.shape for part in parts))
    result = np.full(shape, neutral, np.int8)
    for state in (UNKNOWN, OPEN, decisive):  # the later one outweighs the one before
        for part in parts:
            result[np.broadcast_to(part == state, shape)] = state
    return result


def _cut(x: Numbers, length: int, gap: int, stride: int) -> Numbers:
    """Return the windows of every point as a third axis."""
    value, error = (np.broadcast_to(array, np.broadcast_shapes(x.value.shape, x.error.shape)) for array in x)
    span = (length - 1) * gap + 1
    if value.shape[1] == span and gap == 1:
        return Numbers(value[:, None, :], error[:, None, :])
    views = (sliding_window_view(array, span, axis=1)[:, ::stride, ::gap] for array in (value, error))
    return Numbers(*views)


def weigh(x: Numbers, weights: Floats) -> Numbers:
    """Return the sum of each window, weighted."""
    total = x.value @ weights
    bound = np.abs(x.value) @ weights
    return _settle(total, x.error @ weights + bound * (len(weights) + 4) * ROUNDING)


@cache
def weigh_ema(length: int) -> Floats:
    """Return the weights of 4 n points that make the exponential average with the mean of the first n as its seed."""
    k = 2.0 / (length + 1)
    return _make_weights(length, EMA_POINTS * length, k)


@cache
def weigh_wilder(length: int, count: int) -> Floats:
    """Return the weights of `count` values that make Wilder's average."""
    return _make_weights(length, count, 1.0 / length)


def _make_weights(length: int, count: int, k: float) -> Floats:
    rest = count - length
    weights = np.empty(count)
    weights[length:] = k * (1 - k) ** np.arange(rest - 1, -1, -1)
    weights[:length] = (1 - k) ** rest / length
    return weights


def add_up(x: Numbers) -> Numbers:
    """Return the sum of each window."""
    n = x.value.shape[-1]
    bound = np.abs(x.value).sum(axis=-1)
    return _settle(x.value.sum(axis=-1), x.error.sum(axis=-1) + bound * n * ROUNDING)


def compute_mean(x: Numbers) -> Numbers:
    """Return the mean of each window."""
    n = x.value.shape[-1]
    total = add_up(x)
    return _settle(total.value / n, total.error / n + np.abs(total.value / n) * ROUNDING)


def find_least(x: Numbers) -> Numbers:
    """Return the least value of each window."""
    return Numbers(x.value.min(axis=-1), x.error.max(axis=-1))


def find_greatest(x: Numbers) -> Numbers:
    """Return the greatest value of each window."""
    return Numbers(x.value.max(axis=-1), x.error.max(axis=-1))


def compute_deviation(x: Numbers) -> Numbers:
    """Return the standard deviation of each window."""
    n = x.value.shape[-1]
    mean = compute_mean(x)
    difference = x.value - mean.value[..., None]
    error = x.error + mean.error[..., None] + np.abs(difference) * ROUNDING
    square = np.square(difference).sum(axis=-1) / n
    margin = (2 * np.abs(difference) * error + np.square(error)).sum(axis=-1) / n + square * (n + 4) * ROUNDING
    value = np.sqrt(square)
    bound = np.minimum(np.sqrt(margin), np.where(value > 0, margin / value, np.inf))
    return _settle(value, bound + value * ROUNDING)


def compute_zscore(x: Numbers) -> Numbers:
    """Return how many deviations the newest value of each window lies above the mean."""
    newest = Numbers(x.value[..., -1], x.error[..., -1])
    return divide(subtract(newest, compute_mean(x)), compute_deviation(x))


def compute_rsi(x: Numbers, length: int) -> Numbers:
    """Return Wilder's relative strength index of each window."""
    changes = np.diff(x.value, axis=-1)
    errors = x.error[..., 1:] + x.error[..., :-1] + np.abs(changes) * ROUNDING
    weights = weigh_wilder(length, changes.shape[-1])
    gain = weigh(Numbers(np.maximum(changes, 0.0), errors), weights)
    loss = weigh(Numbers(np.maximum(-changes, 0.0), errors), weights)
    hundred = Numbers(np.full((1, 1), 100.0), np.zeros((1, 1)))
    return multiply(hundred, divide(gain, add(gain, loss)))


def compute_atr(high: Numbers, low: Numbers, close: Numbers, length: int) -> Numbers:
    """Return Wilder's average true range of each window."""
    before = close.value[..., :-1]
    h, l_ = high.value[..., 1:], low.value[..., 1:]
    ranges = np.maximum(h - l_, np.maximum(np.abs(h - before), np.abs(l_ - before)))
    errors = high.error[..., 1:] + low.error[..., 1:] + close.error[..., :-1] + ranges * ROUNDING
    return weigh(Numbers(ranges, errors), weigh_wilder(length, ranges.shape[-1]))


OVER_WINDOWS: dict[str, Callable[[Numbers], Numbers]] = {
    "sum": add_up,
    "sma": compute_mean,
    "min": find_least,
    "max": find_greatest,
    "std": compute_deviation,
    "zscore": compute_zscore,
}
