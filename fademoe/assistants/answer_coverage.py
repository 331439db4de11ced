"""How complete the range of a question is: every answer of a tool says so, with the reasons of what is absent."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor

from fademoe.assistants.answer import Coverage, Gap
from fademoe.clock import Window, subtract, to_iso
from fademoe.store.read.completeness import SeriesRanges, list_ranges
from fademoe.store.read.series import list_absences

MAX_GAPS = 100  # ranges of one series that are named beside other rows


class _Parts(NamedTuple):
    """The parts of a window: what is covered, missing, not due yet and never requested is all of it."""

    requested: list[Window]
    covered: list[Window]
    absent: list[Window]
    missing: list[Window]
    not_due: list[Window]
    unknown: list[Window]


def describe_coverage(
    cursor: Cursor, sources: Iterable[str], symbol: str, window: Window, now_ms: int
) -> list[Coverage]:
    """Return how complete each source of a symbol is over a window that ends at the latest now."""
    return describe_series(cursor, [(source, symbol) for source in sources], window, now_ms)


def describe_series(cursor: Cursor, keys: Sequence[tuple[str, str]], window: Window, now_ms: int) -> list[Coverage]:
    """Return how complete each (source, symbol) is over a window that ends at the latest now."""
    ranges = list_ranges(cursor, list(keys), now_ms)
    answers = []
    for source, symbol in keys:
        parts = _divide(ranges.get((source, symbol)), window)
        answers.append(
            Coverage(
                source=source,
                symbol=symbol,
                since=to_iso(window.start_ms),
                until=to_iso(window.end_ms),
                requested_ms=_measure(parts.requested),
                covered_ms=_measure(parts.covered),
                absent_ms=_measure(parts.absent),
                missing_ms=_measure(parts.missing),
                not_due_ms=_measure(parts.not_due),
                not_requested_ms=_measure(parts.unknown),
                is_complete=not subtract(window, parts.covered),
                gaps=_name_gaps(cursor, source, symbol, window, parts, MAX_GAPS),
            )
        )
    return answers


def list_gaps(cursor: Cursor, source: str, symbol: str, window: Window, now_ms: int, most: int) -> list[Gap]:
    """Return the first `most` ranges of a window without rows, ascending."""
    parts = _divide(list_ranges(cursor, [(source, symbol)], now_ms).get((source, symbol)), window)
    return _name_gaps(cursor, source, symbol, window, parts, most)


def _divide(series: SeriesRanges | None, window: Window) -> _Parts:
    requested, covered, absent, missing = (
        [_cut(part, window) for part in (series.wanted, series.covered, series.absent, series.missing)]
        if series
        else ([], [], [], [])
    )
    unknown = subtract(window, [*requested, *covered])
    not_due = subtract(window, [*covered, *missing, *unknown])
    return _Parts(requested, covered, absent, missing, not_due, unknown)


def _name_gaps(cursor: Cursor, source: str, symbol: str, window: Window, parts: _Parts, most: int) -> list[Gap]:
    gaps = [
        _name(source, symbol, part, "absent", gap.reason)
        for gap in (list_absences(cursor, source, symbol, window, most) if parts.absent else ())
        for part in _cut([Window(gap.start_ms, gap.end_ms)], window)
    ]
    gaps += [_name(source, symbol, gap, "missing", "") for gap in parts.missing[:most]]
    gaps += [_name(source, symbol, gap, "not due yet", "") for gap in parts.not_due[:most]]
    gaps += [_name(source, symbol, gap, "not requested", "") for gap in parts.unknown[:most]]
    return sorted(gaps, key=lambda gap: gap["since"])[:most]


def _cut(ranges: Sequence[Window], window: Window) -> list[Window]:
    cut = [Window(max(each.start_ms, window.start_ms), min(each.end_ms, window.end_ms)) for each in ranges]
    return [each for each in cut if each.start_ms < each.end_ms]


def _measure(ranges: Iterable[Window]) -> int:
    return sum(each.end_ms - each.start_ms for each in ranges)


def _name(source: str, symbol: str, gap: Window, state: str, reason: str) -> Gap:
    return Gap(
        source=source,
        symbol=symbol,
        since=to_iso(gap.start_ms),
        until=to_iso(gap.end_ms),
        state=state,
        reason=reason,
    )
