"""Reads rows, coverage, corrections and late arrivals for the evaluation of expressions."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import groupby, pairwise
from operator import itemgetter
from typing import NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from fademoe.clock import MINUTE_MS, Window, ceil_to, floor_to
from fademoe.evaluation.tables import Long, PointTable, SettlementTable, Table, Values
from fademoe.store.derived import find_derived, make_relation
from fademoe.store.queries import load_queries
from fademoe.store.read.past import build_before

SQL = load_queries("evaluation")
SUPERSEDED = "superseded"  # the reason of a correction: the row of the history took the place of a live sample
BEFORE_ALL, NEVER = 0, 2**62
RANGES = ((False, "perp_coverage"), (True, "perp_ranges"))  # where coverage stands, of what is derived and what is not

Wanted = Mapping[str, Window]  # symbol -> range of ts
Key = tuple[str, int]  # symbol and ts


class StoredRow(NamedTuple):
    """A row as it is stored; `values` are those of the table's columns."""

    symbol: str
    ts: int
    interval: str
    values: Values


class Version(NamedTuple):
    """What a row was from `seen_ms` on, as readers knew it from `known_ms` on. No values: it was not there.

    `is_sample_replaced`: the row of the history took the place of a live sample then. `is_first`: none was before it.
    """

    symbol: str
    ts: int
    known_ms: int
    seen_ms: int
    values: Values | None
    is_sample_replaced: bool = False
    is_first: bool = True


class Change(NamedTuple):
    """A change of a row: from when on live evaluation saw it; see `Version`."""

    seen_ms: int
    is_sample_replaced: bool


class Contract(NamedTuple):
    """One life of a contract: its first and last minute, None without; `is_followed`: some series of it is wanted."""

    code: str
    symbol: str
    listed_ms: int | None
    delisted_ms: int | None
    is_followed: bool

    def is_listed(self, minute: int) -> bool:
        """Return whether it is listed in a minute."""
        begins = floor_to(self.listed_ms, MINUTE_MS) if self.listed_ms is not None else minute
        return begins <= minute and (self.delisted_ms is None or minute < floor_to(self.delisted_ms, MINUTE_MS))


def read_rows(cursor: Cursor, table: Table, wanted: Wanted) -> list[StoredRow]:
    """Return the stored rows of a table within the range of each symbol."""
    if not wanted:
        return []
    columns = sql.SQL(", ").join(
        sql.SQL(SQL["value"]).format(column=sql.Identifier(column)) for column in table.columns
    )
    relation = make_relation(table.source)
    cursor.execute(sql.SQL(SQL["rows"]).format(columns=columns, relation=relation), _ranges(table, wanted))
    return [StoredRow(symbol, ts, interval, values) for symbol, ts, interval, *values in cursor.fetchall()]


def read_long(cursor: Cursor, table: PointTable, wanted: Wanted) -> dict[str, Window]:
    """Enter all stored rows of symbols that have none yet; return the ranges of those that have to be read one by one.

    A value that has more digits than a float holds is one of these.
    """
    columns = sql.SQL(", ").join(
        sql.SQL(SQL["long_column"]).format(column=sql.Identifier(column)) for column in table.columns
    )
    query = sql.SQL(SQL["long"]).format(columns=columns, relation=make_relation(table.source))
    cursor.execute(query, _ranges(table, wanted))
    left: dict[str, Window] = {}
    for symbol, times, *found in cursor.fetchall():
        series = [Long(*found[at : at + 3]) for at in range(0, len(found), 3)]
        if times and not table.put_long(symbol, times, series):
            left[symbol] = wanted[symbol]
    return left


def read_changed(
    cursor: Cursor, table: Table, symbols: Sequence[str], window: Window, seen_ms: int
) -> dict[str, Window]:
    """Return, by symbol, from the first to the last row of a window that was another, or none, at `seen_ms`."""
    about = {"sources": _list_sources(table), "symbols": list(symbols), "seen": seen_ms}
    cursor.execute(SQL["changed_since"], {**about, "start": window.start_ms - table.reach_ms, "end": window.end_ms})
    return {
        symbol: Window(max(first, window.start_ms), min(last + 1 + table.reach_ms, window.end_ms))
        for symbol, first, last in cursor.fetchall()
    }


