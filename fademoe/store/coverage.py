"""What is wanted, covered and absent of each series: multiranges that change together with the rows."""

from collections.abc import Collection, Sequence
from itertools import groupby
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from fademoe.clock import MINUTE_MS, Window, floor_to, merge, subtract
from fademoe.store.queries import load_queries

SQL = load_queries("coverage")
NOT_LISTED_YET = "before the listing"
DELISTED = "after the delisting"
LISTING_REASONS = (NOT_LISTED_YET, DELISTED)  # taken from the list of contracts
EXPIRED = "expired: older than the exchange keeps"
ENDED = "expired: the exchange does not serve an ended contract any more"
EXPIRED_REASONS = (EXPIRED, ENDED)  # an archive may have it
MISSED_LIVE = "missed live: the exchange keeps no history of it"
NO_ROW = "the exchange has no row"  # without proof: answers were empty
RUNS_APART_S = 600  # two runs that find nothing confirm an absence when they are so far apart
CONFIRMED_CHECKS = 2
# When an absence without proof is requested again, by how many runs found nothing: the seconds since the first of them.
# An endpoint may lag by hours, and what it has not yet is not absent.
RECHECK_AFTER_S = {1: RUNS_APART_S, 2: 3_600, 3: 6 * 3_600, 4: 86_400, 5: 7 * 86_400}
SETTLED_CHECKS = max(RECHECK_AFTER_S) + 1  # it is not requested again


class Series(NamedTuple):
    """One perpspec of one symbol."""

    source: str
    symbol: str


class Absence(NamedTuple):
    """A range which the exchange does not have, and why we say so.

    `checks`: how many runs found nothing that the store has not counted yet, this one included.
    """

    window: Window
    reason: str
    checks: int = 1


class Covered(NamedTuple):
    """Ranges of one series that were fully answered, and what of them the exchange does not have.

    `interval_ms`: the interval of its rows. `checked_by`: which kind of work asked.
    """

    series: Series
    windows: Sequence[Window]
    absences: Sequence[Absence] = ()
    interval_ms: int = MINUTE_MS
    checked_by: str = ""


class Totals(NamedTuple):
    """A series in milliseconds: what of the time before now is wanted, absent upstream, and missing.

    `provisional_ms` is the part of `absent_ms` that no second run has confirmed.
    """

    symbol: str
    wanted_from: int | None
    wanted_ms: int
    absent_ms: int
    provisional_ms: int
    missing_ms: int


class _Known(NamedTuple):
    """A stored absence."""

    window: Window
    reason: str
    checks: int
    first_checked_at: object
    checked_at: object


def want(cursor: Cursor, series: Sequence[Series], start_ms: int, end_ms: int | None) -> None:
    """Add [start_ms, end_ms) to what is wanted of each series; without an end it is wanted for ever."""
    rows = sorted((source, symbol, _multirange([(start_ms, end_ms)])) for source, symbol in series)
    execute_values(cursor, SQL["want"], rows, template="(%s, %s, %s::int8multirange)")


def lock(cursor: Cursor, series: Collection[Series]) -> None:
    """Lock the rows of several series in the order of `record`, before some of them are locked in another one."""
    if len(series) > 1:
        cursor.execute(SQL["lock"], {"series": tuple(map(tuple, series))})


def record(cursor: Cursor, answers: Sequence[Covered]) -> None:
    """Enter answered ranges: they are covered, and absent only where the answer says so and no row is stored.

    Must be the last call of a transaction, so that its row locks are held briefly. The lock is taken first: of two
    transactions about one series the later one sees the rows that the other has stored.
    """
    ordered = [_join(list(of_series)) for _, of_series in groupby(sorted(answers, key=_series_of), _series_of)]
    rows = [
        (*answer.series, _multirange(answer.windows), _multirange([absence.window for absence in answer.absences]))
        for answer in ordered
    ]
    template = "(%s, %s, %s::int8multirange, %s::int8multirange)"
    execute_values(cursor, SQL["record"], rows, template=template, page_size=len(rows))
    changed = _series_with_absences(cursor, answers)
    for answer in ordered:
        if answer.absences:
            answer = _without_stored(cursor, answer)
        if answer.series in changed or answer.absences:
            _replace_absences(cursor, answer)


def _series_of(answer: Covered) -> Series:
    return answer.series


def _join(answers: Sequence[Covered]) -> Covered:
    """Return several answers about one series as one."""
    if len(answers) == 1:
        return answers[0]
    windows = merge(window for answer in answers for window in answer.windows)
    return answers[0]._replace(windows=windows, absences=[each for answer in answers for each in answer.absences])


def _without_stored(cursor: Cursor, answer: Covered) -> Covered:
    """Take the intervals of stored rows out of an answer's absences, in `perp_coverage`, too; return the rest."""
    windows = [absence.window for absence in answer.absences]
    values = {"source": answer.series.source, "symbol": answer.series.symbol}
    starts, ends = [window.start_ms for window in windows], [window.end_ms for window in windows]
    edges = {"starts": starts, "ends": ends, "first": min(starts), "last": max(ends)}
    cursor.execute(SQL["stored_within"], {**values, **edges})
    stored = [
        Window(floor_to(ts, answer.interval_ms), floor_to(ts, answer.interval_ms) + answer.interval_ms)
        for (ts,) in cursor.fetchall()
    ]
    if not stored:
        return answer
    cursor.execute(SQL["not_absent"], {**values, "stored": _multirange(merge(stored))})
    left = [absence._replace(window=part) for absence in answer.absences for part in subtract(absence.window, stored)]
    return answer._replace(absences=left)


