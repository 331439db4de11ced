"""Writes rows and the coverage they prove, in one transaction."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from psycopg2 import errors, sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import SECOND_MS, Window, now_ms
from fademoe.metrics import METRICS, Instant, Metric, Row
from fademoe.store import arrivals, coverage, hours
from fademoe.store.arrivals import HISTORY, Origin, Times
from fademoe.store.connection import Database
from fademoe.store.coverage import Covered, Series
from fademoe.store.partitions import Partitions
from fademoe.store.queries import load_queries
from fademoe.store.text import clean_text

if TYPE_CHECKING:
    from fademoe.feeds.blocks import Block

KEY_COLUMNS = ("ts", "symbol", "source", "interval")
LONG = 50  # rows of one series in a batch: from so many on, reading what is stored is cheaper than a COPY that fails
CHUNK_ROWS = 500  # written as text at once, while PostgreSQL still takes in the ones before

SQL = load_queries("writer")
_ts = attrgetter("ts")


class Batch(NamedTuple):
    """Rows of one metric by series, ascending in time; `interval` is the value of that column."""

    metric: str
    interval: str
    rows: Mapping[Series, Sequence[Row]]


def group_rows(rows: Iterable[tuple[Series, Row]]) -> dict[Series, list[Row]]:
    """Return rows by series as a batch holds them; the series ascend, too."""
    groups: dict[Series, list[Row]] = {}
    for series, row in rows:
        groups.setdefault(series, []).append(row)
    return {series: sorted(groups[series], key=_ts) for series in sorted(groups)}


class Writer:
    """Stores batches. One per process and connection."""

    def __init__(self, database: Database) -> None:
        """Write through `database`."""
        self._database = database
        self._partitions = Partitions(database)

    def write(self, batches: Sequence[Batch], answers: Sequence[Covered], origin: Origin = HISTORY) -> int:
        """Insert the rows that are not there yet and enter `answers`; return how many rows were new.

        All of it or nothing. Rows that exist are left as they are, except that a row of the metric's own interval, one
        of its history, replaces a live sample of another interval; the sample goes to perp_corrections, `superseded`.
        When and how the new rows came is recorded (store.arrivals). Raises StoreError when PostgreSQL is away.
        """
        self.make_room(
            edge.ts for batch in batches for rows in batch.rows.values() if rows for edge in (rows[0], rows[-1])
        )
        return self._database.run(lambda cursor: store_rows(cursor, batches, answers, origin))

    def make_room(self, times: Iterable[int]) -> None:
        """Make the partitions that rows of these times need."""
        times = list(times)
        if times:
            self._partitions.ensure(Window(min(times), max(times) + 1))


def store_rows(cursor: Cursor, batches: Sequence[Batch], answers: Sequence[Covered], origin: Origin = HISTORY) -> int:
    """Do what `Writer.write` does in the caller's transaction, of which it must be the last call."""
    new = [_insert(cursor, batch, origin) for batch in batches]
    coverage.lock(cursor, {series for times in new for series in times} | {answer.series for answer in answers})
    hours.mark_changed(cursor, [pair for times in new for pair in times.items()])
    if answers:
        coverage.record(cursor, answers)
    return sum(len(of_series) for times in new for of_series in times.values())


def store_block(cursor: Cursor, block: "Block", interval: str, series: Series, origin: Origin) -> int:
    """Do what `store_rows` does for the rows of a block; return how many were new.

    What is not stored yet is copied, unless rows of this interval may take the place of samples.
    """
    metric = METRICS[block.metric]
    first, last = int(block.times[0]), int(block.times[-1])
    cursor.execute(
        SQL["stored_times"], {"source": series.source, "symbol": series.symbol, "first": first, "last": last}
    )
    (stored,) = cursor.fetchone() or (None,)
    if stored is None or not _replaces_samples(metric, interval):
        block = block.without(stored or ())
        if not block:
            return 0
        key = clean_text(f"{series.symbol}\t{series.source}\t{interval}")
        cursor.execute(SQL["begin_copy"])
        try:
            _copy(cursor, "perp_data", _list_names(metric), CopyText(block.write_copy_text(key)))
        except errors.UniqueViolation:
            cursor.execute(SQL["undo_copy"])
        else:
            cursor.execute(SQL["end_copy"])
            hours.mark_changed(cursor, [(series, block.list_hours())])
            fresh = {series} if stored is None else ()
            arrivals.record(cursor, metric.name, interval, {series: block.times.tolist()}, fresh, origin)
            return len(block)
    return store_rows(cursor, [Batch(metric.name, interval, {series: list(block.values())})], [], origin)