def _list_sources(table: Table) -> list[str]:
    """Return the sources under which stands what became of the rows of a table: its own and those of its inputs."""
    return list(dict.fromkeys((table.source, *table.inputs)))


def read_covered(cursor: Cursor, table: Table, wanted: Wanted) -> dict[str, list[Window]]:
    """Return what was answered of each symbol within its range, without what is absent."""
    if not wanted:
        return {}
    cursor.execute(sql.SQL(SQL["covered"]).format(ranges=_coverage_of(table)), _ranges(table, wanted))
    return {
        symbol: [Window(start, end) for _, start, end in group]
        for symbol, group in groupby(cursor.fetchall(), itemgetter(0))
    }


def _coverage_of(table: Table) -> sql.Composable:
    """Return where the coverage of a source stands: that of derived ones is computed."""
    return sql.Identifier(dict(RANGES)[table.is_derived])


def _ranges(table: Table, wanted: Wanted) -> dict[str, object]:
    return {
        "source": table.source,
        "symbols": list(wanted),
        "starts": [window.start_ms for window in wanted.values()],
        "ends": [window.end_ms for window in wanted.values()],
    }


def read_uncovered(cursor: Cursor, points: Sequence[tuple[str, str, int]]) -> list[tuple[str, str]]:
    """Return the (source, symbol) of (source, symbol, ts) that were not answered yet."""
    found: list[tuple[str, str]] = []
    for is_derived, relation in RANGES:
        some = [point for point in points if (find_derived(point[0]) is not None) == is_derived]
        if some:
            sources, symbols, times = (list(part) for part in zip(*some, strict=True))
            query = sql.SQL(SQL["uncovered"]).format(ranges=sql.Identifier(relation))
            cursor.execute(query, {"sources": sources, "symbols": symbols, "points": times})
            found += cursor.fetchall()
    return found


def read_contracts(cursor: Cursor, codes: Iterable[str]) -> list[Contract]:
    """Return the contracts of codes, by code and symbol."""
    cursor.execute(SQL["listings"], {"codes": sorted(codes)})
    return [Contract(*row) for row in cursor.fetchall()]


def record_late(cursor: Cursor, late: Iterable[tuple[str, str, int, int]]) -> None:
    """Record rows that came later than a minute that should have read them: (source, symbol, ts, arrived_ms)."""
    rows = sorted(set(late))
    if rows:
        execute_values(cursor, SQL["add_late"], rows)
        sources, symbols, times, _ = (list(part) for part in zip(*rows, strict=True))
        cursor.execute(SQL["drop_unseen"], {"sources": sources, "symbols": symbols, "times": times})


def record_unseen(cursor: Cursor, points: Iterable[tuple[str, str, int]]) -> None:
    """Record points that a minute should have read and that are not there: (source, symbol, ts)."""
    rows = sorted(set(points))
    for is_derived, relation in RANGES:
        some = [row for row in rows if (find_derived(row[0]) is not None) == is_derived]
        if some:
            query = sql.SQL(SQL["add_unseen"]).format(ranges=sql.Identifier(relation))
            execute_values(cursor, query, some, "(%s, %s, %s::bigint)")


def read_unseen(cursor: Cursor, table: Table) -> set[tuple[str, int]]:
    """Return the (symbol, ts) of a table that minutes should have read and that had not come, or an input had not."""
    cursor.execute(SQL["unseen"], {"sources": _list_sources(table)})
    found: set[tuple[str, int]] = set()
    for source, symbol, ts in cursor.fetchall():
        affected = [ts] if source == table.source else table.list_affected(ts, None)
        found.update((symbol, own_ts) for own_ts in affected)
    return found


def forget_unseen(cursor: Cursor, before_ms: int) -> None:
    """Look no longer for points before a time."""
    cursor.execute(SQL["forget_unseen"], {"before": before_ms})


