"""Makes one row a minute of samples, events or running bars: the last sample, the exact sum, the last state.

A minute becomes a row only when it is over by the exchange's clock, the connection was alive after its end, and it
was watched: to its end for a last sample or state, from its first moment for a sum. What was not watched so is left
missing, never guessed. A bar is final, too, as soon as the next one has come. An event that comes when the sum of its
minute is stored makes a new sum.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from fademoe.clock import MINUTE_MS, SECOND_MS, floor_to
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.stream import Reduce, StreamFeed
from fademoe.metrics import METRICS, Row
from fademoe.store.coverage import Series

GRACE_MS = 5 * SECOND_MS  # exchanges send events up to a second and a half late
LATEST_MS = 15 * MINUTE_MS  # mostly: an event was seen eight minutes late


class Route(NamedTuple):
    """Where the messages of an instrument on a topic go."""

    feed: StreamFeed
    series: Series
    instrument: Instrument


class Item(NamedTuple):
    """A final row of a series; without a row: the interval at `ts` was watched and nothing happened.

    `is_late`: events came after the interval was closed; this row takes the place of the one before.
    """

    feed: StreamFeed
    series: Series
    ts: int
    row: Row | None
    is_late: bool = False


@dataclass
class _Minute:
    """What came in one interval of one series: (order of arrival, row)."""

    route: Route
    ts: int
    rows: list[Row] = field(default_factory=list)


class Minutes:
    """The open minutes of one connection; used by its thread only."""

    def __init__(self, routes: list[Route]) -> None:
        """Watch for `routes`, all but those of Reduce.CLOSED."""
        self._sums = [route for route in routes if route.feed.reduce is Reduce.SUM]
        self._open: dict[tuple[Series, int], _Minute] = {}
        self._next_sum_ms: int | None = None
        self._spoiled: set[tuple[Series, int]] = set()  # sums of which a part could not be read
        self._refused: set[Series] = set()  # sums that the exchange does not send in this session
        self._closed: dict[tuple[Series, int], _Minute] = {}  # the sums of the last minutes
        self._changed: dict[tuple[Series, int], _Minute] = {}  # those of them that events came late for
        self._newest_bar_ms: dict[Series, int] = {}
        self.unwatched = 0  # events of minutes that were not watched

    def watch_from(self, exchange_ms: int | None) -> None:
        """Note since when the subscriptions of events hold; None: the connection is gone, with every open minute."""
        self._next_sum_ms = None
        if exchange_ms is None:
            self._open.clear()
            self._spoiled.clear()
            self._refused.clear()
            self._newest_bar_ms.clear()
            return
        for key in [key for key, minute in self._open.items() if minute.route.feed.reduce is Reduce.SUM]:
            del self._open[key]
        if self._sums:
            step_ms = self._sums[0].feed.interval_ms
            self._next_sum_ms = floor_to(exchange_ms + step_ms - 1, step_ms)

    def add(self, route: Route, row: Row) -> None:
        """Sort a sample or an event, whose ts is its own time, or the state of a bar into its minute."""
        if route.feed.reduce is Reduce.BAR:
            self._set_bar(route, row)
            return
        ts = METRICS[route.feed.metric].stamp(row.ts, route.feed.interval_ms)
        if route.feed.reduce is Reduce.SUM and (self._next_sum_ms is None or ts < self._next_sum_ms):
            self._add_late((route.series, ts), row)
            return
        self._open.setdefault((route.series, ts), _Minute(route, ts)).rows.append(row)

    def _set_bar(self, route: Route, row: Row) -> None:
        """Put a bar's state in the place of the one before; a bar older than the newest one is final already."""
        newest_ms = self._newest_bar_ms.get(route.series, 0)
        if row.ts >= newest_ms:
            self._newest_bar_ms[route.series] = row.ts
            self._open[route.series, row.ts] = _Minute(route, row.ts, [row])

    def _add_late(self, key: tuple[Series, int], row: Row) -> None:
        """Add an event to a minute that is closed, if it was watched; one that is sent again changes nothing."""
        minute = self._closed.get(key)
        if minute is None:
            self.unwatched += 1
        elif not (minute.route.feed.distinct and row in minute.rows):
            minute.rows.append(row)
            self._changed[key] = minute

    def refuse(self, routes: Iterable[Route]) -> None:
        """Note that the exchange does not send what these routes are for: it is not watched."""
        self._refused.update(route.series for route in routes)

    def spoil(self, exchange_ms: int, routes: Iterable[Route]) -> None:
        """Give up what a message that cannot be read may have changed: the running minute, or the one just over.

        A minute of last samples is good again with the next sample, a sum is not.
        """
        for feed, series, _ in routes:
            for at_ms in (exchange_ms - GRACE_MS, exchange_ms):
                key = (series, METRICS[feed.metric].stamp(at_ms, feed.interval_ms))
                self._open.pop(key, None)
                if feed.reduce is Reduce.SUM:
                    self._spoiled.add(key)

    def close(self, exchange_ms: int, alive_ms: int) -> list[Item]:
        """Return the rows of the minutes that are over; `alive_ms`: when the connection last brought any frame."""
        sure_ms = min(exchange_ms - GRACE_MS, alive_ms)
        items = [Item(m.route.feed, m.route.series, m.ts, _sum(m), is_late=True) for m in self._changed.values()]
        self._changed.clear()
        items += self._close_sums(sure_ms)
        for key, minute in list(self._open.items()):
            feed = minute.route.feed
            is_followed = minute.ts < self._newest_bar_ms.get(minute.route.series, 0)
            is_over = METRICS[feed.metric].over_ms(minute.ts, feed.interval_ms) <= sure_ms
            if is_followed or (is_over and feed.reduce is not Reduce.SUM):
                del self._open[key]
                items.append(Item(feed, minute.route.series, minute.ts, _last(minute)))
        return items

    def _close_sums(self, sure_ms: int) -> list[Item]:
        """Close every fully watched interval of the summed feeds, with or without events."""
        items: list[Item] = []
        while self._next_sum_ms is not None and self._next_sum_ms + self._sums[0].feed.interval_ms <= sure_ms:
            ts = self._next_sum_ms
            for route in self._sums:
                minute = self._open.pop((route.series, ts), None)
                if route.series not in self._refused and (route.series, ts) not in self._spoiled:
                    items.append(Item(route.feed, route.series, ts, _sum(minute) if minute else None))
                    self._closed[route.series, ts] = minute or _Minute(route, ts)
            self._next_sum_ms = ts + self._sums[0].feed.interval_ms
            self._closed = {key: minute for key, minute in self._closed.items() if key[1] > ts - LATEST_MS}
            self._spoiled = {key for key in self._spoiled if key[1] > ts - LATEST_MS}
        return items


def _last(minute: _Minute) -> Row:
    """Return the newest sample, stamped with its minute; of equal times the one that came last."""
    newest = minute.rows[0]
    for row in minute.rows:
        if row.ts >= newest.ts:
            newest = row
    return newest._replace(ts=minute.ts)


def _sum(minute: _Minute) -> Row:
    """Return the exact sum of the events, column by column."""
    feed = minute.route.feed
    rows = list(dict.fromkeys(minute.rows)) if feed.distinct else minute.rows
    totals = [sum((Decimal(str(value)) for value in column), Decimal()) for column in zip(*rows, strict=True)][1:]
    return METRICS[feed.metric].row_type._make([minute.ts, *(f"{total:f}" for total in totals)])
