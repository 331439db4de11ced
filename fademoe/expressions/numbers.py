"""The arithmetic of the language: decimals of 34 digits, rounded half to even; what has no value is None.

The functions over windows take a whole window, oldest value first, and follow the definitions of TA-Lib on exactly
these points. They differ from it where a value would be invented: no change at all has no RSI, no deviation no z-score.
"""

from collections import deque
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact
from itertools import accumulate, pairwise

Value = Decimal | None  # a number, or unknown
Truth = bool | None  # true, false, or unknown

CONTEXT = Context(prec=34, rounding=ROUND_HALF_EVEN, Emin=-6143, Emax=6144, traps=[])
ZERO, ONE, TWO, HUNDRED = Decimal(0), Decimal(1), Decimal(2), Decimal(100)
HALF = Decimal("0.5")
YEAR_HOURS = Decimal(8760)
EMA_POINTS, RSI_POINTS, ATR_POINTS = 4, 10, 4  # times the length: the points that each is computed from

_add, _subtract, _multiply, _divide = CONTEXT.add, CONTEXT.subtract, CONTEXT.multiply, CONTEXT.divide


def keep_finite(value: Decimal) -> Value:
    """Return the value, or None where it is no number or has overflowed."""
    return value if value.is_finite() else None


def calculate(operator: str, a: Value, b: Value) -> Value:
    """Return a + b, a - b, a * b or a / b; unknown with an unknown side, by zero, and on overflow."""
    if a is None or b is None:
        return None
    if operator == "+":
        result = _add(a, b)
    elif operator == "-":
        result = _subtract(a, b)
    elif operator == "*":
        result = _multiply(a, b)
    elif not b:
        return None
    else:
        result = _divide(a, b)
    return keep_finite(result)


def compare(operator: str, a: Value, b: Value) -> Truth:
    """Compare two numbers; unknown with an unknown side."""
    if a is None or b is None:
        return None
    match operator:
        case "<":
            return a < b
        case "<=":
            return a <= b
        case ">":
            return a > b
        case ">=":
            return a >= b
        case "==":
            return a == b
    return a != b


def all_true(truths: Sequence[Truth]) -> Truth:
    """Return False if any is False, else None if any is None, else True."""
    return False if False in truths else None if None in truths else True


def any_true(truths: Sequence[Truth]) -> Truth:
    """Return True if any is True, else None if any is None, else False."""
    return True if True in truths else None if None in truths else False


def compute_change(now: Value, then: Value) -> Value:
    """Return now / then - 1; unknown where then is 0."""
    return calculate("-", calculate("/", now, then), ONE)


def compute_log(value: Value) -> Value:
    """Return the natural logarithm; unknown for 0 and below."""
    return None if value is None or value <= 0 else keep_finite(CONTEXT.ln(value))


def compute_rank(own: Value, others: Sequence[Value]) -> Value:
    """Return (others smaller + half of the others equal) / others, of the others that are known; None without any."""
    known = [other for other in others if other is not None]
    if own is None or not known:
        return None
    smaller = sum(other < own for other in known)
    equal = sum(other == own for other in known)
    return _divide(_add(Decimal(smaller), _multiply(HALF, Decimal(equal))), Decimal(len(known)))


def add_up(window: Sequence[Decimal]) -> Decimal:
    """Return the sum, added from the oldest to the newest."""
    total = ZERO
    for value in window:
        total = _add(total, value)
    return total


def compute_mean(window: Sequence[Decimal]) -> Decimal:
    """Return the sum divided by the number of values."""
    return _divide(add_up(window), Decimal(len(window)))


def compute_deviation(window: Sequence[Decimal]) -> Decimal:
    """Return the standard deviation of a population."""
    mean = compute_mean(window)
    total = ZERO
    for value in window:
        difference = _subtract(value, mean)
        total = CONTEXT.fma(difference, difference, total)
    return CONTEXT.sqrt(_divide(total, Decimal(len(window))))


def compute_zscore(window: Sequence[Decimal]) -> Value:
    """Return how many deviations the newest value lies above the mean; None where nothing deviates."""
    if all(value == window[0] for value in window):
        return None
    deviation = compute_deviation(window)
    return _divide(_subtract(window[-1], compute_mean(window)), deviation) if deviation else None


