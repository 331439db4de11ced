"""Rows that are completed by the time of the row before, when that one is stored after them."""

from collections.abc import Sequence
from functools import partial

from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window
from fademoe.feeds.history import RestFeed
from fademoe.metrics import METRICS
from fademoe.store import corrections, coverage
from fademoe.store.connection import Database
from fademoe.store.coverage import Series


def link_following(database: Database, feed: RestFeed, series: Series, windows: Sequence[Window]) -> None:
    """Complete the row that follows each window in which rows were stored by the one before it.

    What changes is recorded as a correction. A row stays as it is where nothing was stored before it, or something
    between the two is missing or absent.
    """
    if feed.link is not None and windows:
        database.run(partial(_link, feed, series, windows))


def _link(feed: RestFeed, series: Series, windows: Sequence[Window], cursor: Cursor) -> None:
    for window in windows:
        times = corrections.find_neighbours(cursor, series, window.end_ms)
        if times is None or not coverage.is_whole(cursor, series, Window(*times)):
            continue
        before_ms, ts = times
        stored = corrections.read_stored_rows(cursor, series, feed.metric, feed.interval, [Window(ts, ts + 1)])
        rows = {at: METRICS[feed.metric].row_type._make((at, *values)) for at, values in stored.items()}
        linked = {at: feed.link(row, before_ms) for at, row in rows.items()} if feed.link else {}
        changes = corrections.find_differences(feed.metric, stored, linked)
        corrections.correct(cursor, series, feed.interval, changes)