def read_versions(cursor: Cursor, table: Table, symbols: Sequence[str], window: Window) -> list[Version]:
    """Return every version of the rows of a window, by row, the oldest first: what live evaluation saw when.

    A row that came late is seen from when it arrived; a corrected one was another before; a covered minute without a
    row is 0 where the metric says so.
    """
    wanted = dict.fromkeys(symbols, window)
    rows = read_rows(cursor, table, wanted)
    read = _read_computed if table.is_derived else _read_stored
    versions, first_seen = read(cursor, table, rows, symbols, window)
    if isinstance(table, PointTable) and table.zero_when_empty:
        stored = {(row.symbol, row.ts) for row in rows}
        zeroes = [Decimal(0)] * len(table.columns)
        for symbol, windows in read_covered(cursor, table, wanted).items():
            for piece in windows:
                for ts in range(
                    ceil_to(piece.start_ms, table.grid_ms), piece.end_ms - table.grid_ms + 1, table.grid_ms
                ):
                    if (symbol, ts) not in stored:
                        seen_ms = first_seen.get((symbol, ts), BEFORE_ALL)
                        known_ms = table.lags.compute_known_ms(ts, "")
                        versions.append(Version(symbol, ts, known_ms, seen_ms, zeroes))
    return versions


def _read_stored(
    cursor: Cursor, table: Table, rows: Sequence[StoredRow], symbols: Sequence[str], window: Window
) -> tuple[list[Version], dict[Key, int]]:
    """Return the versions of stored rows, and when points that came late were seen first."""
    about = _describe(table, symbols, window)
    late: dict[Key, list[int]] = defaultdict(list)
    for (_, symbol, ts), arrived in _read_late(cursor, about).items():
        late[symbol, ts] = arrived
    for key in read_unseen(cursor, table):
        late[key] = late.get(key) or [NEVER]
    arrivals = _read_arrivals(cursor, about)
    cursor.execute(SQL["corrections"], about)
    corrections = {key: list(group) for key, group in groupby(cursor.fetchall(), itemgetter(1, 2))}
    versions: list[Version] = []
    for row in rows:
        key = (row.symbol, row.ts)
        if key not in late:
            came_ms = _find_arrival(arrivals.get((table.source, row.symbol), ()), row.ts)
            if came_ms > row.ts:
                late[key].append(came_ms)
        versions += _unroll(table, row, corrections.get(key, ()), late.get(key, ()))
    return versions, {key: arrived[0] for key, arrived in late.items() if arrived}


def _read_computed(
    cursor: Cursor, table: Table, rows: Sequence[StoredRow], symbols: Sequence[str], window: Window
) -> tuple[list[Version], dict[Key, int]]:
    """Return the versions of computed rows, which change with their inputs, and when they were seen first.

    It is recorded under their own name which of them live evaluation saw late, under that of the input which of its
    rows it saw late, before or after they were changed.
    """
    about = _describe(table, symbols, window)
    late = _read_late(cursor, about)
    times: dict[str, list[int]] = defaultdict(list)
    for symbol, ts in sorted((row.symbol, row.ts) for row in rows):
        times[symbol].append(ts)
    changes: dict[Key, dict[int, Change]] = defaultdict(dict)
    first_seen: dict[Key, int] = defaultdict(int)
    cursor.execute(SQL["corrections"], about)
    found = {key: list(group) for key, group in groupby(cursor.fetchall(), itemgetter(0, 1, 2))}
    for source, symbol, ts in {**late, **found}:
        if source not in table.inputs:
            continue
        came_ms, changed = _list_changes(found.get((source, symbol, ts), ()), late.get((source, symbol, ts), ()))
        index = bisect_right(times[symbol], ts)
        following = times[symbol][index] if index < len(times[symbol]) else None
        for own_ts in table.list_affected(ts, following):
            key = (symbol, own_ts)
            first_seen[key] = max(first_seen[key], came_ms)
            for at_ms, change in changed.items():
                other = changes[key].get(at_ms, change)
                is_replaced = change.is_sample_replaced or other.is_sample_replaced
                changes[key][at_ms] = Change(max(change.seen_ms, other.seen_ms), is_replaced)
    arrivals = _read_arrivals(cursor, about)
    shifts_ms = table.list_affected(0, None)
    for row in rows:
        came = (_find_arrival(arrivals.get((i, row.symbol), ()), row.ts - s) for i in table.inputs for s in shifts_ms)
        came_ms = max(came, default=0)
        if came_ms > row.ts:
            first_seen[row.symbol, row.ts] = max(first_seen[row.symbol, row.ts], came_ms)
    first_seen |= dict.fromkeys(read_unseen(cursor, table), NEVER)
    first_seen |= {(symbol, ts): arrived[0] for (source, symbol, ts), arrived in late.items() if source == table.source}
    before = read_before(cursor, table, [(*row[:2], at_ms) for row in rows for at_ms in changes.get(row[:2], ())])
    versions: list[Version] = []
    for row in rows:
        versions += _unroll_computed(table, row, changes.get(row[:2], {}), before, first_seen.get(row[:2], BEFORE_ALL))
    return versions, first_seen


