"""The heat map of coverage: symbols by days or hours, each cell with a state, a sign and words."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

import msgspec
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS, HOUR_MS, Window, ceil_to, floor_to, to_iso
from fademoe.store.read import catalog as read_catalog
from fademoe.store.read import completeness as read_completeness
from fademoe.store.read import files as read_files
from fademoe.store.read import series as read_series
from fademoe.store.read.completeness import SeriesRanges
from fademoe.store.read.series import ListingPeriod
from fademoe.web.model.answer import Answer

State = Literal["complete", "partial", "missing", "absent", "unlisted", "unwanted", "future"]
LEGEND: dict[State, str] = {
    "complete": "everything wanted is stored",
    "partial": "percent stored; the rest is missing",
    "missing": "wanted, nothing stored yet",
    "absent": "the exchange does not have it",
    "unlisted": "the contract was not listed",
    "unwanted": "not wanted",
}
WORDS: dict[State, str] = {
    "complete": "complete",
    "missing": "missing",
    "absent": "absent upstream",
    "unlisted": "not listed",
    "unwanted": "not wanted",
    "future": "in the future",
}
WAYS = {
    "history": "over REST",
    "archive": "from archive files",
    "audit": "by an audit",
    "live": "late from a stream",
    "before": "before origins were recorded",
}
SIGNS: dict[State, str] = {
    "complete": "✓",
    "missing": "✗",
    "absent": "A",
    "unlisted": "–",
    "unwanted": "·",
    "future": "",
}
CELLS_MS = {"day": DAY_MS, "hour": HOUR_MS}
COLUMNS = {"day": (7, 14, 30, 60), "hour": (24, 48, 72)}  # how many columns the page offers
MAX_COLUMNS = 100
MAX_SYMBOLS = 100  # of one page


class Cell(Answer):
    """One series in one span of time that begins at `ts`; lengths in ms, of the rows that are due by now."""

    ts: int
    state: State
    wanted_ms: int
    missing_ms: int
    absent_ms: int
    ways: tuple[
        str, ...
    ] = ()  # by which ways the fetched rows came: history, archive, audit; live rows are not counted

    @property
    def sign(self) -> str:
        """The state in one character, or the percent stored."""
        return str(self._percent) if self.state == "partial" else SIGNS[self.state]

    @property
    def words(self) -> str:
        """The state in words."""
        if self.state == "partial":
            return f"{self._percent} % stored"
        if self.state == "complete" and self.absent_ms:
            return "complete, part of it absent upstream"
        return WORDS[self.state]

    @property
    def came(self) -> str:
        """The ways in words, "" where nothing is known of them."""
        return ", ".join(WAYS.get(way, way) for way in self.ways)

    @property
    def _percent(self) -> int:
        """The percent stored, from 1 to 99: a partial cell looks neither complete nor empty."""
        return max(1, min(99, (self.wanted_ms - self.missing_ms) * 100 // self.wanted_ms))


class SeriesCells(Answer):
    """One line of the heat map; `percent` is of the whole series, None while nothing of it is wanted."""

    symbol: str
    percent: float | None
    cells: list[Cell]


class HeatMap(Answer):
    """One page of the heat map of a perpspec."""

    perpspec: str
    start_ms: int = msgspec.field(name="from")
    end_ms: int = msgspec.field(name="to")
    step_ms: int
    symbols: list[SeriesCells]
    next: str | None


def find_window(end_ms: int, by: str, count: int) -> Window:
    """Return the window of `count` whole steps that ends with the step of `end_ms`."""
    step_ms = CELLS_MS[by]
    end_ms = ceil_to(end_ms, step_ms)
    return Window(end_ms - count * step_ms, end_ms)


def read_lines(
    cursor: Cursor, source: str, symbols: Sequence[str], after: str, window: Window, step_ms: int, now_ms: int
) -> tuple[list[SeriesCells], str | None]:
    """Return at most MAX_SYMBOLS lines behind the symbol `after`, and the symbol behind which more follow.

    `symbols` empty: all of the perpspec.
    """
    chosen = sorted(symbol for symbol in symbols or read_catalog.list_symbols(cursor, source) if symbol > after)
    page = chosen[:MAX_SYMBOLS]
    ranges = read_completeness.list_ranges(cursor, [(source, symbol) for symbol in page], now_ms)
    listings = read_series.list_listing_periods(cursor, source.rpartition("-")[0], page)
    series = read_completeness.list_series(cursor, now_ms=now_ms, limit=MAX_SYMBOLS, sources=[source], symbols=page)
    ways = read_files.read_ways(cursor, source, page, window, step_ms)
    lines = [
        SeriesCells(
            symbol=one.symbol,
            percent=one.percent,
            cells=build_cells(
                ranges[(source, one.symbol)], listings.get(one.symbol), window, step_ms, now_ms, ways.get(one.symbol)
            ),
        )
        for one in series
    ]
    return lines, page[-1] if len(chosen) > MAX_SYMBOLS else None


def build_cells(
    ranges: SeriesRanges,
    listing: ListingPeriod | None,
    window: Window,
    step_ms: int,
    now_ms: int,
    ways: Mapping[int, list[str]] | None = None,
) -> list[Cell]:
    """Return a series in steps of a window; `ways`: by which ways the rows of each step came."""
    starts = range(window.start_ms, window.end_ms, step_ms)
    wanted, missing, absent = (
        _measure(windows, window, step_ms) for windows in (ranges.wanted, ranges.missing, ranges.absent)
    )
    cells = []
    for start_ms, *lengths in zip(starts, wanted, missing, absent, strict=True):
        state = _find_state(listing, Window(start_ms, start_ms + step_ms), now_ms, *lengths)
        wanted_ms, missing_ms, absent_ms = lengths
        cells.append(
            Cell(
                ts=start_ms,
                state=state,
                wanted_ms=wanted_ms,
                missing_ms=missing_ms,
                absent_ms=absent_ms,
                ways=tuple((ways or {}).get(start_ms, ())),
            )
        )
    return cells


@lru_cache(maxsize=8)
def list_heads(window: Window, by: str) -> Sequence[tuple[str, str]]:
    """Return the column heads: the whole date for screen readers, a short one to show."""
    heads = []
    for start_ms in range(window.start_ms, window.end_ms, CELLS_MS[by]):
        date, _, clock = to_iso(start_ms).partition("T")
        heads.append((date, date[8:]) if by == "day" else (f"{date} {clock[:5]}", clock[:2]))
    return heads


def list_groups(window: Window, by: str) -> list[tuple[str, int]]:
    """Return the months (or days) above the columns, each with the number of its columns."""
    groups: list[tuple[str, int]] = []
    for start_ms in range(window.start_ms, window.end_ms, CELLS_MS[by]):
        name = to_iso(start_ms)[: 7 if by == "day" else 10]
        if groups and groups[-1][0] == name:
            groups[-1] = (name, groups[-1][1] + 1)
        else:
            groups.append((name, 1))
    return groups


def _measure(windows: list[Window], window: Window, step_ms: int) -> list[int]:
    """Return how much of each step of a window is in `windows`, in ms."""
    lengths = [0] * len(range(window.start_ms, window.end_ms, step_ms))
    for one in windows:
        start_ms, end_ms = max(one.start_ms, window.start_ms), min(one.end_ms, window.end_ms)
        while start_ms < end_ms:
            index = (start_ms - window.start_ms) // step_ms
            stop_ms = min(end_ms, window.start_ms + (index + 1) * step_ms)
            lengths[index] += stop_ms - start_ms
            start_ms = stop_ms
    return lengths


def _find_state(
    listing: ListingPeriod | None, step: Window, now_ms: int, wanted_ms: int, missing_ms: int, absent_ms: int
) -> State:
    if step.start_ms >= now_ms:
        return "future"
    if listing is not None and _is_unlisted(listing, step):
        return "unlisted"
    if not wanted_ms:
        return "unwanted"
    if missing_ms >= wanted_ms:
        return "missing"
    if missing_ms:
        return "partial"
    return "absent" if absent_ms >= wanted_ms else "complete"


def _is_unlisted(listing: ListingPeriod, step: Window) -> bool:
    is_before = listing.listed_ms is not None and step.end_ms <= floor_to(listing.listed_ms, HOUR_MS)
    is_after = listing.delisted_ms is not None and step.start_ms >= listing.delisted_ms
    return is_before or is_after