def find_unproven(cursor: Cursor, series: Series, window: Window) -> list[Window]:
    """Return the parts of `window` whose absences without proof are to be requested again by now, ascending."""
    cursor.execute(SQL["unproven"], _values(series, window) | _recheck_values())
    return [Window(*row) for row in cursor.fetchall()]


def find_absent(cursor: Cursor, series: Series, window: Window, reasons: Sequence[str]) -> list[Window]:
    """Return the parts of `window` that are absent for one of `reasons`, ascending."""
    cursor.execute(SQL["absent_for"], {**_values(series, window), "reasons": list(reasons)})
    return [Window(*row) for row in cursor.fetchall()]


def find_wanted_absent(
    cursor: Cursor, source: str, symbols: Sequence[str], reasons: Sequence[str]
) -> list[tuple[Series, Window]]:
    """Return what is wanted of some symbols of a perpspec and absent for one of `reasons`, ascending."""
    cursor.execute(SQL["wanted_absent"], {"source": source, "symbols": list(symbols), "reasons": list(reasons)})
    return [(Series(source, symbol), Window(start_ms, end_ms)) for symbol, start_ms, end_ms in cursor.fetchall()]


def uncover_absent(cursor: Cursor, series: Series, window: Window, reasons: Sequence[str]) -> None:
    """Make what is absent in `window` for one of `reasons` missing again: there is another way to have it."""
    found = find_absent(cursor, series, window, reasons)
    for part in found:
        cursor.execute(SQL["cut_absences"], _values(series, part))
    if found:
        values = {"source": series.source, "symbol": series.symbol, "ranges": _multirange(found)}
        cursor.execute(SQL["uncover"], values)


def list_rechecks(cursor: Cursor, source: str, span_ms: int, limit: int) -> list[tuple[Series, Window]]:
    """Return the windows, of `span_ms` at most, whose absences without proof are to be requested again by now."""
    cursor.execute(SQL["rechecks"], {"source": source, "span": span_ms, "limit": limit} | _recheck_values())
    return [(Series(source, symbol), Window(start_ms, end_ms)) for symbol, start_ms, end_ms in cursor.fetchall()]


def has_absence(cursor: Cursor, series: Series, reason: str) -> bool:
    """Return whether any range of a series is absent for a reason."""
    cursor.execute(SQL["has_absence"], {"source": series.source, "symbol": series.symbol, "reason": reason})
    return cursor.fetchone() is not None


def end_wanted(cursor: Cursor, series: Series, end_ms: int) -> bool:
    """Want nothing of a series from `end_ms` on, until `resume_wanted`; return whether it was wanted without an end."""
    cursor.execute(SQL["end_wanted"], {"source": series.source, "symbol": series.symbol, "end": end_ms})
    return cursor.rowcount > 0


def resume_wanted(cursor: Cursor, series: Series, start_ms: int) -> bool:
    """Want a series that `end_wanted` has ended again; return whether it was so.

    It is wanted from where it ended on, or from `start_ms` where that is later.
    """
    cursor.execute(SQL["resume_wanted"], {"source": series.source, "symbol": series.symbol, "start": start_ms})
    return cursor.rowcount > 0


def forget_before(cursor: Cursor, wanted_from_ms: int, kept_from_ms: int) -> None:
    """Want nothing older than `wanted_from_ms`, and claim nothing older than `kept_from_ms`: its rows are dropped."""
    edges = {"wanted_from": wanted_from_ms, "kept_from": kept_from_ms}
    cursor.execute(SQL["forget_before"], edges)
    cursor.execute(SQL["forget_absences_before"], edges)


def invalidate_listing_absences(cursor: Cursor, series: Sequence[Series]) -> None:
    """Uncover the ranges that are absent only because the list of contracts said so; they are missing again."""
    values = {
        "sources": [item.source for item in series],
        "symbols": [item.symbol for item in series],
        "reasons": list(LISTING_REASONS),
    }
    cursor.execute(SQL["invalidate_listing_absences"], values)


def find_missing(cursor: Cursor, series: Series, window: Window) -> list[Window]:
    """Return the parts of `window` that are not covered, ascending, whether they are wanted or not."""
    cursor.execute(SQL["missing"], _values(series, window))
    return [Window(*row) for row in cursor.fetchall()]


def compute_totals(cursor: Cursor, source: str, until_ms: int, symbols: Sequence[str] | None = None) -> list[Totals]:
    """Return the totals of a perpspec's series up to `until_ms`, by symbol; `symbols` None means all."""
    values = {"source": source, "until": until_ms, "symbols": _array(symbols)}
    cursor.execute(SQL["totals"], {**values, "no_row": NO_ROW, "confirmed": CONFIRMED_CHECKS})
    return [Totals(*row) for row in cursor.fetchall()]


