"""How complete the series are: from perp_coverage alone, one subtraction of multiranges, never a scan of the data."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor

from fademoe.clock import MINUTE_MS, Window
from fademoe.feeds import registry
from fademoe.metrics import perpspec

GRACE_MS = 5 * MINUTE_MS  # for a closed row to be fetched, or received, and stored
EDGE_MS = 20 * MINUTE_MS  # of a perpspec that no exchange declares


class Series(NamedTuple):
    """One perpspec of one symbol; lengths in ms, up to the rows that are due by now."""

    source: str
    symbol: str
    wanted_from: int | None
    newest_ms: int | None  # end of what is covered
    wanted_ms: int
    covered_ms: int
    absent_ms: int
    missing_ms: int
    gaps: int  # missing ranges that are due

    @property
    def percent(self) -> float | None:
        """Percent of the wanted time that is settled, rounded down: 100 only when nothing is missing."""
        return _percent(self.wanted_ms, self.missing_ms)


class Ranges(NamedTuple):
    """The ranges of one series, ascending; wanted up to now, missing up to the rows that are due."""

    source: str
    symbol: str
    wanted: list[Window]
    covered: list[Window]
    absent: list[Window]
    missing: list[Window]


# `w`: what was wanted up to now, for wishes may have no end. `due`: the part of it whose rows should be there: the
# newest bar is still open, and the one before on its way.
_WANTED = """
    LEFT JOIN unnest(%(edge_sources)s::text[], %(edges)s::bigint[]) AS e(source, edge) ON e.source = p.source
    CROSS JOIN LATERAL (
        SELECT p.wanted * int8multirange(int8range(NULL, %(now)s)) AS w,
               p.wanted * int8multirange(int8range(NULL, %(now)s - coalesce(e.edge, %(edge)s))) AS due,
               coalesce(e.edge, %(edge)s) AS edge
        OFFSET 0
    ) AS x
"""
_LENGTH = "(SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM unnest({}) AS r)"
_SERIES = f"""
    SELECT p.source, p.symbol, p.wanted_from, upper(p.covered),
           {_LENGTH.format("due")}, {_LENGTH.format("due * p.covered")},
           {_LENGTH.format("due * p.absent")}, {_LENGTH.format("due - p.covered")},
           (SELECT count(*) FROM unnest(due - p.covered))::int
    FROM perp_coverage p {_WANTED}
    WHERE (%(sources)s::text[] IS NULL OR p.source = ANY(%(sources)s))
      AND (%(symbols)s::text[] IS NULL OR p.symbol = ANY(%(symbols)s))
      AND (p.source COLLATE "C", p.symbol COLLATE "C") > (%(after_source)s, %(after_symbol)s)
    ORDER BY p.source COLLATE "C", p.symbol COLLATE "C" LIMIT %(limit)s
"""  # noqa: S608 - made of the constants above
_PAIRS = """(
    SELECT coalesce(array_agg(ARRAY[lower(r), coalesce(upper(r), %(now)s)] ORDER BY r), '{{}}') FROM unnest({}) AS r
)"""
_RANGES = f"""
    SELECT p.source, p.symbol, {_PAIRS.format("w")}, {_PAIRS.format("p.covered")}, {_PAIRS.format("p.absent")},
           {_PAIRS.format("due - p.covered")}
    FROM perp_coverage p {_WANTED}
    WHERE (p.source, p.symbol) IN (SELECT * FROM unnest(%(sources)s::text[], %(symbols)s::text[]))
"""  # noqa: S608
# The end of what is wanted so far, less the end of what is covered.
_LAG = "greatest(0, upper(w) - greatest(upper(p.covered), lower(w)))"
_LAGS = f"""
    SELECT p.source, min(s.exchange), count(*)::int, (count(*) FILTER (WHERE {_LAG} > x.edge))::int, max({_LAG})
    FROM perp_coverage p LEFT JOIN perpspec_schema s ON s.perpspec_name = p.source {_WANTED}
    GROUP BY p.source ORDER BY p.source