def _insert(cursor: Cursor, batch: Batch, origin: Origin) -> Times:
    """COPY what is not stored yet straight into perp_data; where a row is, insert from aside.

    A row that another process stores at the same moment is found by the failure of the COPY. Returns the times of the
    rows that were inserted or took the place of a sample.
    """
    metric = METRICS[batch.metric]
    fresh: set[Series] = set()
    groups = _find_unknown(cursor, metric, batch, fresh)
    if not groups:
        return {}
    names = _list_names(metric)
    if not _is_any_stored(cursor, groups, metric, batch.interval):
        cursor.execute(SQL["begin_copy"])
        try:
            _copy(cursor, "perp_data", names, CopyText(write_copy_text(groups, batch.interval)))
        except errors.UniqueViolation:
            cursor.execute(SQL["undo_copy"])
        else:
            cursor.execute(SQL["end_copy"])
            new = {series: list(map(_ts, rows)) for series, rows in groups.items()}
            arrivals.record(cursor, metric.name, batch.interval, new, fresh, origin)
            return new
    cursor.execute(SQL["create_incoming"])
    cursor.execute(SQL["empty_incoming"])
    _copy(cursor, "perp_incoming", names, CopyText(write_copy_text(groups, batch.interval)))
    cursor.execute(sql.SQL(SQL["insert_incoming"]).format(columns=names))
    inserted = _fetch_keys(cursor)
    replaced = _supersede(cursor, metric) if batch.interval == metric.interval else set()
    arrivals.record(cursor, metric.name, batch.interval, _collect_times(inserted), (), origin)
    return _collect_times(inserted | replaced)


def _list_names(metric: Metric) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, (*KEY_COLUMNS, *(column.name for column in metric.columns))))


def _collect_times(rows: Iterable[tuple[Series, int]]) -> dict[Series, list[int]]:
    """Return the times of each series, ascending."""
    times: dict[Series, list[int]] = {}
    for series, ts in sorted(rows):
        times.setdefault(series, []).append(ts)
    return times


def _fetch_keys(cursor: Cursor) -> set[tuple[Series, int]]:
    return {(Series(source, symbol), ts) for source, symbol, ts in cursor.fetchall()}


def _supersede(cursor: Cursor, metric: Metric) -> set[tuple[Series, int]]:
    """Let incoming rows take the place of live samples, except for values that they lack; return which did.

    The samples are recorded, cell by cell. After the insert, which waits for rows that other transactions store.
    """
    cells = [
        sql.SQL(SQL["superseded_cell"]).format(name=sql.Literal(column.name), column=sql.Identifier(column.name))
        for column in metric.columns
    ]
    statement = sql.SQL(SQL["record_superseded"]).format(cells=sql.SQL(", ").join(cells))
    cursor.execute(statement, {"at_s": now_ms() / SECOND_MS, "first": metric.columns[0].name})
    replaced = _fetch_keys(cursor)
    if replaced:
        changes = [
            sql.SQL(SQL["prefer_incoming"]).format(column=sql.Identifier(column.name)) for column in metric.columns
        ]
        cursor.execute(sql.SQL(SQL["replace_samples"]).format(changes=sql.SQL(", ").join(changes)))
    return replaced


