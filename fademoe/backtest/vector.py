"""Expressions over all minutes at once, in floats: for sweeps alone. What it chooses is run again exactly.

The value at place T is what the expression is at the end of minute T; NaN is unknown. Truths are 1, 0 and NaN. Numbers
that differ by less than floats can tell are equal, as they nearly always are in decimals.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fademoe.clock import MINUTE_MS
from fademoe.errors import FadeMoeError
from fademoe.expressions.numbers import EMA_POINTS
from fademoe.expressions.tree import Arithmetic, Call, Choice, Comparison, Logic, Name, Node, Number, Sign
from fademoe.expressions.words import Kind

Floats = NDArray[np.float64]
OPERATORS: dict[str, Callable[[Floats, Floats], NDArray[np.bool_]]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


SAFE = 1e-14  # of the largest number that went into a result: what its float may be wrong by


class NotVectorised(FadeMoeError):
    """An expression needs the exact evaluation: samples, settlements, other exchanges, rsi, atr, rank."""


class VectorEvaluator:
    """Evaluates expressions of one symbol over the same minutes; what they share is computed once."""

    def __init__(self, read: Callable[[str, str], Floats], code: str) -> None:
        """`read(metric, column)` gives the values known at the end of each minute; `code` is the run's exchange."""
        self._read = read
        self._code = code
        self._known: dict[str, Floats] = {}
        self._errors: dict[str, float] = {}

    def evaluate(self, node: Node) -> Floats:
        """Return the values of a node; raise NotVectorised."""
        if isinstance(node, Number):
            return np.array(float(node.value))
        values = self._known.get(node.text)
        if values is None:
            if len(self._known) > 200:  # of a year that is a gigabyte
                self._known.clear()
            with np.errstate(all="ignore"):
                values = self._known[node.text] = self._evaluate(node)
        return values

    def _evaluate(self, node: Node) -> Floats:
        match node:
            case Name():
                return self._name(node)
            case Call():
                return self._call(node)
        parts = [self.evaluate(child) for child in node.children]
        match node:
            case Sign(operator=operator):
                return -parts[0] if operator == "-" else parts[0]
            case Arithmetic(operator=operator):
                return _calculate(operator, *parts)
            case Comparison(operators=operators):
                errors = [self._find_error(child) for child in node.children]
                pairs = pairwise(zip(parts, errors, strict=True))
                return _all_true([_compare(each, *a, *b) for each, (a, b) in zip(operators, pairs, strict=True)])
            case Logic(operator="not"):
                return 1 - parts[0]
            case Logic(operator="and"):
                return _all_true(parts)
            case Logic():
                return 1 - _all_true([1 - part for part in parts])
            case Choice():
                chosen = np.where(parts[0] == 1, parts[1], parts[2])
                return np.where(np.isnan(parts[0]), np.nan, chosen)
        raise NotVectorised(f"{node.source} cannot be evaluated over all minutes at once")

    def _name(self, node: Name) -> Floats:
        measure = node.measure
        is_dense = measure.kind is Kind.BAR and measure.grid_ms == MINUTE_MS and not measure.zero_when_empty
        if (node.code or self._code) != self._code or not is_dense:
            raise NotVectorised(f"{node.source} has no value for every minute of the run's exchange")
        return self._read(measure.metric, measure.column)

    def _call(self, node: Call) -> Floats:
        if node.function in ("rank", "annual", "atr", "rsi"):
            raise NotVectorised(f"{node.function} cannot be evaluated over all minutes at once")
        parts = [self.evaluate(child) for child in node.children]
        first, length = parts[0], node.length_ms // MINUTE_MS
        if length and not first.ndim:
            raise NotVectorised(f"{node.source} is of a number that is the same in every minute")
        match node.function:
            case "lag":
                return _shift(first, length)
            case "chg":
                before = _shift(first, length)
                return np.where(before == 0, np.nan, first / before - 1)
            case "diff":
                return first - _shift(first, length)
            case "cross_above" | "cross_below":
                above, below = (">", "<=") if node.function == "cross_above" else ("<", ">=")
                one, other = (self._find_error(child) for child in node.children)
                now = _compare(above, parts[0], one, parts[1], other)
                then = _compare(below, _shift(parts[0], 1), one, _shift(parts[1], 1), other)
                return _all_true([now, then])
            case "abs":
                return np.abs(first)
            case "log":
                return np.where(first > 0, np.log(first), np.nan)
            case "min2" | "max2":
                return (np.minimum if node.function == "min2" else np.maximum)(*parts)
            case "sum":
                return self._mean(node.children[0], length) * length
            case "sma":
                return self._mean(node.children[0], length)
            case "std":
                return self._deviation(node.children[0], length)
            case "zscore":
                deviation = self._deviation(node.children[0], length)
                score = (first - self._mean(node.children[0], length)) / deviation
                return np.where(deviation > 0, score, np.nan)
            case "min" | "max":
                return _roll_extreme(first, length, np.minimum if node.function == "min" else np.maximum)
            case "ema":
                return _roll_ema(first, length)
        raise NotVectorised(f"{node.function} cannot be evaluated over all minutes at once")

    def _find_error(self, node: Node) -> float:
        """Return by how much the values of a number may differ from what decimals give."""
        if node.text not in self._errors:
            self._errors[node.text] = self._compute_error(node)
        return self._errors[node.text]

    def _compute_error(self, node: Node) -> float:
        largest = _find_largest(self.evaluate(node))
        below = [self._find_error(child) for child in node.children if not child.is_truth]
        match node:
            case Call(function="sma" | "sum" | "std"):
                centre, sums, _ = self._sums(node.children[0], 1)
                count = node.length_ms // MINUTE_MS if node.function == "sum" else 1
                return (SAFE * (abs(centre) + _find_largest(sums)) + below[0]) * count
            case Arithmetic(operator="*" | "/") | Call(function="chg"):
                sizes = [_find_largest(self.evaluate(child)) for child in node.children]
                shares = [error / size for error, size in zip(below, sizes, strict=True) if size]
                is_change = isinstance(node, Call)
                return (largest + is_change) * (sum(shares) * (1 + is_change) + SAFE)
        return sum(below) * (2 if isinstance(node, Call) else 1) + SAFE * largest

    def _mean(self, node: Node, length: int) -> Floats:
        centre, sums, holes = self._sums(node, 1)
        return _window(sums, holes, length) / length + centre

    def _deviation(self, node: Node, length: int) -> Floats:
        _, sums, holes = self._sums(node, 1)
        _, squares, _ = self._sums(node, 2)
        mean = _window(sums, holes, length) / length
        deviation = np.sqrt(np.maximum(_window(squares, holes, length) / length - mean**2, 0))
        values = self.evaluate(node)
        still = _roll_extreme(values, length, np.minimum) == _roll_extreme(values, length, np.maximum)
        return np.where(still, 0.0, deviation)

    def _sums(self, node: Node, power: int) -> tuple[float, Floats, Floats]:
        """Return a centre, the running sums of (value - centre) ** power, and how many values were unknown so far."""
        values = self.evaluate(node)
        known = values[~np.isnan(values)]
        centre = float(known[0]) if len(known) else 0.0
        key = f"{node.text} to the power of {power}"
        if key not in self._known:
            self._known[key] = np.concatenate(([0.0], np.cumsum(np.nan_to_num(values - centre) ** power)))
        holes = f"holes of {node.text}"
        if holes not in self._known:
            self._known[holes] = np.concatenate(([0.0], np.cumsum(np.isnan(values).astype(np.float64))))
        return centre, self._known[key], self._known[holes]


