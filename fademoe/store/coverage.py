"""What is wanted, covered and absent of each series: multiranges that change together with the rows."""

from collections.abc import Sequence
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from fademoe.clock import Window

NOT_LISTED_YET = "before the listing"
DELISTED = "after the delisting"
BY_LIST = (NOT_LISTED_YET, DELISTED)  # reasons that no exchange was asked for: as good as its list of contracts


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
    execute_values(
        cursor,
        "INSERT INTO perp_coverage AS p (source, symbol, wanted) VALUES %s ON CONFLICT (source, symbol) DO UPDATE"
        " SET wanted = p.wanted + excluded.wanted, updated_at = now() WHERE NOT p.wanted @> excluded.wanted",
        rows,
        template="(%s, %s, %s::int8multirange)",
    )


def record(cursor: Cursor, answers: Sequence[Covered]) -> None:
    """Enter answered ranges. The last statement of a transaction, so that nobody waits on its row locks.

    A range that was absent before and is answered again is absent only if it is so again.
    """
    crossed = _crossed(cursor, answers)
    rows = []
    for answer in sorted(answers, key=lambda answer: answer.series):
        if answer.series in crossed or answer.absences:
            _replace_absences(cursor, answer)
        absent = _multirange([absence.window for absence in answer.absences])
        rows.append((*answer.series, _multirange(answer.windows), absent))
    execute_values(
        cursor,
        "INSERT INTO perp_coverage AS p (source, symbol, covered, absent) VALUES %s"
        " ON CONFLICT (source, symbol) DO UPDATE SET covered = p.covered + excluded.covered,"
        " absent = p.absent - excluded.covered + excluded.absent, updated_at = now()",
        rows,
        template="(%s, %s, %s::int8multirange, %s::int8multirange)",
        page_size=len(rows),
    )


def forget_before(cursor: Cursor, wanted_from_ms: int, kept_from_ms: int) -> None:
    """Want nothing older than `wanted_from_ms` any more, and claim nothing older than `kept_from_ms`: it is dropped."""
    cursor.execute(
        "UPDATE perp_coverage SET wanted = wanted - unwanted, covered = covered - gone, absent = absent - gone"
        " FROM (SELECT int8multirange(int8range(NULL, %s)) AS unwanted, int8multirange(int8range(NULL, %s)) AS gone) o"
        " WHERE wanted && unwanted OR covered && gone",
        (wanted_from_ms, kept_from_ms),
    )
    cursor.execute("DELETE FROM perp_absence WHERE end_ms <= %s", (kept_from_ms,))


def doubt_list(cursor: Cursor, series: Sequence[Series]) -> None:
    """Take back what is absent by the list of contracts alone: it says otherwise now, so it is to be looked at anew."""
    cursor.execute(
        "WITH gone AS (DELETE FROM perp_absence"
        " WHERE (source, symbol) IN (SELECT unnest(%s::text[]), unnest(%s::text[])) AND reason = ANY(%s)"
        " RETURNING source, symbol, int8range(start_ms, end_ms) AS r),"
        " ranges AS (SELECT source, symbol, range_agg(r) AS old FROM gone GROUP BY source, symbol)"
        " UPDATE perp_coverage p SET covered = covered - old, absent = absent - old, updated_at = now()"
        " FROM ranges WHERE p.source = ranges.source AND p.symbol = ranges.symbol",
        ([one.source for one in series], [one.symbol for one in series], list(BY_LIST)),
    )


def missing(cursor: Cursor, series: Series, window: Window) -> list[Window]:
    """Return what of `window` is not covered, ascending, whether it is wanted or not."""
    cursor.execute(
        "SELECT lower(r), upper(r) FROM unnest(int8multirange(int8range(%s, %s)) - coalesce("
        "(SELECT covered FROM perp_coverage WHERE source = %s AND symbol = %s), '{}')) r ORDER BY r",
        (window.start_ms, window.end_ms, series.source, series.symbol),
    )
    return [Window(*row) for row in cursor.fetchall()]


def totals(cursor: Cursor, source: str, until_ms: int, symbols: Sequence[str] | None = None) -> list[Totals]:
    """Return the totals of a perpspec's series up to `until_ms`, by symbol."""
    cursor.execute(
        "WITH asked AS (SELECT symbol, wanted_from, covered, absent,"
        " wanted * int8multirange(int8range(NULL, %s)) AS wanted FROM perp_coverage"
        " WHERE source = %s AND (%s::text[] IS NULL OR symbol = ANY(%s::text[])))"
        " SELECT symbol, wanted_from,"
        " (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(wanted) r),"
        " (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(wanted * absent) r),"
        " (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(wanted - covered) r)"
        " FROM asked ORDER BY symbol",
        (until_ms, source, list(symbols) if symbols is not None else None, list(symbols or ())),
    )
    return [Totals(row[0], row[1], int(row[2]), int(row[3]), int(row[4])) for row in cursor.fetchall()]