def _list_changes(corrections: Iterable[tuple[object, ...]], late: Sequence[int]) -> tuple[int, dict[int, Change]]:
    """Return when a row was seen first (0: in time), and its changes by their time."""
    replaced: dict[int, bool] = {}
    for *_, reason, old_interval, at_ms in corrections:
        is_replaced = reason == SUPERSEDED and bool(old_interval)
        replaced[int(at_ms)] = is_replaced or replaced.get(int(at_ms), False)  # type: ignore[call-overload]
    ends = [*sorted(replaced), NEVER]
    came_ms = next((ms for ms in late if ms < ends[0]), 0)
    changes = {}
    for at_ms, next_ms in pairwise(ends):
        seen_ms = next((ms for ms in late if at_ms <= ms < next_ms), at_ms)
        changes[at_ms] = Change(seen_ms, replaced[at_ms])
    return came_ms, changes


def read_before(
    cursor: Cursor, table: Table, wanted: Sequence[tuple[str, int, int]]
) -> dict[tuple[str, int, int], StoredRow]:
    """Return computed rows as they were before a time: (symbol, ts, time) -> row, none where it was not there."""
    if not wanted:
        return {}
    columns = sql.SQL(", ").join(
        sql.SQL(SQL["value"]).format(column=sql.Identifier(column)) for column in table.columns
    )
    first = sql.SQL("wanted.ts - {}").format(sql.Literal(table.reach_ms))
    places = (sql.SQL("wanted.at_ms"), first, sql.SQL("wanted.ts"))
    relation = make_relation(table.source, lambda metric: build_before(metric, *places))
    symbols, times, before = (list(part) for part in zip(*wanted, strict=True))
    cursor.execute(
        sql.SQL(SQL["rows_before"]).format(columns=columns, relation=relation),
        {"source": table.source, "symbols": symbols, "times": times, "before": before},
    )
    return {
        (symbol, ts, at_ms): StoredRow(symbol, ts, interval, values)
        for symbol, ts, at_ms, interval, *values in cursor.fetchall()
    }


def _unroll_computed(
    table: Table,
    row: StoredRow,
    changes: Mapping[int, Change],
    before: Mapping[tuple[str, int, int], StoredRow],
    first_seen_ms: int,
) -> list[Version]:
    """Return the versions of a computed row. Versions that had ended when the row was seen first are left out."""
    versions: list[Version] = []
    known_ms = None
    begin = Change(BEFORE_ALL, is_sample_replaced=False)
    for end_ms in (*sorted(changes), None):
        was = row if end_ms is None else before.get((row.symbol, row.ts, end_ms))
        if was is not None:
            own_ms = table.lags.compute_known_ms(row.ts, was.interval)
            known_ms = own_ms if known_ms is None else min(known_ms, own_ms)
            if end_ms is None or end_ms > first_seen_ms:
                seen_ms = max(begin.seen_ms, first_seen_ms)
                is_first = not versions
                version = Version(row.symbol, row.ts, known_ms, seen_ms, was.values, begin.is_sample_replaced, is_first)
                versions.append(version)
        if end_ms is not None:
            begin = changes[end_ms]
    return versions