def _find_unknown(cursor: Cursor, metric: Metric, batch: Batch, fresh: set[Series]) -> dict[Series, Sequence[Row]]:
    """Return the rows by series, without those that are stored: they are recognised, not written again.

    Short series are not checked: they come from streams and are new, mostly. Adds to `fresh` the series of which
    no row at all is stored between the first and the last one.
    """
    replaces = _replaces_samples(metric, batch.interval)
    unknown: dict[Series, Sequence[Row]] = {}
    for series, rows in batch.rows.items():
        left = rows
        if len(rows) >= LONG:
            left = _find_unstored(cursor, series, rows, batch.interval if replaces else None)
            if not replaces and left is rows:
                fresh.add(series)
        if left:
            unknown[series] = left
    return unknown


def _replaces_samples(metric: Metric, interval: str) -> bool:
    """Return whether rows of an interval take the place of live samples."""
    return metric.instant is Instant.MOMENT and interval == metric.interval


def _is_any_stored(cursor: Cursor, groups: Mapping[Series, Sequence[Row]], metric: Metric, interval: str) -> bool:
    """Return whether any of these rows is stored, or a live sample is where rows of a long series take its place.

    Of other rows of long series `_find_unknown` has found that they are not stored.
    """
    keys = [(*series, row.ts) for series, rows in groups.items() if len(rows) < LONG for row in rows]
    if keys:
        sources, symbols, times = map(list, zip(*keys, strict=True))
        values = {"sources": sources, "symbols": list(map(clean_text, symbols)), "times": times}
        cursor.execute(SQL["is_any_stored"], values)
        if cursor.fetchone() == (True,):
            return True
    for series, rows in groups.items() if _replaces_samples(metric, interval) else ():
        if len(rows) >= LONG:
            cursor.execute(SQL["is_sampled"], {**_find_span(series, rows), "interval": interval})
            if cursor.fetchone() == (True,):
                return True
    return False


def _find_span(series: Series, rows: Sequence[Row]) -> dict[str, object]:
    """Return the values of a statement about the stored rows between the first and the last of a series."""
    return {"source": series.source, "symbol": series.symbol, "first": rows[0].ts, "last": rows[-1].ts}


def _find_unstored(cursor: Cursor, series: Series, rows: Sequence[Row], interval: str | None) -> Sequence[Row]:
    """Return the rows of a series at whose times none is stored, or none of `interval`; the same list where none is.

    Without an interval only the primary key is read.
    """
    name = "stored_times_of_interval" if interval else "stored_times"
    cursor.execute(SQL[name], {**_find_span(series, rows), "interval": interval})
    (stored,) = cursor.fetchone() or (None,)
    if stored is None:
        return rows
    if stored == list(map(_ts, rows)):
        return []
    stored_times = set(stored)
    return [row for row in rows if row.ts not in stored_times]


def _copy(cursor: Cursor, table: str, names: sql.Composable, text: "CopyText") -> None:
    # None is what Python writes for no value
    statement = sql.SQL(SQL["copy"]).format(table=sql.Identifier(table), columns=names)
    cursor.copy_expert(statement, text)  # type: ignore[arg-type]  # the stubs know text from TextIO only


class CopyText:
    """Rows in PostgreSQL's COPY text format, columns as in KEY_COLUMNS and the metric.

    A file to read from: the text is made piece by piece, so PostgreSQL works on one piece while the next is written.
    """

    def __init__(self, pieces: Iterator[str] | Iterator[bytes]) -> None:
        """Begin before the first of `pieces`."""
        self._pieces = pieces

    def read(self, size: int = -1) -> str | bytes:
        """Return the next piece, of any size; one of no length at the end."""
        return next(self._pieces, "")


def write_copy_text(groups: Mapping[Series, Sequence[Row]], interval: str) -> Iterator[str]:
    """Yield rows of one metric in PostgreSQL's COPY text format."""
    for (source, symbol), rows in groups.items():
        key = clean_text(f"{symbol}\t{source}\t{interval}").replace("%", "%%")
        line = "\t".join(["%s", key, *["%s"] * (len(rows[0]) - 1)]) + "\n"
        for at in range(0, len(rows), CHUNK_ROWS):
            yield "".join(map(line.__mod__, rows[at : at + CHUNK_ROWS]))