def covered(cursor: Cursor, series: Series, window: Window) -> list[Window]:
    """Return what of `window` is covered, ascending."""
    cursor.execute(
        "SELECT lower(r), upper(r) FROM perp_coverage, unnest(covered * int8multirange(int8range(%s, %s))) r"
        " WHERE source = %s AND symbol = %s ORDER BY r",
        (window.start_ms, window.end_ms, series.source, series.symbol),
    )
    return [Window(*row) for row in cursor.fetchall()]


def series_within(cursor: Cursor, source: str, window: Window) -> list[Series]:
    """Return the series of a perpspec that cover any part of `window`."""
    cursor.execute(
        "SELECT symbol FROM perp_coverage WHERE source = %s AND covered && int8range(%s, %s) ORDER BY symbol",
        (source, window.start_ms, window.end_ms),
    )
    return [Series(source, symbol) for (symbol,) in cursor.fetchall()]


def gaps(
    cursor: Cursor, source: str, until_ms: int, symbols: Sequence[str] | None = None
) -> list[tuple[Series, Window]]:
    """Return what is wanted before `until_ms` and not covered, per series of a perpspec, ascending."""
    cursor.execute(
        "SELECT source, symbol, lower(r), upper(r) FROM perp_coverage,"
        " unnest(wanted * int8multirange(int8range(NULL, %s)) - covered) r"
        " WHERE source = %s AND (%s::text[] IS NULL OR symbol = ANY(%s::text[])) ORDER BY symbol, r",
        (until_ms, source, list(symbols) if symbols is not None else None, list(symbols or ())),
    )
    return [(Series(row[0], row[1]), Window(row[2], row[3])) for row in cursor.fetchall()]


def wanted_for_ever(cursor: Cursor, source: str) -> set[str]:
    """Return the symbols of a perpspec that are wanted without an end."""
    cursor.execute("SELECT symbol FROM perp_coverage WHERE source = %s AND upper_inf(wanted)", (source,))
    return {symbol for (symbol,) in cursor.fetchall()}


def absent_ms(cursor: Cursor, series: Series, window: Window) -> int:
    """Return how many milliseconds of `window` the exchange does not have."""
    cursor.execute(
        "SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM perp_coverage,"
        " unnest(absent * int8multirange(int8range(%s, %s))) r WHERE source = %s AND symbol = %s",
        (window.start_ms, window.end_ms, series.source, series.symbol),
    )
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def _crossed(cursor: Cursor, answers: Sequence[Covered]) -> set[Series]:
    """Return the series that have reasons stored for a range which is answered again."""
    spans = [(*answer.series, *window) for answer in answers for window in answer.windows]
    if not spans:
        return set()
    found = execute_values(
        cursor,
        "SELECT DISTINCT a.source, a.symbol FROM perp_absence a JOIN (VALUES %s) v (source, symbol, start_ms, end_ms)"
        " ON a.source = v.source AND a.symbol = v.symbol AND a.start_ms < v.end_ms AND a.end_ms > v.start_ms",
        spans,
        page_size=len(spans),
        fetch=True,
    )
    return {Series(*row) for row in found}


def _replace_absences(cursor: Cursor, answer: Covered) -> None:
    """Enter the reasons; older ones inside the answered ranges go, those that cross an edge are cut there."""
    source, symbol = answer.series
    for window in answer.windows:
        cursor.execute(
            "WITH cut AS (DELETE FROM perp_absence WHERE source = %(source)s AND symbol = %(symbol)s"
            " AND start_ms < %(end)s AND end_ms > %(start)s RETURNING start_ms, end_ms, reason, checked_at)"
            " INSERT INTO perp_absence (source, symbol, start_ms, end_ms, reason, checked_at)"
            " SELECT %(source)s, %(symbol)s, lower(r), upper(r), reason, checked_at FROM cut,"
            " unnest(int8multirange(int8range(start_ms, end_ms))"
            " - int8multirange(int8range(%(start)s, %(end)s))) r",
            {"source": source, "symbol": symbol, "start": window.start_ms, "end": window.end_ms},
        )
    if answer.absences:
        execute_values(
            cursor,
            "INSERT INTO perp_absence (source, symbol, start_ms, end_ms, reason) VALUES %s"
            " ON CONFLICT (source, symbol, start_ms) DO UPDATE"
            " SET end_ms = excluded.end_ms, reason = excluded.reason, checked_at = now()",
            [(source, symbol, *absence.window, absence.reason) for absence in answer.absences],
        )


def _multirange(windows: Sequence[tuple[int, int | None]]) -> str:
    """Write an int8multirange; an end of None has no end."""
    return "{" + ",".join(f"[{start},{'' if end is None else end})" for start, end in windows) + "}"
