"""Evaluates expressions at the end of one minute, in exact decimals: the reference for every faster way."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from fademoe.clock import MINUTE_MS
from fademoe.expressions import numbers
from fademoe.expressions.numbers import Truth, Value, calculate, compare
from fademoe.expressions.tree import Arithmetic, Call, Choice, Comparison, Logic, Name, Node, Number, Sign
from fademoe.expressions.words import Kind, Measure

Result = Value | Truth  # a number, a truth, or None: unknown


class View(Protocol):
    """What is known at the end of minute T. An implementation decides what is known; evaluation asks nothing else.

    `code` is an exchange's code as stored (`bin`, `c-bin`), `symbol` ours. All lists are oldest first. Values are
    finite Decimals; None is unknown: absent, not known yet, or null in the row.
    """

    @property
    def moment_ms(self) -> int:
        """The end of the minute: T + 60 s."""
        ...

    def get_value(self, code: str, symbol: str, measure: Measure) -> Value:
        """Return what a bare name is.

        Bars: the value at last(T), the newest known grid point that is not before due(T). Samples: the newest known
        value, also one between the grid's points; None when it is older than three intervals. Never asked for
        settlements.
        """
        ...

    def get_points(
        self, code: str, symbol: str, measure: Measure, offset_ms: int, step_ms: int, count: int
    ) -> Sequence[Value]:
        """Return the values at last(T) - offset_ms - k * step_ms for k = count - 1 … 0: `count` of them.

        Strict: None where no row stands at that very point. A covered minute without a row is 0 where
        `measure.zero_when_empty`. Never asked for settlements.
        """
        ...

    def get_settlement(self, code: str, symbol: str, measure: Measure, at_ms: int) -> Value:
        """Return the value of the settlement in force at `at_ms`: the newest one known then.

        None without one, and when at_ms > its ts + fr_hours (8 where null) + lag.
        """
        ...

    def list_settlements(
        self, code: str, symbol: str, measure: Measure, start_ms: int, end_ms: int
    ) -> Sequence[Value] | None:
        """Return the values of the settlements that became known after start_ms and at end_ms at the latest.

        So a window of settlements ends, as every other, where the newest may be known. None where one may be missing.
        """
        ...

    def list_symbols(self, code: str) -> Sequence[str]:
        """Return the symbols of the rule that are listed on `code` at T: those that `rank` compares."""
        ...

    def go_back(self) -> "View":
        """Return the view of the minute before, with what was known then."""
        ...


class Points(NamedTuple):
    """Which points a node is wanted at: last(T) - offset_ms - k * step_ms, k = size - 1 … 0.

    `is_strict` inside functions with a length: there a name is the value at the very point.
    """

    offset_ms: int
    step_ms: int
    size: int
    is_strict: bool

    def widen(self, length_ms: int, grid_ms: int, times: int = 1) -> "Points":
        """Return the points of a window of `times` * length at each of these points."""
        length = times * (length_ms // grid_ms)
        if self.size == 1:
            return Points(self.offset_ms, grid_ms, length, is_strict=True)
        return Points(self.offset_ms, grid_ms, (self.size - 1) * (self.step_ms // grid_ms) + length, is_strict=True)

    def shift(self, length_ms: int) -> "Points":
        """Return the points `length_ms` before these."""
        return Points(self.offset_ms + length_ms, self.step_ms, self.size, is_strict=True)


NOW = Points(0, MINUTE_MS, 1, is_strict=False)


class Evaluator:
    """Evaluates any number of expressions at one view; what they share is computed once."""

    def __init__(self, view: View) -> None:
        """Evaluate at `view`."""
        self.view = view
        self._known: dict[tuple[str, str, str, Points], Sequence[Any]] = {}
        self._before: Evaluator | None = None

    def evaluate(self, node: Node, code: str, symbol: str) -> Result:
        """Return the value of a node for a symbol of a code: a Decimal, a bool, or None for unknown."""
        result: Result = self.compute(node, code, symbol, NOW)[0]
        return result

    def decide(self, node: Node, code: str, symbol: str) -> Truth:
        """Return the value of a node that is a truth."""
        truth: Truth = self.compute(node, code, symbol, NOW)[0]
        return truth

    def go_back(self) -> "Evaluator":
        """Return the evaluator of the minute before."""
        if self._before is None:
            self._before = Evaluator(self.view.go_back())
        return self._before

    def compute(self, node: Node, code: str, symbol: str, points: Points) -> Sequence[Any]:
        """Return the values of a node at points, oldest first."""
        key = (node.text, code, symbol, points)
        values = self._known.get(key)
        if values is None:
            values = self._known[key] = self._compute(node, code, symbol, points)
        return values

    def _compute(self, node: Node, code: str, symbol: str, points: Points) -> Sequence[Any]:
        match node:
            case Number(value=value):
                return [value] * points.size
            case Name():
                return self._read(node, code, symbol, points)
            case Call():
                return self._call(node, code, symbol, points)
        parts = [self.compute(child, code, symbol, points) for child in node.children]
        match node:
            case Sign(operator="-"):
                return [None if x is None else numbers.CONTEXT.minus(x) for x in parts[0]]
            case Sign():
                return parts[0]
            case Arithmetic(operator=operator):
                return [calculate(operator, a, b) for a, b in zip(*parts, strict=True)]
            case Comparison(operators=operators):
                return [_compare_chain(operators, sides) for sides in zip(*parts, strict=True)]
            case Logic(operator="not"):
                return [None if x is None else not x for x in parts[0]]
            case Logic(operator=operator):
                join = numbers.all_true if operator == "and" else numbers.any_true
                return [join(truths) for truths in zip(*parts, strict=True)]
            case Choice():
                return [None if t is None else a if t else b for t, a, b in zip(*parts, strict=True)]
        raise TypeError(f"{type(node).__name__} cannot be evaluated")

    def _read(self, node: Name, code: str, symbol: str, points: Points) -> Sequence[Value]:
        code, view = node.code or code, self.view
        if node.measure.kind is Kind.SETTLEMENT:
            newest = view.moment_ms - points.offset_ms
            moments = range(newest - (points.size - 1) * points.step_ms, newest + 1, points.step_ms)
            return [view.get_settlement(code, symbol, node.measure, at_ms) for at_ms in moments]
        if not points.is_strict:
            return [view.get_value(code, symbol, node.measure)]
        return view.get_points(code, symbol, node.measure, points.offset_ms, points.step_ms, points.size)

    def _call(self, node: Call, code: str, symbol: str, points: Points) -> Sequence[Any]:
        first = node.children[0]
        match node.function:
            case "lag":
                return self.compute(first, code, symbol, points.shift(node.length_ms))
            case "chg" | "diff":
                now = self.compute(first, code, symbol, points.shift(0))
                then = self.compute(first, code, symbol, points.shift(node.length_ms))
                if node.function == "chg":
                    return [numbers.compute_change(a, b) for a, b in zip(now, then, strict=True)]
                return [calculate("-", a, b) for a, b in zip(now, then, strict=True)]
            case "cross_above" | "cross_below":
                return self._cross(node, code, symbol, points)
            case "rank":
                return self._rank(first, code, symbol, points)
            case "abs":
                return [
                    None if x is None else numbers.CONTEXT.abs(x) for x in self.compute(first, code, symbol, points)
                ]
            case "log":
                return [numbers.compute_log(x) for x in self.compute(first, code, symbol, points)]
            case "min2" | "max2":
                choose = min if node.function == "min2" else max
                sides = zip(*(self.compute(child, code, symbol, points) for child in node.children), strict=True)
                return [None if a is None or b is None else choose(a, b) for a, b in sides]
            case "annual":
                rates, hours = (self.compute(child, code, symbol, points) for child in node.children)
                yearly = [calculate("*", rate, numbers.YEAR_HOURS) for rate in rates]
                return [calculate("/", rate, h) for rate, h in zip(yearly, hours, strict=True)]
        return self._window(node, code, symbol, points)

    def _cross(self, node: Call, code: str, symbol: str, points: Points) -> Sequence[Truth]:
        now, then = (">", "<=") if node.function == "cross_above" else ("<", ">=")
        before = self.go_back()
        a, b = (self.compute(child, code, symbol, points) for child in node.children)
        a_then, b_then = (before.compute(child, code, symbol, points) for child in node.children)
        return [
            numbers.all_true((compare(now, *sides[:2]), compare(then, *sides[2:])))
            for sides in zip(a, b, a_then, b_then, strict=True)
        ]

    def _rank(self, x: Node, code: str, symbol: str, points: Points) -> Sequence[Value]:
        others = [other for other in self.view.list_symbols(code) if other != symbol]
        own = self.compute(x, code, symbol, points)
        beside = [self.compute(x, code, other, points) for other in others]
        return [numbers.compute_rank(own[i], [values[i] for values in beside]) for i in range(points.size)]

    def _window(self, node: Call, code: str, symbol: str, points: Points) -> Sequence[Value]:
        first, grid_ms = node.children[0], node.grid_ms
        if isinstance(first, Name) and first.measure.kind is Kind.SETTLEMENT:
            return self._settlements(node, first, code, symbol, points)
        length = node.length_ms // grid_ms
        stride = 1 if points.size == 1 else points.step_ms // grid_ms
        if node.function == "atr":
            return self._atr(node, code, symbol, points, stride)
        times = {"ema": numbers.EMA_POINTS, "rsi": numbers.RSI_POINTS}.get(node.function, 1)
        values = self.compute(first, code, symbol, points.widen(node.length_ms, grid_ms, times))
        match node.function:
            case "sum":
                return numbers.roll_sum(values, length, stride)
            case "sma":
                n = Decimal(length)
                return [calculate("/", total, n) for total in numbers.roll_sum(values, length, stride)]
            case "min" | "max":
                return numbers.roll_extreme(values, length, stride, highest=node.function == "max")
        return numbers.roll(OVER_WINDOWS[node.function], values, times * length, stride)

    def _atr(self, node: Call, code: str, symbol: str, points: Points, stride: int) -> Sequence[Value]:
        wide = points.widen(node.length_ms, node.grid_ms, numbers.ATR_POINTS)
        bars = [self.compute(child, code, symbol, wide) for child in node.children]
        length = numbers.ATR_POINTS * (node.length_ms // node.grid_ms)
        result: list[Value] = []
        for start in range(0, wide.size - length + 1, stride):
            window = [values[start : start + length] for values in bars]
            is_whole = not any(None in values for values in window)
            result.append(numbers.keep_finite(numbers.compute_atr(*window)) if is_whole else None)
        return result

    def _settlements(self, node: Call, name: Name, code: str, symbol: str, points: Points) -> Sequence[Value]:
        """Compute over the settlements of each window, which ends at a moment and not at a grid point."""
        result: list[Value] = []
        for k in range(points.size - 1, -1, -1):
            end_ms = self.view.moment_ms - points.offset_ms - k * points.step_ms
            values = self.view.list_settlements(
                name.code or code, symbol, name.measure, end_ms - node.length_ms, end_ms
            )
            if values is None or None in values:
                result.append(None)
            elif not values:
                result.append(numbers.ZERO if node.function == "sum" else None)
            else:
                value = OVER_WINDOWS[node.function](values)  # type: ignore[arg-type]
                result.append(None if value is None else numbers.keep_finite(value))
        return result


OVER_WINDOWS: dict[str, Callable[[Sequence[Decimal]], Value]] = {
    "sum": numbers.add_up,
    "sma": numbers.compute_mean,
    "min": min,
    "max": max,
    "std": numbers.compute_deviation,
    "zscore": numbers.compute_zscore,
    "ema": numbers.compute_ema,
    "rsi": numbers.compute_rsi,
}


def _compare_chain(operators: Sequence[str], sides: Sequence[Value]) -> Truth:
    return numbers.all_true(
        [compare(operator, a, b) for operator, a, b in zip(operators, sides, sides[1:], strict=False)]
    )
