"""Decides which instant the lines of a file describe: by the data, never by a date."""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from math import log
from statistics import median
from typing import NamedTuple

from fademoe.clock import MINUTE_MS, Window

MIN_ROWS = 50  # usable lines of a file
MIN_HALF_ROWS = 20
MIN_HINT_ROWS = 5  # that speak against another contract's label
FACTOR = 3.0  # by which the better label has to win
UNCHECKED = "metrics label undecided: too few candles of its day to see whether its meaning is mixed"

Prices = Sequence[tuple[int, float]]
Closes = Mapping[int, float]  # close by the open time of its minute


class Label(NamedTuple):
    """What was decided: `shift_ms` to add to the times of a file, None when that is undecided, and why.

    `is_flat`: the prices were compared and fit every label, or are few, so the label of another contract may be taken,
    unless `hints` has another one: the labels that few prices of the file, or of a half of it, speak for.
    """

    shift_ms: int | None
    reason: str
    is_flat: bool = False
    hints: frozenset[int] = frozenset()


class Form(StrEnum):
    """Which times the lines of a whole file have; files of both forms were published for the same days."""

    FROM_BEGIN = "from its begin"  # of the day, to the last step before the next one
    TO_END = "to its end"  # from the first step of the day to its midnight

    @classmethod
    def tell(cls, times: Collection[int], window: Window) -> "Form | None":
        """Return the form of a file of `window` by the times of its lines, None where neither edge has a line."""
        if window.start_ms in times:
            return cls.FROM_BEGIN
        return cls.TO_END if window.end_ms in times else None


def decide_label(prices: Prices, closes: Closes, shifts: Sequence[int]) -> Label:
    """Decide by the prices in a file and the closes of minutes of the same contract.

    A line of time T and label d describes T + d: its price is that at the end of the minute before. The label with the
    smallest median difference has to win by FACTOR on MIN_ROWS lines. Both halves of the file are looked at alone, too:
    one that says otherwise makes the file one of mixed meaning, and one that lacks its closes leaves that open.
    """
    whole = _decide(prices, closes, shifts, MIN_ROWS)
    ordered = sorted(prices)
    middle = len(ordered) // 2
    parts = ordered[:middle], ordered[middle:]
    halves = [_decide(part, closes, shifts, MIN_HALF_ROWS) for part in parts]
    decided = {label for label in (whole, *halves) if label is not None}
    if len(decided) > 1:
        return Label(None, "mixed meaning: the first and the second half differ")
    if any(len(_find_usable(part, closes, shifts)) < min(MIN_HALF_ROWS, len(part) // 2) for part in parts):
        return Label(None, UNCHECKED)
    if whole is None:
        few = [_decide(part, closes, shifts, MIN_HINT_ROWS) for part in (ordered, *parts)]
        hints = frozenset(hint for hint in few if hint is not None)
        return Label(None, "metrics label undecided", is_flat=True, hints=hints)
    return Label(whole, "by its prices")


def _decide(prices: Prices, closes: Closes, shifts: Sequence[int], least: int) -> int | None:
    """Return the label that wins, None where none does."""
    full = _find_usable(prices, closes, shifts)
    if len(full) < least:
        return None
    medians = [median(abs(log(price / found[at])) for price, found in full) for at in range(len(shifts))]
    ranked = sorted(range(len(shifts)), key=medians.__getitem__)
    best, second = medians[ranked[0]], medians[ranked[1]]
    return shifts[ranked[0]] if second > 0 and second >= FACTOR * best else None


def _find_usable(prices: Prices, closes: Closes, shifts: Sequence[int]) -> list[tuple[float, list[float]]]:
    """Return each price of a line with the closes of all labels, where all are known."""
    found = [(price, [closes.get(ts + shift - MINUTE_MS) for shift in shifts]) for ts, price in prices if price > 0]
    return [(price, [close for close in each if close]) for price, each in found if all(each)]