def _smooth(values: Sequence[Decimal], length: int) -> Decimal:
    """Return Wilder's average: the mean of the first `length` values, then 1 / length of each further one."""
    n, rest = Decimal(length), Decimal(length - 1)
    average = compute_mean(values[:length])
    for value in values[length:]:
        average = _divide(CONTEXT.fma(average, rest, value), n)
    return average


def compute_ema(window: Sequence[Decimal]) -> Decimal:
    """Return the exponential average of 4 n points: the mean of the first n, then k = 2 / (n + 1) of each change."""
    length = len(window) // EMA_POINTS
    k = _divide(TWO, Decimal(length + 1))
    average = compute_mean(window[:length])
    for value in window[length:]:
        average = CONTEXT.fma(_subtract(value, average), k, average)
    return average


def compute_rsi(window: Sequence[Decimal]) -> Value:
    """Return Wilder's relative strength index of 10 n points, 0 to 100; None without gains and losses."""
    length = len(window) // RSI_POINTS
    changes = [_subtract(after, before) for before, after in pairwise(window)]
    gain = _smooth([change if change > 0 else ZERO for change in changes], length)
    loss = _smooth([CONTEXT.minus(change) if change < 0 else ZERO for change in changes], length)
    both = _add(gain, loss)
    return _multiply(HUNDRED, _divide(gain, both)) if both else None


def compute_atr(highs: Sequence[Decimal], lows: Sequence[Decimal], closes: Sequence[Decimal]) -> Decimal:
    """Return Wilder's average true range of 4 n bars; the first bar gives its close only."""
    length = len(highs) // ATR_POINTS
    ranges = [
        max(_subtract(high, low), CONTEXT.abs(_subtract(high, close)), CONTEXT.abs(_subtract(low, close)))
        for high, low, close in zip(highs[1:], lows[1:], closes, strict=False)
    ]
    return _smooth(ranges, length)


def _find_whole(values: Sequence[Value], length: int, stride: int) -> list[int]:
    """Return where windows begin, and -1 for those with a hole."""
    holes = list(accumulate((value is None for value in values), initial=0))
    starts = range(0, len(values) - length + 1, stride)
    return [start if holes[start + length] == holes[start] else -1 for start in starts]


def roll(
    compute: Callable[[Sequence[Decimal]], Value], values: Sequence[Value], length: int, stride: int = 1
) -> list[Value]:
    """Return `compute` of every window of `length` values, `stride` apart; None where a value of it is unknown."""
    result: list[Value] = []
    for start in _find_whole(values, length, stride):
        value = compute(values[start : start + length]) if start >= 0 else None  # type: ignore[arg-type]
        result.append(None if value is None else keep_finite(value))
    return result


def roll_sum(values: Sequence[Value], length: int, stride: int = 1) -> list[Value]:
    """Return the sum of every window, each from the one before while that is exact: the result is that of adding up."""
    starts = _find_whole(values, length, stride)
    if len(starts) < 2 or stride != 1:
        return roll(add_up, values, length, stride)
    result: list[Value] = []
    total: Decimal | None = None
    CONTEXT.clear_flags()
    for index, start in enumerate(starts):
        if start < 0:
            total = None
        elif total is None:
            total = add_up(values[start : start + length])  # type: ignore[arg-type]
        else:
            gone, come = values[index - 1], values[index + length - 1]
            total = _add(_subtract(total, gone), come)  # type: ignore[arg-type]
        result.append(total)
    if CONTEXT.flags[Inexact]:
        return roll(add_up, values, length, stride)
    return [None if value is None else keep_finite(value) for value in result]


def roll_extreme(values: Sequence[Value], length: int, stride: int, *, highest: bool) -> list[Value]:
    """Return the least or the greatest value of every window; None where a value of it is unknown."""
    best: deque[int] = deque()
    extremes: list[Value] = []
    for index, value in enumerate(values):
        while best and value is not None and _is_beaten(values[best[-1]], value, highest=highest):
            best.pop()
        if value is not None:
            best.append(index)
        while best and best[0] <= index - length:
            best.popleft()
        if index >= length - 1:
            extremes.append(values[best[0]] if best else None)
    starts = _find_whole(values, length, 1)
    return [extremes[i] if starts[i] >= 0 else None for i in range(0, len(starts), stride)]


def _is_beaten(old: Value, new: Decimal, *, highest: bool) -> bool:
    return old is not None and (old <= new if highest else old >= new)
