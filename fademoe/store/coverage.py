"""What is wanted, covered and absent of each series: multiranges that change together with the rows."""

from collections.abc import Sequence
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from fademoe.clock import Window
from fademoe.store.queries import load_queries

SQL = load_queries("coverage")
NOT_LISTED_YET = "before the listing"
DELISTED = "after the delisting"
LISTING_REASONS = (NOT_LISTED_YET, DELISTED)  # taken from the list of contracts, without a request


class Series(NamedTuple):
    """One perpspec of one symbol."""

    source: str
    symbol: str


class Absence(NamedTuple):
    """A range which the exchange does not have, and why we say so."""

    window: Window
    reason: str


class Covered(NamedTuple):
    """Ranges of one series that were fully answered, and what of them the exchange does not have."""

    series: Series
    windows: Sequence[Window]
    absences: Sequence[Absence] = ()


class Totals(NamedTuple):
    """A series in milliseconds: what of the time before now is wanted, absent upstream, and missing."""

    symbol: str
    wanted_from: int | None
    wanted_ms: int
    absent_ms: int
    missing_ms: int


def want(cursor: Cursor, series: Sequence[Series], start_ms: int, end_ms: int | None) -> None:
    """Add [start_ms, end_ms) to what is wanted of each series; without an end it is wanted for ever."""
    rows = sorted((source, symbol, _multirange([(start_ms, end_ms)])) for source, symbol in series)
    execute_values(cursor, SQL["want"], rows, template="(%s, %s, %s::int8multirange)")


def record(cursor: Cursor, answers: Sequence[Covered]) -> None:
    """Enter answered ranges: they are covered, and absent only where the answer says so.

    Must be the last statement of a transaction, so that nobody waits for its row locks.
    """
    changed = _series_with_absences(cursor, answers)
    rows = []
    for answer in sorted(answers, key=lambda answer: answer.series):
        if answer.series in changed or answer.absences:
            _replace_absences(cursor, answer)
        absent = _multirange([absence.window for absence in answer.absences])
        rows.append((*answer.series, _multirange(answer.windows), absent))
    template = "(%s, %s, %s::int8multirange, %s::int8multirange)"
    execute_values(cursor, SQL["record"], rows, template=template, page_size=len(rows))


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


def missing(cursor: Cursor, series: Series, window: Window) -> list[Window]:
    """Return the parts of `window` that are not covered, ascending, whether they are wanted or not."""
    cursor.execute(SQL["missing"], _values(series, window))
    return [Window(*row) for row in cursor.fetchall()]


def totals(cursor: Cursor, source: str, until_ms: int, symbols: Sequence[str] | None = None) -> list[Totals]:
    """Return the totals of a perpspec's series up to `until_ms`, by symbol; `symbols` None means all."""
    cursor.execute(SQL["totals"], {"source": source, "until": until_ms, "symbols": _array(symbols)})
    return [Totals(*row) for row in cursor.fetchall()]


def covered(cursor: Cursor, series: Series, window: Window) -> list[Window]:
    """Return the parts of `window` that are covered, ascending."""
    cursor.execute(SQL["covered"], _values(series, window))
    return [Window(*row) for row in cursor.fetchall()]


def series_within(cursor: Cursor, source: str, window: Window) -> list[Series]:
    """Return the series of a perpspec that cover any part of `window`."""
    cursor.execute(SQL["series_within"], {"source": source, "start": window.start_ms, "end": window.end_ms})
    return [Series(source, symbol) for (symbol,) in cursor.fetchall()]


def gaps(
    cursor: Cursor, source: str, until_ms: int, symbols: Sequence[str] | None = None
) -> list[tuple[Series, Window]]:
    """Return what is wanted before `until_ms` and not covered, per series of a perpspec, ascending."""
    cursor.execute(SQL["gaps"], {"source": source, "until": until_ms, "symbols": _array(symbols)})
    return [(Series(source, symbol), Window(start_ms, end_ms)) for symbol, start_ms, end_ms in cursor.fetchall()]


def wanted_without_end(cursor: Cursor, source: str) -> set[str]:
    """Return the symbols of a perpspec that are wanted without an end."""
    cursor.execute(SQL["wanted_without_end"], {"source": source})
    return {symbol for (symbol,) in cursor.fetchall()}


def absent_ms(cursor: Cursor, series: Series, window: Window) -> int:
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
    for window in answer.windows:
        cursor.execute(SQL["cut_absences"], _values(answer.series, window))
    if answer.absences:
        rows = [(*answer.series, *absence.window, absence.reason) for absence in answer.absences]
        execute_values(cursor, SQL["add_absences"], rows)


def _values(series: Series, window: Window) -> dict[str, object]:
    return {"source": series.source, "symbol": series.symbol, "start": window.start_ms, "end": window.end_ms}


def _array(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def _multirange(windows: Sequence[tuple[int, int | None]]) -> str:
    """Write an int8multirange; an end of None has no end."""
    return "{" + ",".join(f"[{start},{'' if end is None else end})" for start, end in windows) + "}"