def find_covered(cursor: Cursor, series: Series, window: Window) -> list[Window]:
    """Return the parts of `window` that are covered, ascending."""
    cursor.execute(SQL["covered"], _values(series, window))
    return [Window(*row) for row in cursor.fetchall()]


def list_series_within(cursor: Cursor, source: str, window: Window) -> list[Series]:
    """Return the series of a perpspec that cover any part of `window`."""
    cursor.execute(SQL["series_within"], {"source": source, "start": window.start_ms, "end": window.end_ms})
    return [Series(source, symbol) for (symbol,) in cursor.fetchall()]


def find_gaps(
    cursor: Cursor, source: str, until_ms: int, symbols: Sequence[str] | None = None
) -> list[tuple[Series, Window]]:
    """Return what is wanted before `until_ms` and not covered, per series of a perpspec, ascending."""
    cursor.execute(SQL["gaps"], {"source": source, "until": until_ms, "symbols": _array(symbols)})
    return [(Series(source, symbol), Window(start_ms, end_ms)) for symbol, start_ms, end_ms in cursor.fetchall()]


def list_symbols_wanted_without_end(cursor: Cursor, source: str) -> set[str]:
    """Return the symbols of a perpspec that are wanted without an end."""
    cursor.execute(SQL["wanted_without_end"], {"source": source})
    return {symbol for (symbol,) in cursor.fetchall()}


def is_whole(cursor: Cursor, series: Series, window: Window, proved: Sequence[Window] = ()) -> bool:
    """Return whether nothing of a window is absent, and all of it is covered or in `proved`."""
    missing = subtract(window, [*find_covered(cursor, series, window), *proved])
    return not missing and not count_absent_ms(cursor, series, window)


def count_absent_ms(cursor: Cursor, series: Series, window: Window) -> int:
    """Return how many milliseconds of `window` the exchange does not have."""
    cursor.execute(SQL["absent_ms"], _values(series, window))
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def _series_with_absences(cursor: Cursor, answers: Sequence[Covered]) -> set[Series]:
    """Return the series that have absences stored inside a range which is answered now."""
    spans = [(*answer.series, *window) for answer in answers for window in answer.windows]
    if not spans:
        return set()
    rows = execute_values(cursor, SQL["series_with_absences"], spans, page_size=len(spans), fetch=True)
    return {Series(*row) for row in rows}


def _replace_absences(cursor: Cursor, answer: Covered) -> None:
    """Put the answer's absences in the place of those stored inside its ranges."""
    stored: list[_Known] = []
    for window in answer.windows:
        values = _values(answer.series, window)
        if answer.absences:
            cursor.execute(SQL["absences_within"], values)
            stored += [_Known(Window(start_ms, end_ms), *rest) for start_ms, end_ms, *rest in cursor.fetchall()]
        cursor.execute(SQL["cut_absences"], values)
    if not answer.absences:
        return
    rows = [
        (
            *answer.series,
            *part,
            absence.reason,
            absence.checks,
            answer.checked_by,
            *((known.checks, known.first_checked_at, known.checked_at) if known else (0, None, None)),
            RUNS_APART_S,
        )
        for absence in answer.absences
        for part, known in _find_known(absence, stored)
    ]
    execute_values(cursor, SQL["add_absences"], rows, template=SQL["absence_values"])
    for reason in {absence.reason for absence in answer.absences}:
        values = {**_values(answer.series, _hull(answer.windows)), "reason": reason}
        cursor.execute(SQL["join_absences"], {**values, "checks": SETTLED_CHECKS if reason == NO_ROW else 0})


def _find_known(absence: Absence, stored: Sequence[_Known]) -> list[tuple[Window, _Known | None]]:
    """Cut an absence into parts that are each known from before by one stored absence of its reason, or by none."""
    parts: list[tuple[Window, _Known | None]] = []
    (start_ms, end_ms), left = absence.window, [absence.window]
    for known in stored:
        if known.reason == absence.reason and known.window.start_ms < end_ms and known.window.end_ms > start_ms:
            rest = [part for each in left for part in subtract(each, [known.window])]
            parts += [(part, known) for each in left for part in subtract(each, rest)]
            left = rest
    return [*parts, *((part, None) for part in left)]


def _hull(windows: Sequence[Window]) -> Window:
    return Window(min(window.start_ms for window in windows), max(window.end_ms for window in windows))


def _values(series: Series, window: Window) -> dict[str, object]:
    return {"source": series.source, "symbol": series.symbol, "start": window.start_ms, "end": window.end_ms}


def _recheck_values() -> dict[str, object]:
    checks, after = list(RECHECK_AFTER_S), list(RECHECK_AFTER_S.values())
    return {"reason": NO_ROW, "apart": RUNS_APART_S, "checks": checks, "after": after}


def _array(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def _multirange(windows: Sequence[tuple[int, int | None]]) -> str:
    """Write an int8multirange; an end of None has no end."""
    return "{" + ",".join(f"[{start},{'' if end is None else end})" for start, end in windows) + "}"
