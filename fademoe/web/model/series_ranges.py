"""How complete the series are, as ranges of time."""

import msgspec
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window
from fademoe.store.read import completeness as read_completeness
from fademoe.store.read.completeness import SeriesCoverage
from fademoe.web.model.answer import Answer


class CoverageSeries(SeriesCoverage, kw_only=True, frozen=True):
    """One series with its ranges, each [from, to) in ms.

    `provisional` is the part of `absent` that is to be confirmed by a second run.
    """

    wanted: list[Window]
    covered: list[Window]
    absent: list[Window]
    provisional: list[Window]
    missing: list[Window]


class Coverage(Answer):
    """One page of series."""

    at: int
    series: list[CoverageSeries]
    next: str | None


def read_series(
    cursor: Cursor,
    *,
    now_ms: int,
    limit: int,
    sources: list[str] | None,
    symbols: list[str] | None,
    after: tuple[str, str],
) -> tuple[list[CoverageSeries], bool]:
    """Return at most `limit` series behind `after` (source, symbol) with their ranges, and whether more follow."""
    series = read_completeness.list_series(
        cursor, now_ms=now_ms, limit=limit + 1, sources=sources, symbols=symbols, after=after
    )
    page = series[:limit]
    keys = [(one.source, one.symbol) for one in page]
    ranges = read_completeness.list_ranges(cursor, keys, now_ms)
    absent = [key for key, one in ranges.items() if one.absent]
    provisional = read_completeness.list_provisional(cursor, absent) if absent else {}
    answer = [_add_ranges(one, ranges.get(key), provisional.get(key, [])) for key, one in zip(keys, page, strict=True)]
    return answer, len(series) > limit


def _add_ranges(
    series: SeriesCoverage, ranges: read_completeness.SeriesRanges | None, provisional: list[Window]
) -> CoverageSeries:
    return CoverageSeries(
        **msgspec.structs.asdict(series),
        wanted=ranges.wanted if ranges else [],
        covered=ranges.covered if ranges else [],
        absent=ranges.absent if ranges else [],
        provisional=provisional,
        missing=ranges.missing if ranges else [],
    )
