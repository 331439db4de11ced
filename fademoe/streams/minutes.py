"""Makes one row a minute of what a connection brings: closed bars, running bars, samples, events.

A minute becomes a row only when it is over by the exchange's clock, the connection was alive after its end (of a sum:
after its last events must have come), and it was watched: to its end for a last sample, from its first moment for a
sum. What was not watched so is left missing, never guessed. Of a feed whose silence is a fault
(StreamFeed.max_silence_s) only an event proves that it was watched so far.

A message that changes a minute which is stored already, a late event or the same bar with other values, makes a new row
that replaces the stored one while the minute is young.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from operator import attrgetter
from typing import NamedTuple

from fademoe.clock import MINUTE_MS, SECOND_MS, ceil_to
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.stream import Reduce, StreamFeed
from fademoe.feeds.values import add
from fademoe.metrics import METRICS, Column, Row
from fademoe.store.coverage import Series

GRACE_MS = 5 * SECOND_MS  # exchanges send events up to a second and a half late
LATE_MS = 2 * SECOND_MS  # a frame that comes so long after a minute's end comes behind its last events
YOUNG_MS = 15 * MINUTE_MS  # an event was seen eight minutes late


class Route(NamedTuple):
    """Where the messages of an instrument on a topic go."""

    feed: StreamFeed
    series: Series
    instrument: Instrument


class Item(NamedTuple):
    """A final row of a series; without a row: the interval at `ts` was watched and nothing happened.

    `replaces`: the row takes the place of the one that is stored, and the change is recorded.
    """

    feed: StreamFeed
    series: Series
    ts: int
    row: Row | None
    replaces: bool = False


class State(StrEnum):
    """The state of a minute of a series."""

    OPEN = "open"  # collects
    SPOILED = "spoiled"  # a part could not be read: a sum is dropped, anything else waits for the next message
    CLOSED = "closed"  # handed over as an item; a change makes another item
    UNPROVEN = "unproven"  # its session ended before it was claimed: collects what comes late, until it is proved


class Minute:
    """One interval of one series: the rows that came for it, in order of arrival."""

    __slots__ = ("route", "rows", "sent_ms", "state", "ts")

    def __init__(self, route: Route, ts: int) -> None:
        """Open the interval whose row has the ts `ts`."""
        self.route = route
        self.ts = ts
        self.rows: list[Row] = []
        self.sent_ms = 0  # of a running bar: when the exchange sent its newest state, where it says so
        self.state = State.OPEN

    @property
    def over_ms(self) -> int:
        """When the row can change no more by what happens at the exchange."""
        feed = self.route.feed
        return METRICS[feed.metric].compute_final_ms(self.ts, feed.interval_ms)

    def add(self, row: Row) -> bool:
        """Take in a row; return whether that changes what the minute made or makes."""
        feed = self.route.feed
        if self.state is State.SPOILED:
            if feed.reduce is Reduce.SUM:
                return False
            self.state = State.OPEN
        if feed.reduce is Reduce.SUM:
            if feed.distinct and row in self.rows:
                return False
            self.rows.append(row)
            return self.state is not State.UNPROVEN
        if feed.reduce is Reduce.LAST:
            if self.rows and row.ts < self.rows[0].ts:
                return False
            self.rows = [row]  # of equal times the one that came last
            return True
        is_changed = self.rows != [row]
        self.rows = [row]
        return is_changed

    def spoil(self) -> None:
        """Drop what came so far: a message that could not be read may have changed it."""
        self.rows = []
        self.state = State.SPOILED

    def close(self, *, replaces: bool = False) -> Item:
        """Hand over the row."""
        self.state = State.CLOSED
        return Item(self.route.feed, self.route.series, self.ts, self._row(), replaces)

    def _row(self) -> Row | None:
        feed = self.route.feed
        if not self.rows:
            return None
        if feed.reduce is Reduce.SUM:
            metric = METRICS[feed.metric]
            in_order = sorted(self.rows, key=attrgetter("ts"))
            values = zip(*(row[1:] for row in in_order), strict=True)
            combined = (_combine(column, each) for column, each in zip(metric.columns, values, strict=True))
            return metric.row_type._make([self.ts, *combined])
        return self.rows[0]._replace(ts=self.ts)


def _combine(column: Column, values: Sequence[str | int | None]) -> str | int | None:
    """Return the value that stands for those of events in their order, as it would for rows of a longer step."""
    known = [value for value in values if value is not None]
    if column.aggregate == "none" or not known or (column.aggregate == "sum" and len(known) < len(values)):
        return None
    match column.aggregate:
        case "sum":
            return add(*map(str, known))
        case "max":
            return max(known, key=Decimal)
        case "min":
            return min(known, key=Decimal)
        case "first":
            return values[0]
        case _:
            return values[-1]


Key = tuple[Series, int]


class Minutes:
    """Indexes the minutes of one connection; used by its thread only."""

    def __init__(
        self,
        routes: Collection[Route],
        proving_feeds: Collection[StreamFeed] = (),
        take_left: Callable[[Key], Minute | None] = lambda _: None,
    ) -> None:
        """Expect `routes`. Sums of `proving_feeds` close only up to the newest event of their feed.

        `take_left` gives a closed sum of a connection that ended: its late events come on this one.
        """
        self._take_left = take_left
        self._sums = [route for route in routes if route.feed.reduce is Reduce.SUM]
        self._proving = frozenset(proving_feeds)
        self._open: dict[Key, Minute] = {}
        self._closed: dict[Key, Minute] = {}  # the young ones
        self._changed: dict[Key, Minute] = {}  # those of them that make another item
        self._next_sum_ms: dict[Series, int] = {}  # the sums that are watched: the next interval to close
        self._newest_bar_ms: dict[Series, int] = {}  # bars without a mark of their end
        self._event_ms: dict[StreamFeed, int] = {}
        self._watched_ms: dict[StreamFeed, int] = {}  # since when proving feeds are watched
        self._oldest_kept_ms = 0

    def watch(self, routes: Iterable[Route], from_ms: int) -> None:
        """Note that the events of these routes come from `from_ms` on: their first whole interval is the next one."""
        for feed, series, _ in routes:
            if feed.reduce is Reduce.SUM and series not in self._next_sum_ms:
                self._next_sum_ms[series] = ceil_to(from_ms, feed.interval_ms)
                self._watched_ms.setdefault(feed, from_ms)

    def unwatch(self, routes: Iterable[Route]) -> None:
        """Note that the events of these routes do not come: no interval that is open is claimed."""
        for feed, series, _ in routes:
            if feed.reduce is Reduce.SUM and self._next_sum_ms.pop(series, None) is not None:
                for key in [key for key in self._open if key[0] == series]:
                    del self._open[key]

    def end_session(self, sure_ms: int = 0) -> tuple[list[Item], list[tuple[StreamFeed, int, list[Item]]]]:
        """Note that the connection is gone, with every open minute; `sure_ms`: until when what happened has come.

        Return the sums that were watched until then, and what no event has proved of each proving feed: the feed, when
        its last event came or it was subscribed, and its minutes that were watched until then.
        """
        items = self._close_sums(sure_ms, is_proved=True)
        final = [item for item in items if item.feed not in self._proving]
        items = [item for item in items if item.feed in self._proving]
        for item in items:
            self._closed[item.series, item.ts].state = State.UNPROVEN
        unproven = [
            (feed, self._event_ms.get(feed, since_ms), [item for item in items if item.feed is feed])
            for feed, since_ms in self._watched_ms.items()
            if feed in self._proving
        ]
        self._watched_ms.clear()
        self._open.clear()
        self._next_sum_ms.clear()
        self._newest_bar_ms.clear()
        self._event_ms.clear()
        return final, [(feed, since_ms, minutes) for feed, since_ms, minutes in unproven if minutes]

    def prove(self, items: Iterable[Item]) -> list[Item]:
        """Return minutes that an event has proved, with what came late."""
        minutes = [(item, self._find_closed((item.series, item.ts))) for item in items]
        return [minute.close() if minute and minute.state is State.UNPROVEN else item for item, minute in minutes]

    def on_event(self, feed: StreamFeed, exchange_ms: int) -> None:
        """Note that an event of a feed came at `exchange_ms`, of any contract: until then all of it was watched."""
        self._event_ms[feed] = exchange_ms

    def add(self, route: Route, row: Row, sent_ms: int | None = None) -> list[Item]:
        """Sort a sample, an event or a bar into its minute; return what is final at once.

        `sent_ms`: when the exchange sent the message, None where it does not say so.
        """
        feed, series, _ = route
        ts = METRICS[feed.metric].stamp(row.ts, feed.interval_ms)
        key = series, ts
        if feed.reduce is Reduce.BAR and self._is_old(key, sent_ms):
            return []
        is_unwatched = feed.reduce is Reduce.SUM and ts < self._next_sum_ms.get(series, ts + 1)
        closed = self._find_closed(key) if is_unwatched else self._closed.get(key)
        if closed is not None:
            if closed.add(row):
                self._changed[key] = closed
            return []
        if feed.reduce is Reduce.CLOSED:
            minute = self._closed[key] = Minute(route, ts)
            minute.add(row)
            return [minute.close()]
        if is_unwatched:
            return []
        minute = self._open.get(key) or self._open.setdefault(key, Minute(route, ts))
        minute.sent_ms = sent_ms or 0
        minute.add(row)
        return []

    def _is_old(self, key: Key, sent_ms: int | None) -> bool:
        """Return whether there is a newer state of a running bar, or of the one behind it where no time tells."""
        series, ts = key
        minute = self._open.get(key) or self._closed.get(key)
        if minute is not None and sent_ms is not None:
            is_old = sent_ms < minute.sent_ms
            minute.sent_ms = max(sent_ms, minute.sent_ms)
            return is_old
        newest_ms = self._newest_bar_ms.get(series, 0)
        self._newest_bar_ms[series] = max(ts, newest_ms)
        return ts < newest_ms

    def spoil(self, exchange_ms: int, routes: Iterable[Route], grace_ms: int = GRACE_MS) -> None:
        """Drop what an unreadable message may have changed: the running minute, or the one just over."""
        for route in routes:
            feed, series, _ = route
            for at_ms in (exchange_ms - grace_ms, exchange_ms):
                key = series, METRICS[feed.metric].stamp(at_ms, feed.interval_ms)
                if feed.reduce is Reduce.SUM and key not in self._closed:
                    self._open.setdefault(key, Minute(route, key[1])).spoil()
                elif key in self._open:
                    self._open[key].spoil()

    def close(self, exchange_ms: int, alive_ms: int, frame_ms: int | None = None) -> list[Item]:
        """Return the rows that are final; `alive_ms`: when the connection last proved that its topics are served.

        `frame_ms`: when its newest frame of any kind came, None where that is the same: what was sent before has come.
        """
        sure_ms = min(exchange_ms - GRACE_MS, alive_ms)
        late_ms = (alive_ms if frame_ms is None else frame_ms) - LATE_MS
        items = [*self.take_changed(), *self._close_sums(min(sure_ms, late_ms))]
        for key, minute in list(self._open.items()):
            is_followed = minute.ts < self._newest_bar_ms.get(minute.route.series, 0)
            if minute.route.feed.reduce is not Reduce.SUM and (is_followed or minute.over_ms <= sure_ms):
                del self._open[key]
                if minute.state is State.OPEN:
                    items.append(minute.close())
                    self._closed[key] = minute
        self._forget(exchange_ms - YOUNG_MS)
        return items

    def take_changed(self) -> list[Item]:
        """Return the rows that what came late has changed."""
        items = [minute.close(replaces=True) for minute in self._changed.values()]
        self._changed.clear()
        return items

    def get_closed_sums(self) -> Mapping[Key, Minute]:
        """Return the young sums that are closed: late events may still change them."""
        return {key: minute for key, minute in self._closed.items() if minute.route.feed.reduce is Reduce.SUM}

    def get_claims_from_ms(self) -> int:
        """Return from when on the sums of every watched route are still to be claimed, 0 where there are none."""
        return max(self._next_sum_ms.values(), default=0)

    def get_claimed_until_ms(self) -> int | None:
        """Return until when the sums of every watched route are claimed, None where there are none."""
        return min(self._next_sum_ms.values(), default=None)

    def _close_sums(self, sure_ms: int, *, is_proved: bool = False) -> list[Item]:
        """Close every interval that was watched as a whole, with or without events."""
        items: list[Item] = []
        for route in self._sums:
            feed, series, _ = route
            ts = self._next_sum_ms.get(series)
            is_limited = feed in self._proving and not is_proved
            proved_ms = min(sure_ms, self._event_ms.get(feed, 0)) if is_limited else sure_ms
            while ts is not None and ts + feed.interval_ms <= proved_ms:
                minute = self._open.pop((series, ts), None) or Minute(route, ts)
                if minute.state is State.OPEN:
                    items.append(minute.close())
                self._closed[series, ts] = minute
                ts += feed.interval_ms
                self._next_sum_ms[series] = ts
        return items

    def _find_closed(self, key: Key) -> Minute | None:
        """Return a closed minute, of this connection or of one that ended."""
        minute = self._closed.get(key) or self._take_left(key)
        if minute is not None:
            self._closed[key] = minute
        return minute

    def _forget(self, until_ms: int) -> None:
        """Forget closed minutes that are not young any more, once a minute."""
        if until_ms - self._oldest_kept_ms >= MINUTE_MS:
            self._oldest_kept_ms = until_ms
            self._closed = {key: minute for key, minute in self._closed.items() if key[1] > until_ms}
            for key in [key for key in self._open if key[1] <= until_ms < self._next_sum_ms.get(key[0], until_ms + 1)]:
                del self._open[key]