def _calculate(operator: str, a: Floats, b: Floats) -> Floats:
    match operator:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
    return np.where(b == 0, np.nan, a / b)


def _compare(operator: str, a: Floats, a_error: float, b: Floats, b_error: float) -> Floats:
    equal = np.where(np.abs(a - b) <= a_error + b_error, b, a)
    return np.where(np.isnan(a) | np.isnan(b), np.nan, OPERATORS[operator](equal, b).astype(np.float64))


def _find_largest(values: Floats) -> float:
    known = np.abs(values[np.isfinite(values)])
    return float(known.max()) if known.size else 0.0


def _all_true(truths: list[Floats]) -> Floats:
    """Return Kleene's and: false where one is false, else unknown where one is, else true."""
    is_false = np.any(np.broadcast_arrays(*[truth == 0 for truth in truths]), axis=0)
    is_unknown = np.any(np.broadcast_arrays(*[np.isnan(truth) for truth in truths]), axis=0)
    return np.where(is_false, 0.0, np.where(is_unknown, np.nan, 1.0))


def _shift(values: Floats, length: int) -> Floats:
    if not length or not values.ndim:
        return values
    return np.concatenate((np.full(min(length, len(values)), np.nan), values[:-length]))


def _window(sums: Floats, holes: Floats, length: int) -> Floats:
    """Return the sums over the last `length` values, NaN where one of them is unknown."""
    if length >= len(sums):
        return np.full(len(sums) - 1, np.nan)
    total = np.full(len(sums) - 1, np.nan)
    total[length - 1 :] = np.where(holes[length:] == holes[:-length], sums[length:] - sums[:-length], np.nan)
    return total


def _roll_extreme(values: Floats, length: int, choose: Callable[[Floats, Floats], Floats]) -> Floats:
    """Return the least or the greatest of the last `length` values; NaN spreads."""
    covered, result = 1, values
    while covered < length:
        step = min(covered, length - covered)
        result = choose(result, _shift(result, step))
        covered += step
    return result


def _roll_ema(values: Floats, length: int) -> Floats:
    """Return the average over exactly the last 4 * length points: the mean of the first, then exponentially."""
    points = EMA_POINTS * length
    k = 2 / (length + 1)
    later = points - length
    weights = np.concatenate((k * (1 - k) ** np.arange(later), np.full(length, (1 - k) ** later / length)))
    if len(values) < points:
        return np.full(len(values), np.nan)
    averaged = np.convolve(np.nan_to_num(values), weights)[: len(values)]
    holes = np.concatenate(([0], np.cumsum(np.isnan(values))))
    result = np.full(len(values), np.nan)
    is_whole = holes[points:] == holes[:-points]
    result[points - 1 :] = np.where(is_whole, averaged[points - 1 :], np.nan)
    return result
