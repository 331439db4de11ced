"""Waits for a backfill with a progress bar, then sums it up by perpspec."""

from collections.abc import Mapping, Sequence

from psycopg2.extensions import cursor as Cursor
from tqdm import tqdm

from fademoe.clock import MINUTE_MS, Window, monotonic_s
from fademoe.errors import StoreError
from fademoe.feeds import registry
from fademoe.feeds.exchange import Exchange
from fademoe.queue import jobs as queues
from fademoe.queue.jobs import LIVE, Task
from fademoe.runtime.context import Context
from fademoe.store import coverage
from fademoe.store.coverage import Series

LOOK_S = 1.0
MOST_ERRORS = 20
IDLE_S = 180.0  # nothing left in the queues and nothing covered for so long: what is missing will not come


def wait_until_covered(context: Context, asked: Mapping[Series, Window], exchanges: Sequence[Exchange]) -> bool:
    """Show progress until every asked range is covered, or only failed windows are left; return whether it is complete.

    A PostgreSQL or Redis that goes away meanwhile is waited for.
    """
    total = sum(window.end_ms - window.start_ms for window in asked.values()) // MINUTE_MS
    names = [*(exchange.name for exchange in exchanges), LIVE]
    moved_s, before = monotonic_s(), -1
    with tqdm(total=total, unit="min", unit_scale=True, dynamic_ncols=True, smoothing=0.1) as bar:
        while True:
            try:
                left = _missing(context, asked)
                resting = {task.series for task in queues.failed(context.redis, names)}
            except StoreError:
                context.stop.wait(LOOK_S)
                continue
            missing = sum(w.end_ms - w.start_ms for gaps in left.values() for w in gaps) // MINUTE_MS
            bar.n = total - missing
            bar.refresh()
            if missing != before:
                moved_s, before = monotonic_s(), missing
            only_failed = bool(left) and all(series in resting for series in left)
            if not left or (only_failed and not _under_way(context, left, names)) or monotonic_s() - moved_s > IDLE_S:
                break
            context.stop.wait(LOOK_S)
    _print_summary(context, asked, left)
    return not left


def _missing(context: Context, asked: Mapping[Series, Window]) -> dict[Series, list[Window]]:
    with context.database.transaction() as cursor:
        found = {series: coverage.missing(cursor, series, window) for series, window in asked.items()}
    return {series: gaps for series, gaps in found.items() if gaps}


def _under_way(context: Context, left: Mapping[Series, list[Window]], names: Sequence[str]) -> bool:
    """Return whether any window of the incomplete series still waits or runs."""
    taken = queues.taken(context.redis, names)
    tasks = [Task(series, window) for series in left for window in taken.get(series, ())]
    return any(queues.is_waiting(context.redis, task) for task in tasks)


def _print_summary(context: Context, asked: Mapping[Series, Window], left: Mapping[Series, list[Window]]) -> None:
    """Print rows stored, rows absent upstream, rows missing, and series in error, per perpspec."""
    print(f"{'perpspec':<14}{'series':>8}{'rows':>12}{'absent':>10}{'missing':>10}{'errors':>8}")
    errors: list[str] = []
    with context.database.transaction() as cursor:
        for source in dict.fromkeys(series.source for series in asked):
            mine = {series: window for series, window in asked.items() if series.source == source}
            exchange, _, metric = registry.by_source(source)
            feed = exchange.rest_feed(metric)
            step_ms = feed.interval_ms if feed else MINUTE_MS
            rows = sum(_rows(cursor, series, window) for series, window in mine.items())
            absent = sum(coverage.absent_ms(cursor, series, window) for series, window in mine.items()) // step_ms
            missing = sum(gap.end_ms - gap.start_ms for series in mine for gap in left.get(series, ())) // step_ms
            wrong = _errors(cursor, list(mine))
            errors += wrong
            print(f"{source:<14}{len(mine):>8}{rows:>12,}{absent:>10,}{missing:>10,}{len(wrong):>8}")
    for line in errors[:MOST_ERRORS]:
        print(line)


def _rows(cursor: Cursor, series: Series, window: Window) -> int:
    cursor.execute(
        "SELECT count(*) FROM perp_data WHERE source = %s AND symbol = %s AND ts >= %s AND ts < %s", (*series, *window)
    )
    return int((cursor.fetchone() or (0,))[0])


def _errors(cursor: Cursor, series: list[Series]) -> list[str]:
    cursor.execute(
        "SELECT source, symbol, message FROM perp_status WHERE kind = 'backfill' AND state = 'error'"
        " AND source = %s AND symbol = ANY(%s) ORDER BY symbol",
        (series[0].source, [symbol for _, symbol in series]),
    )
    return [f"error: {source} {symbol}: {message}" for source, symbol, message in cursor.fetchall()]