"""  # noqa: S608
_TOTALS = f"""
    SELECT p.source, min(s.exchange), count(*)::int,
           sum({_LENGTH.format("due")})::bigint, sum({_LENGTH.format("y.missing")})::bigint,
           (count(*) FILTER (WHERE NOT isempty(y.missing)))::int,
           (count(*) FILTER (WHERE y.lag_ms > x.edge))::int, max(y.lag_ms),
           min(CASE WHEN isempty(p.absent) THEN lower(p.covered) ELSE lower(p.covered - p.absent) END),
           max(upper(p.covered))
    FROM perp_coverage p LEFT JOIN perpspec_schema s ON s.perpspec_name = p.source {_WANTED}
    CROSS JOIN LATERAL (
        SELECT due - p.covered AS missing, {_LAG} AS lag_ms OFFSET 0
    ) AS y
    GROUP BY p.source ORDER BY p.source
"""  # noqa: S608
_COVERED = """
    SELECT count(*) FROM perp_coverage
    WHERE source = %(source)s AND symbol = ANY(%(symbols)s) AND covered @> int8range(%(start)s, %(end)s)
"""


class Lag(NamedTuple):
    """How far behind the series of one perpspec are, without a look at their holes: ten times as fast as a Total."""

    source: str
    exchange: str | None
    series: int
    behind: int  # series whose newest row is overdue
    lag_ms: int | None  # of the series furthest behind


class Total(NamedTuple):
    """All series of one perpspec together; `lag_ms` is that of the series furthest behind."""

    source: str
    exchange: str | None
    series: int
    wanted_ms: int
    missing_ms: int
    incomplete: int  # series with something missing
    behind: int  # series whose newest row is overdue
    lag_ms: int | None
    first_ms: int | None
    newest_ms: int | None

    @property
    def percent(self) -> float | None:
        """Percent of the wanted time that is settled, rounded down: 100 only when nothing is missing."""
        return _percent(self.wanted_ms, self.missing_ms)


def series(
    cursor: Cursor,
    *,
    now_ms: int,
    limit: int,
    sources: list[str] | None = None,
    symbols: list[str] | None = None,
    after: tuple[str, str] = ("", ""),
) -> list[Series]:
    """Return series by (source, symbol), behind `after`; None means all."""
    values = _times(now_ms) | {
        "sources": sources,
        "symbols": symbols,
        "after_source": after[0],
        "after_symbol": after[1],
        "limit": limit,
    }
    cursor.execute(_SERIES, values)
    return [Series(*row) for row in cursor.fetchall()]


def ranges(cursor: Cursor, keys: list[tuple[str, str]], now_ms: int) -> dict[tuple[str, str], Ranges]:
    """Return the ranges of the given (source, symbol)."""
    chosen = {"sources": [key[0] for key in keys], "symbols": [key[1] for key in keys]}
    cursor.execute(_RANGES, _times(now_ms) | chosen)
    return {
        (source, symbol): Ranges(source, symbol, *([Window(*pair) for pair in pairs] for pairs in lists))
        for source, symbol, *lists in cursor.fetchall()
    }


def lags(cursor: Cursor, now_ms: int) -> list[Lag]:
    """Return one line per perpspec that has series."""
    cursor.execute(_LAGS, _times(now_ms))
    return [Lag(*row) for row in cursor.fetchall()]


def totals(cursor: Cursor, now_ms: int) -> list[Total]:
    """Return one line per perpspec that has series."""
    cursor.execute(_TOTALS, _times(now_ms))
    return [Total(*row) for row in cursor.fetchall()]


def are_covered(cursor: Cursor, source: str, symbols: Sequence[str], window: Window) -> bool:
    """Return whether a range of every one of these symbols was asked for and fully answered."""
    cursor.execute(
        _COVERED, {"source": source, "symbols": list(symbols), "start": window.start_ms, "end": window.end_ms}
    )
    row = cursor.fetchone()
    return row is not None and row[0] == len(symbols)


def _percent(wanted_ms: int, missing_ms: int) -> float | None:
    return (wanted_ms - missing_ms) * 10_000 // wanted_ms / 100 if wanted_ms else None


@cache
def _edges() -> dict[str, int]:
    """Return how old the end of each perpspec's newest row may be: its step, what the exchange needs, what we need."""
    found: dict[str, int] = {}
    for exchange in registry.exchanges().values():
        for metric in exchange.metrics():
            feed = exchange.rest_feed(metric)
            own_ms = feed.interval_ms + feed.latency.settle_ms if feed else MINUTE_MS
            found |= {perpspec(code, metric): own_ms + GRACE_MS for code in exchange.codes}
    return found


def _times(now_ms: int) -> dict[str, object]:
    edges = _edges()
    return {"now": now_ms, "edge_sources": list(edges), "edges": list(edges.values()), "edge": EDGE_MS}
