"""Records when rows came, so that a question "as of" can leave out what this database did not hold then.

What comes live is recorded per source and minute: the greatest lag over all symbols, an upper bound. What is fetched
later is recorded by series, one row per run of rows that came together.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Window, floor_to, now_ms, split
from fademoe.metrics import INTERVALS_MS, METRICS
from fademoe.store.coverage import Series
from fademoe.store.queries import load_queries

LONGEST_MS = 31 * DAY_MS  # of one row of perp_arrivals: a reader looks no further back for one that covers a ts
STRAGGLER_MS = 30 * SECOND_MS  # a live row so much later than the others of its minute is recorded by name
MAX_LAG_MS = 2**31 - 1  # of an INT
MINUTES = HOUR_MS // MINUTE_MS

SQL = load_queries("arrivals")

Times = Mapping[Series, Sequence[int]]  # the ts of rows, ascending


class Way(StrEnum):
    """How rows came."""

    LIVE = "live"  # a stream or a poll
    HISTORY = "history"  # a request for a window
    AUDIT = "audit"
    ARCHIVE = "archive"  # a file
    BEFORE = "before"  # stored before arrivals were recorded


class Origin(NamedTuple):
    """How rows came; `file_id` of an archive: perp_files.id; `known_from_ms`: when storing began, None: now."""

    way: Way = Way.HISTORY
    file_id: int | None = None
    known_from_ms: int | None = None


HISTORY = Origin()
LIVE = Origin(Way.LIVE)


def record(cursor: Cursor, metric: str, interval: str, new: Times, fresh: Iterable[Series], origin: Origin) -> None:
    """Record that the rows of `new` were stored just now, in the transaction that stored them.

    `fresh`: series of which no other row lies between the first and the last new one.
    """
    if origin.way is Way.LIVE:
        _record_minutes(cursor, metric, interval, new)
        return
    whole = set(fresh)
    for series, times in new.items():
        others = [] if series in whole or len(times) < 2 else _find_others(cursor, series, times)
        record_windows(cursor, series, _group(times, others), origin)


def record_windows(cursor: Cursor, series: Series, windows: Iterable[Window], origin: Origin) -> None:
    """Record that the rows of a series in `windows` were stored until now; a window holds no row that came before."""
    known_to_ms = now_ms()
    known_from_ms = known_to_ms if origin.known_from_ms is None else origin.known_from_ms
    rows = [
        (*series, *part, origin.way.value, known_from_ms, known_to_ms, origin.file_id)
        for window in windows
        for part in split(window, LONGEST_MS)
    ]
    if rows:
        execute_values(cursor, SQL["record_windows"], rows)


def find_files(cursor: Cursor, series: Series, times: Iterable[int]) -> dict[int, int]:
    """Return by time the file (perp_files.id) of each stored row that is from one and was not corrected over REST."""
    values = {"source": series.source, "symbol": series.symbol, "times": sorted(times), "longest": LONGEST_MS}
    cursor.execute(SQL["files"], values)
    return {ts: file_id for ts, file_id in cursor.fetchall() if file_id is not None}


def forget_before(cursor: Cursor, edge_ms: int) -> None:
    """Delete what is recorded of rows before a time, all of which are deleted themselves."""
    cursor.execute(SQL["forget_windows"], {"edge_ms": edge_ms})
    cursor.execute(SQL["forget_minutes"], {"edge_ms": edge_ms})


def _find_others(cursor: Cursor, series: Series, times: Sequence[int]) -> list[int]:
    """Return the stored times between the first and the last of `times` that are none of them, ascending."""
    values = {"source": series.source, "symbol": series.symbol, "first": times[0], "last": times[-1]}
    cursor.execute(SQL["stored_times"], values)
    return sorted({ts for (ts,) in cursor.fetchall()} - set(times))


def _group(times: Sequence[int], others: Sequence[int]) -> list[Window]:
    """Return windows that hold all of `times` and none of `others`; both are ascending."""
    if times and not others:
        return [Window(times[0], times[-1] + 1)]
    windows: list[Window] = []
    place = 0
    for ts in times:
        is_cut = False
        while place < len(others) and others[place] < ts:
            is_cut = True
            place += 1
        if windows and not is_cut:
            windows[-1] = Window(windows[-1].start_ms, ts + 1)
        else:
            windows.append(Window(ts, ts + 1))
    return windows


def _record_minutes(cursor: Cursor, metric: str, interval: str, new: Times) -> None:
    """Enter the lag of live rows in perp_minutes; rows far later than others of their minute, by name."""
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for series, times in new.items():
        for ts in times:
            counts[series.source, ts] += 1
    if not counts:
        return
    at_ms = now_ms()
    lags = {
        (source, ts): at_ms - METRICS[metric].compute_final_ms(ts, INTERVALS_MS.get(interval, 0))
        for source, ts in counts
    }
    known = _read_lags(cursor, counts)
    late = {key for key, lag in lags.items() if lag > min(known.get(key, lag) + STRAGGLER_MS, MAX_LAG_MS)}
    hours: dict[tuple[str, int], tuple[list[int | None], list[int | None]]] = {}
    for (source, ts), count in counts.items():
        if (source, ts) not in late:
            hour_ms = floor_to(ts, HOUR_MS)
            last_lag, rows = hours.setdefault((source, hour_ms), ([None] * MINUTES, [None] * MINUTES))
            last_lag[(ts - hour_ms) // MINUTE_MS] = max(lags[source, ts], -MAX_LAG_MS)
            rows[(ts - hour_ms) // MINUTE_MS] = count
    if hours:
        execute_values(
            cursor,
            SQL["record_minutes"],
            [(*key, *hours[key]) for key in sorted(hours)],
            "(%s, %s, %s::int[], %s::smallint[])",
        )
    for series, times in new.items():
        stragglers = [Window(ts, ts + 1) for ts in times if (series.source, ts) in late]
        record_windows(cursor, series, stragglers, LIVE)


def _read_lags(cursor: Cursor, keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Return what is recorded of the lags of sources and times."""
    values = {
        "sources": sorted({source for source, _ in keys}),
        "hours": sorted({floor_to(ts, HOUR_MS) for _, ts in keys}),
    }
    cursor.execute(SQL["hours"], values)
    return {
        (source, hour_ms + place * MINUTE_MS): lag
        for source, hour_ms, last_lag in cursor.fetchall()
        for place, lag in enumerate(last_lag)
        if lag is not None
    }
