"""Rows as they were known at a moment: what was not known then is left out, and changed values are put back.

Two questions, never mixed. `market`: could a live client have known the row, by the stated lag of its feed or by the
measured one where that is later. `recorded`: did this database hold it.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS, SECOND_MS
from fademoe.metrics import INTERVALS_MS, METRICS, Derived, Instant
from fademoe.store.queries import load_queries
from fademoe.store.read.catalog import Perpspec

SQL = load_queries("read_past")
CHANGES_KEPT_MS = 365 * DAY_MS  # what changed values were (store.status)
SAMPLES_KEPT_MS = 100 * DAY_MS  # live samples whose place the history took
EXTRAS = ("known_ms", "is_measured", "restored")  # of a row, behind the columns that are selected


class Knowledge(StrEnum):
    """Whose knowledge of a row counts."""

    MARKET = "market"
    RECORDED = "recorded"


class Basis(StrEnum):
    """On what the times rest at which the rows of an answer were known: the least certain one counts."""

    MEASURED = "measured"
    RULE = "rule"
    UNKNOWN = "unknown"


class Moment(NamedTuple):
    """As of when rows are read, in ms, and whose knowledge counts; `at_ms` None: as they are now."""

    at_ms: int | None = None
    knowledge: Knowledge = Knowledge.MARKET


class Provenance(NamedTuple):
    """What an answer says of rows that were read at a moment: the basis, and how many values were rolled back."""

    basis: Basis
    rolled_back: int


def read_newest_correction(cursor: Cursor) -> int:
    """Return the id of the newest change of a value, 0 before the first: with a moment it pins what a read returns."""
    cursor.execute(SQL["newest_correction"])
    return int((cursor.fetchone() or (0,))[0])


def build_rows(
    cursor: Cursor, spec: Perpspec, columns: Sequence[str], moment: Moment, *, with_later: bool = False
) -> sql.Composable:
    """Return the relation that stands for perp_data: the `columns` of a perpspec at a moment, and EXTRAS.

    Its keys ts, symbol, source and interval are those of perp_data. For use in a statement that has parameters.
    `with_later`: with the rows, too, whose known_ms lies behind the moment.
    """
    by_name = {field.name: field for field in spec.fields}
    names = [
        {
            "name": sql.Literal(name),
            "column": sql.Identifier(name),
            "kind": sql.SQL("bigint" if by_name[name].type == "integer" else "numeric"),
        }
        for name in columns
    ]
    is_past = moment.at_ms is not None
    at_ms = sql.Literal(moment.at_ms or 0)
    is_recorded = moment.knowledge is Knowledge.RECORDED
    if is_past:
        values = [sql.SQL(SQL["value"]).format(**each) for each in names]
        restored = [sql.SQL(SQL["restored_value"]).format(**each) for each in names]
        changes: sql.Composable = sql.SQL(SQL["changes"]).format(at_s=sql.Literal((moment.at_ms or 0) / SECOND_MS))
        interval = sql.SQL("coalesce(change.interval, r.interval)")
    else:
        values = [sql.SQL("r.{column}").format(**each) for each in names]
        restored, changes, interval = [], sql.SQL(""), sql.SQL("r.interval")
    arrivals, known = _build_known(cursor, spec, moment)
    visible = sql.SQL(SQL["visible"]).format(at_ms=at_ms) if is_past and not with_later else sql.SQL("")
    return sql.SQL(SQL["rows"]).format(
        values=sql.SQL(", ").join(values),
        restored=sql.SQL("coalesce({}, 0)").format(sql.SQL(" + ").join(restored)) if restored else sql.SQL("0"),
        changes=changes,
        interval=interval,
        arrivals=arrivals,
        known=known,
        measured=sql.SQL(SQL["recorded_measured" if is_recorded else "market_measured"]),
        source=sql.Literal(spec.name),
        visible=visible,
    )


def build_before(metric: str, at_ms: sql.Composable, first: sql.Composable, last: sql.Composable) -> sql.Composable:
    """Return the relation that stands for perp_data: the rows of a metric as this database held them before a time.

    `at_ms` is an expression of whole ms, as are `first` and `last`, between which the ts lie. Of rows that came live it
    is not known when they came: they are always there.
    """
    values = [
        sql.SQL(SQL["value"]).format(
            name=sql.Literal(column.name),
            column=sql.Identifier(column.name),
            kind=sql.SQL("bigint" if column.whole else "numeric"),
        )
        for column in METRICS[metric].columns
    ]
    before_s = sql.SQL("({} - 0.001) / 1000.0").format(at_ms)  # the clock of PostgreSQL has microseconds
    return sql.SQL(SQL["before"]).format(
        values=sql.SQL(", ").join(values),
        changes=sql.SQL(SQL["changes"]).format(at_s=before_s),
        at_ms=at_ms,
        first=first,
        last=last,
    )


def find_provenance(rows: Sequence[Sequence[Any]], metric: str, moment: Moment, now_ms: int) -> Provenance:
    """Return the provenance of rows of a metric that end with EXTRAS."""
    measured = {row[-2] for row in rows}
    kept_ms = SAMPLES_KEPT_MS if _has_samples(metric) else CHANGES_KEPT_MS
    is_forgotten = moment.at_ms is not None and moment.at_ms < now_ms - kept_ms
    if None in measured or is_forgotten:
        basis = Basis.UNKNOWN
    elif False in measured or (not measured and moment.knowledge is Knowledge.MARKET):
        basis = Basis.RULE
    else:
        basis = Basis.MEASURED
    return Provenance(basis, sum(row[-1] for row in rows))


def _has_samples(name: str) -> bool:
    """Return whether a metric, or one that it is computed from, has live samples that give way to the history."""
    metric = METRICS.get(name)  # None: no package declares it any more
    if isinstance(metric, Derived):
        return any(map(_has_samples, metric.inputs))
    return metric is None or (metric.instant is Instant.MOMENT and metric.interval in INTERVALS_MS)


def _build_known(cursor: Cursor, spec: Perpspec, moment: Moment) -> tuple[sql.Composable, sql.Composable]:
    """Return the joins that tell when a row was known, and the expression of it."""
    lags, intervals = _build_lags(cursor, spec)
    if moment.knowledge is Knowledge.RECORDED:
        known = sql.SQL(SQL["recorded_known"]).format(**lags)
        arrivals = sql.SQL(SQL["arrivals"])
        return arrivals, known if moment.at_ms is None else sql.SQL(SQL["unless_added"]).format(known=known)
    stragglers, known = sql.SQL(SQL["stragglers"]), sql.SQL(SQL["market_known"]).format(**lags)
    if intervals < 2:
        return stragglers, known
    until: sql.Composable = sql.SQL("")
    if moment.at_ms is not None:
        until = sql.SQL(SQL["until"]).format(at_s=sql.Literal(moment.at_ms / SECOND_MS))
    replaced = sql.SQL(SQL["replaced"]).format(until=until)
    return sql.SQL("{} {}").format(stragglers, replaced), sql.SQL(SQL["unless_replaced"]).format(known=known)


def _build_lags(cursor: Cursor, spec: Perpspec) -> tuple[dict[str, sql.Composable], int]:
    """Return the span and the lag of a row as expressions, by its interval and ts, and how many intervals there are."""
    cursor.execute(SQL["lags"], {"source": spec.name})
    stated = cursor.fetchall()
    spans = {interval: _compute_span_ms(spec.metric, interval) for interval, _, _ in stated}
    slowest_ms = max((lag_ms for _, _, lag_ms in stated), default=0)

    def choose(values: Sequence[tuple[str, int, int]], other: int) -> sql.Composable:
        if not values:
            return sql.Literal(other)
        cases = [
            sql.SQL(SQL["span"]).format(
                interval=sql.Literal(interval), since=sql.Literal(since_ms), value=sql.Literal(value)
            )
            for interval, since_ms, value in values
        ]
        return sql.SQL("CASE {} ELSE {} END").format(sql.SQL(" ").join(cases), sql.Literal(other))

    lags = {
        "span": choose([(interval, 0, span_ms) for interval, span_ms in spans.items()], 0),
        "lag": choose(stated, slowest_ms),
    }
    return lags, len(spans)


def _compute_span_ms(metric: str, interval: str) -> int:
    declared = METRICS.get(metric)
    is_moment = declared is not None and declared.instant is Instant.MOMENT
    return 0 if is_moment else INTERVALS_MS.get(interval, 0)
