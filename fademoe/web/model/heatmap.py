"""The heat map of coverage: symbols by days, each cell in a word, a sign and a colour."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from fademoe.clock import DAY_MS, HOUR_MS, Window, ceil_to, floor_to, to_iso
from fademoe.store.read.coverage import SeriesRanges
from fademoe.store.read.series import ListingPeriod

COMPLETE, PARTIAL, MISSING, ABSENT, UNLISTED, UNWANTED, FUTURE = (
    "complete",
    "partial",
    "missing",
    "absent",
    "unlisted",
    "unwanted",
    "future",
)
# What each state means, for the legend.
MEANINGS = {
    COMPLETE: "everything that is wanted is stored",
    PARTIAL: "the percent that is stored; the rest is missing",
    MISSING: "wanted, and nothing of it is stored yet",
    ABSENT: "the exchange does not have it",
    UNLISTED: "the contract was not listed then",
    UNWANTED: "nobody asked for it",
}
WORDS = {
    COMPLETE: "complete",
    MISSING: "missing",
    ABSENT: "absent upstream",
    UNLISTED: "not listed",
    UNWANTED: "not wanted",
    FUTURE: "still to come",
}
SIGNS = {COMPLETE: "✓", MISSING: "✗", ABSENT: "A", UNLISTED: "–", UNWANTED: "·", FUTURE: ""}
STEPS = {"day": DAY_MS, "hour": HOUR_MS}
COLUMNS = {"day": (7, 14, 30, 60), "hour": (24, 48, 72)}  # how many columns may be asked for


class Cell(NamedTuple):
    """One series in one span of time; lengths in ms, up to now."""

    start_ms: int
    wanted_ms: int
    missing_ms: int
    absent_ms: int


class Mark(NamedTuple):
    """One cell as it is drawn; `label` says time and state in words, for those who point at it or hear it."""

    state: str
    sign: str
    label: str
    cell: Cell

    @property
    def start_ms(self) -> int:
        """Begin of the span."""
        return self.cell.start_ms


def window_of(end_ms: int, by: str, count: int) -> Window:
    """Return the window of `count` whole steps that ends with the step of `end_ms`."""
    step_ms = STEPS[by]
    end_ms = ceil_to(end_ms, step_ms)
    return Window(end_ms - count * step_ms, end_ms)


def cells(ranges: SeriesRanges, window: Window, step_ms: int) -> list[Cell]:
    """Return a series in steps of a window."""
    starts = range(window.start_ms, window.end_ms, step_ms)
    wanted, missing, absent = (
        _lengths(windows, window, step_ms) for windows in (ranges.wanted, ranges.missing, ranges.absent)
    )
    return [Cell(*values) for values in zip(starts, wanted, missing, absent, strict=True)]


def marks(ranges: SeriesRanges, life: ListingPeriod | None, window: Window, by: str, now_ms: int) -> list[Mark]:
    """Return a series as marks, one for each column of a window."""
    step_ms = STEPS[by]
    found = zip(cells(ranges, window, step_ms), heads(window, by), strict=True)
    return [_mark(cell, life, name, step_ms, now_ms) for cell, (name, _) in found]


@lru_cache(maxsize=8)
def heads(window: Window, by: str) -> Sequence[tuple[str, str]]:
    """Return the column heads: the whole date for the ear, the short one for the eye."""
    found = []
    for start_ms in range(window.start_ms, window.end_ms, STEPS[by]):
        date, _, clock = to_iso(start_ms).partition("T")
        found.append((date, date[8:]) if by == "day" else (f"{date} {clock[:5]}", clock[:2]))
    return found


def groups(window: Window, by: str) -> list[tuple[str, int]]:
    """Return the months (or days) above the columns, with how many columns each spans."""
    found: list[tuple[str, int]] = []
    for start_ms in range(window.start_ms, window.end_ms, STEPS[by]):
        name = to_iso(start_ms)[: 7 if by == "day" else 10]
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1] + 1)
        else:
            found.append((name, 1))
    return found


def _lengths(windows: list[Window], window: Window, step_ms: int) -> list[int]:
    """Return how much of each step the windows take, in ms."""
    lengths = [0] * len(range(window.start_ms, window.end_ms, step_ms))
    for one in windows:
        start_ms, end_ms = max(one.start_ms, window.start_ms), min(one.end_ms, window.end_ms)
        while start_ms < end_ms:
            index = (start_ms - window.start_ms) // step_ms
            stop_ms = min(end_ms, window.start_ms + (index + 1) * step_ms)
            lengths[index] += stop_ms - start_ms
            start_ms = stop_ms
    return lengths


def _mark(cell: Cell, life: ListingPeriod | None, name: str, step_ms: int, now_ms: int) -> Mark:
    state = _state(cell, life, step_ms, now_ms)
    if state == PARTIAL:
        percent = _percent(cell)
        return Mark(state, str(percent), f"{name}: {percent} % stored", cell)
    words = "complete, part of it absent upstream" if state == COMPLETE and cell.absent_ms else WORDS[state]
    return Mark(state, SIGNS[state], f"{name}: {words}", cell)


def _state(cell: Cell, life: ListingPeriod | None, step_ms: int, now_ms: int) -> str:
    if cell.start_ms >= now_ms:
        return FUTURE
    if life is not None and _is_outside(life, cell.start_ms, cell.start_ms + step_ms):
        return UNLISTED
    if not cell.wanted_ms:
        return UNWANTED
    if cell.missing_ms >= cell.wanted_ms:
        return MISSING
    if cell.missing_ms:
        return PARTIAL
    return ABSENT if cell.absent_ms >= cell.wanted_ms else COMPLETE


def _is_outside(life: ListingPeriod, start_ms: int, end_ms: int) -> bool:
    too_early = life.listed_ms is not None and end_ms <= floor_to(life.listed_ms, HOUR_MS)
    too_late = life.delisted_ms is not None and start_ms >= life.delisted_ms
    return too_early or too_late


def _percent(cell: Cell) -> int:
    """Return the percent that is stored, from 1 to 99: what is not complete must not look so."""
    return max(1, min(99, (cell.wanted_ms - cell.missing_ms) * 100 // cell.wanted_ms))