def _unroll(
    table: Table, row: StoredRow, corrections: Sequence[tuple[object, ...]], late: Sequence[int]
) -> list[Version]:
    """Return the versions of one row, from its corrections, the newest of which comes first."""
    interval, values = row.interval, list(row.values)
    found: list[tuple[int, str, Values | None, bool]] = []  # from when on, newest first
    for at_ms, group in groupby(corrections, itemgetter(7)):
        before: list[Decimal | None] | None = list(values)
        older, is_replaced = interval, False
        for *_, column, old_value, reason, old_interval, _ in group:
            if not column:
                before = None
            elif before is not None and column in table.columns:
                before[table.columns.index(column)] = old_value  # type: ignore[call-overload]
            if reason == SUPERSEDED and old_interval:
                older, is_replaced = str(old_interval), True
        found.append((int(at_ms), interval, tuple(values), is_replaced))
        interval = older
        if before is None:
            values = []
            break
        values = before
    if values:
        found.append((BEFORE_ALL, interval, tuple(values), False))
    versions: list[Version] = []
    known_ms = None
    for index, (at_ms, of_interval, of_values, is_replaced) in enumerate(reversed(found)):
        next_ms = found[len(found) - index - 2][0] if index + 1 < len(found) else None
        arrived = [ms for ms in late if ms >= at_ms and (next_ms is None or ms < next_ms or ms == NEVER)]
        own_ms = table.lags.compute_known_ms(row.ts, of_interval)
        known_ms = own_ms if known_ms is None else min(known_ms, own_ms)
        seen_ms = arrived[0] if arrived else at_ms
        versions.append(Version(row.symbol, row.ts, known_ms, seen_ms, of_values, is_replaced, index == 0))
    return versions


def read_settled(cursor: Cursor, table: SettlementTable, wanted: Wanted) -> None:
    """Enter what is covered of settlements."""
    for symbol, windows in read_covered(cursor, table, wanted).items():
        table.covered[table.rows[symbol]] = windows


def _describe(table: Table, symbols: Sequence[str], window: Window) -> dict[str, object]:
    """Return the sources, symbols and ts of which it is read what became of the rows of a window."""
    start_ms = window.start_ms - table.reach_ms
    return {"sources": _list_sources(table), "symbols": list(symbols), "start": start_ms, "end": window.end_ms}


def _read_late(cursor: Cursor, about: Mapping[str, object]) -> dict[tuple[str, str, int], list[int]]:
    """Return when rows arrived that live evaluation saw late, by (source, symbol, ts)."""
    cursor.execute(SQL["late"], about)
    found: dict[tuple[str, str, int], list[int]] = defaultdict(list)
    for source, symbol, ts, arrived_ms in cursor.fetchall():
        found[source, symbol, ts].append(arrived_ms)
    return found


def _read_arrivals(cursor: Cursor, about: Mapping[str, object]) -> dict[tuple[str, str], list[tuple[int, int, int]]]:
    """Return, by (source, symbol), the ranges of which rows came together: (start, end, not before when), all in ms."""
    cursor.execute(SQL["arrivals"], about)
    found: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    for source, symbol, start_ms, end_ms, known_from_ms in cursor.fetchall():
        found[source, symbol].append((start_ms, end_ms, known_from_ms))
    return found


def _find_arrival(arrivals: Iterable[tuple[int, int, int]], ts: int) -> int:
    """Return when the row of `ts` came at the earliest, 0 where that is not recorded."""
    return max((ms for start, end, ms in arrivals if start <= ts < end), default=0)


def find_newest_correction(cursor: Cursor) -> int:
    """Return the id of the newest correction, 0 without any."""
    cursor.execute(SQL["newest_correction"])
    return int((cursor.fetchone() or (0,))[0])


def read_corrections(
    cursor: Cursor, sources: Sequence[str], after: int
) -> list[tuple[int, str, str, int, str, str | None, int]]:
    """Return corrections with an id above `after`: id, source, symbol, ts, reason, old interval, at in ms."""
    cursor.execute(SQL["corrections_since"], {"sources": list(sources), "after": after})
    return cursor.fetchall()
