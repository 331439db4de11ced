"""How complete the range of a question is: every answer of a tool says so, with the reasons of what is absent."""

from collections.abc import Iterable, Sequence

from psycopg2.extensions import cursor as Cursor

from fademoe.assistants.answer import Coverage, Gap
from fademoe.clock import Window, subtract, to_iso
from fademoe.store.read.completeness import list_ranges
from fademoe.store.read.series import list_absences

MAX_GAPS = 100  # ranges of one series that are named


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
        series = ranges.get((source, symbol))
        requested = _cut(series.wanted, window) if series else []
        covered = _cut(series.covered, window) if series else []
        absent = _cut(series.absent, window) if series else []
        missing = _cut(series.missing, window) if series else []
        unknown = subtract(window, [*requested, *covered])
        not_due = subtract(window, [*covered, *missing, *unknown])
        gaps = [
            _name(source, symbol, part, "absent", gap.reason)
            for gap in (list_absences(cursor, source, symbol, window, MAX_GAPS) if absent else ())
            for part in _cut([Window(gap.start_ms, gap.end_ms)], window)
        ]
        gaps += [_name(source, symbol, gap, "missing", "") for gap in missing[:MAX_GAPS]]
        gaps += [_name(source, symbol, gap, "not due yet", "") for gap in not_due[:MAX_GAPS]]
        gaps += [_name(source, symbol, gap, "not requested", "") for gap in unknown[:MAX_GAPS]]
        answers.append(
            Coverage(
                source=source,
                symbol=symbol,
                since=to_iso(window.start_ms),
                until=to_iso(window.end_ms),
                requested_ms=_measure(requested),
                covered_ms=_measure(covered),
                absent_ms=_measure(absent),
                missing_ms=_measure(missing),
                not_due_ms=_measure(not_due),
                not_requested_ms=_measure(unknown),
                is_complete=not subtract(window, covered),
                gaps=sorted(gaps, key=lambda gap: gap["since"])[:MAX_GAPS],
            )
        )
    return answers


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
