"""Turns the data of messages into rows: merges states, parses, checks times, and hands rows to the minutes.

What cannot be read is reported; only the minutes that it may have changed are not claimed.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import msgspec

from fademoe.clock import HOUR_MS, SECOND_MS, monotonic_s
from fademoe.errors import BODY_EXCERPT, BadPayload, SourceError
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.reading import read_elements
from fademoe.feeds.stream import Frame, Reduce, StreamFeed
from fademoe.metrics import Row
from fademoe.store.coverage import Series
from fademoe.store.status import fingerprint_error
from fademoe.streams.buffer import Buffer
from fademoe.streams.minutes import Minutes, Route
from fademoe.streams.topic_state import TopicState

log = logging.getLogger(__name__)

MAX_AHEAD_MS = 5 * SECOND_MS  # tolerated skew of the exchange's clock
MAX_BEHIND_MS = HOUR_MS  # what is older is no live data: history brings it
REPORT_EVERY_S = 60.0  # errors of one cause
MAX_CAUSES = 1000
MAX_TAKEN = 10_000  # messages of one connection that are known again: of an hour with many events
BARS = (Reduce.CLOSED, Reduce.BAR)  # their rows are stamped with the start of an interval

# Where the messages of a topic go: feed -> the exchange's name of the instrument ("" where the topic has just one).
Topic = Mapping[StreamFeed, Mapping[str, Route]]


class ErrorReports:
    """Hands errors to the buffer, those of one cause once a minute."""

    def __init__(self, unit: str, request: str, buffer: Buffer, decode: Callable[[bytes], Json]) -> None:
        """Report for `unit`; `request` is the address of the socket, `decode` reads its messages."""
        self._unit = unit
        self._request = request
        self._buffer = buffer
        self._decode = decode
        self._last_logged_s: dict[str, float] = {}  # fingerprint -> monotonic time

    def add(self, error: Exception, payload: bytes = b"") -> None:
        """Have an error recorded with the message that it is about."""
        cause, now_s = fingerprint_error(error), monotonic_s()
        if now_s - self._last_logged_s.get(cause, -REPORT_EVERY_S) < REPORT_EVERY_S:
            return
        if len(self._last_logged_s) >= MAX_CAUSES:
            self._last_logged_s.clear()
        self._last_logged_s[cause] = now_s
        if isinstance(error, SourceError):
            error.body = error.body or self._show(payload)
            error.request = error.request or self._request
        log.warning("%s: %s", self._request, error)
        self._buffer.add_error(self._unit, error)

    def _show(self, payload: bytes) -> str:
        """Return the begin of a message as text; of one that is none, such as a compressed one, what it says."""
        text = payload[:BODY_EXCERPT].decode("utf-8", "replace")
        if not text.isprintable():
            with suppress(ValueError, BadPayload):
                return str(self._decode(payload))[:BODY_EXCERPT]
        return text


class Intake:
    """The way of the data of one connection; used by its thread only."""

    def __init__(
        self,
        topics: Mapping[str, Topic],
        minutes: Minutes,
        buffer: Buffer,
        errors: ErrorReports,
    ) -> None:
        """Take in data of `topics`: rows that are final at once go to `buffer`, all others to `minutes`."""
        self.state_invalid = False  # a change was missed, so merged states are unknown until the next session
        self.sampled_ms: int | None = None  # time of the session's newest sample
        self._sent_ms: int | None = None  # when the exchange sent the message that is taken in, where it says so
        self._topics = {name: {feed: dict(routes) for feed, routes in topic.items()} for name, topic in topics.items()}
        self._earlier: dict[Series, tuple[int, Instrument]] = {}  # until when a contract had other terms, and which
        self._minutes = minutes
        self._buffer = buffer
        self._errors = errors
        self._routes = [route for topic in topics.values() for route in list_routes(topic)]
        merged = [name for name, topic in topics.items() if any(feed.merged for feed in topic)]
        self._states = {name: TopicState() for name in merged}
        self._with_events = {n for n, topic in topics.items() if any(feed.reduce is Reduce.SUM for feed in topic)}
        self._taken: dict[tuple[str, int, int], None] = {}  # topic, time and hash of messages with events, as they came

    def begin_session(self) -> None:
        """Forget the merged states: the exchange sends them whole again."""
        for state in self._states.values():
            state.invalidate()
        self.state_invalid = False
        self.sampled_ms = None

    def change_terms(self, contracts: Iterable[Instrument], from_ms: int) -> bool:
        """Read the contracts' events of `from_ms` and later by their new terms; return whether any has other ones."""
        by_name = {(contract.code, contract.name): contract for contract in contracts}
        is_changed = False
        for topic in self._topics.values():
            for routes in topic.values():
                for key, route in routes.items():
                    old = route.instrument
                    new = by_name.get((old.code, old.name), old)
                    coins = Decimal(new.contract_value) * old.multiplier / new.multiplier  # in the unit that is stored
                    if coins != Decimal(old.contract_value):
                        is_changed = True
                        self._earlier[route.series] = (from_ms, old)
                        routes[key] = route._replace(instrument=replace(old, contract_value=f"{coins:f}"))
        return is_changed

    def discard(self, error: Exception, payload: bytes, exchange_ms: int, topic: str | None = None) -> None:
        """Report a message of a topic, None where it is unknown; claim no minute that it may have changed."""
        routes = self._routes if topic is None else list_routes(self._topics[topic])
        self._minutes.spoil(exchange_ms, routes)
        self._errors.add(error, payload)
        for name, state in self._states.items():
            if topic in (None, name):
                self.state_invalid |= state.invalidate()

    def take(self, name: str, frame: Frame, message: Json, payload: bytes, exchange_ms: int) -> list[StreamFeed]:
        """Hand on the rows of a topic's message that came at `exchange_ms`; return the feeds that had an event.

        `message` is what `payload` says, decoded: two that say the same may be compressed differently.
        """
        sent_ms = frame.sent_ms
        if sent_ms is not None:
            if sent_ms > exchange_ms + MAX_AHEAD_MS:
                frame = msgspec.structs.replace(frame, sent_ms=None)  # it must not outdate what follows
            elif name in self._with_events and self._is_repeated((name, sent_ms, hash(repr(message)))):
                return []
        self._sent_ms = frame.sent_ms
        state = self._states.get(name)
        data = state.merge(frame) if state else frame.data
        events = []
        if data is not None:
            for feed, routes in self._topics[name].items():
                if self._read(feed, routes, data, payload, exchange_ms) and feed.reduce is Reduce.SUM:
                    events.append(feed)
        return events

    def _is_repeated(self, message: tuple[str, int, int]) -> bool:
        """Tell whether this very message came before: topic, time and hash."""
        if message in self._taken:
            return True
        self._taken[message] = None
        if len(self._taken) > MAX_TAKEN:
            del self._taken[next(iter(self._taken))]
        return False

    def _read(
        self, feed: StreamFeed, routes: Mapping[str, Route], data: Json, payload: bytes, exchange_ms: int
    ) -> bool:
        """Hand on the rows of a feed; return whether the message had any item, of whatever instrument."""
        try:
            items = feed.items(data)
            pairs = [self._read_item(feed, routes, item, exchange_ms) for item in items]
        except BadPayload:
            return self._read_odd(feed, routes, data, payload, exchange_ms)
        for pair in pairs:
            if pair is not None:
                self._add(*pair)
        return bool(items)

    def _read_odd(
        self, feed: StreamFeed, routes: Mapping[str, Route], data: Json, payload: bytes, exchange_ms: int
    ) -> bool:
        """Hand on what can be read of a message; what cannot is reported and costs the minute of its series."""
        try:
            elements = read_elements(feed.items(data), lambda item: self._read_item(feed, routes, item, exchange_ms))
        except BadPayload as error:
            self._minutes.spoil(exchange_ms, routes.values())
            self._errors.add(error, payload)
            return False
        for element in elements.unreadable:
            self._minutes.spoil(exchange_ms, _routes_of_item(feed, routes, element.element))
            self._errors.add(BadPayload(element.reason), payload)
        for pair in elements.readable:
            self._add(*pair)
        return True

    def _read_item(
        self, feed: StreamFeed, routes: Mapping[str, Route], item: Json, exchange_ms: int
    ) -> tuple[Route, Row] | None:
        """Read one item of a message, None where it holds no row or is of no followed instrument; raise BadPayload."""
        route = routes.get(feed.read_instrument_name(item) if feed.name else "")
        row = feed.parse(item, route.instrument) if route else None
        if route is None or row is None:
            return None
        if route.series in self._earlier:
            until_ms, instrument = self._earlier[route.series]
            row = (feed.parse(item, instrument) if row.ts < until_ms else row) or row
        try:
            _check_time(route, row, exchange_ms)
        except BadPayload:
            self._minutes.spoil(row.ts, [route], grace_ms=0)  # what is known of the exchange's clock may be wrong
            raise
        return route, row

    def _add(self, route: Route, row: Row) -> None:
        if route.feed.reduce is Reduce.LAST:
            self.sampled_ms = max(self.sampled_ms or 0, row.ts)
        if final := self._minutes.add(route, row, self._sent_ms):
            self._buffer.put(final)


def _check_time(route: Route, row: Row, exchange_ms: int) -> None:
    """Raise BadPayload for a row of a time to come or long past, and for a bar off the grid.

    Events may be of any time past: what was not watched then is not claimed.
    """
    feed = route.feed
    if row.ts > exchange_ms + MAX_AHEAD_MS - (feed.interval_ms if feed.reduce is Reduce.CLOSED else 0):
        raise BadPayload(f"ts {row.ts} of {route.instrument.name} is not over by the exchange's clock")
    if feed.reduce is not Reduce.SUM and row.ts < exchange_ms - MAX_BEHIND_MS - feed.interval_ms:
        raise BadPayload(f"ts {row.ts} of {route.instrument.name} is long past")
    if feed.reduce in BARS and row.ts % feed.interval_ms:
        raise BadPayload(f"ts {row.ts} of {route.instrument.name} is not on the grid of {feed.interval}")


def _routes_of_item(feed: StreamFeed, routes: Mapping[str, Route], item: Json) -> Collection[Route]:
    """Return the route of an unreadable item, all routes of its topic where it does not name its instrument."""
    try:
        name = feed.read_instrument_name(item)
    except BadPayload:
        return routes.values()
    return [routes[name]] if name in routes else []


def list_routes(topic: Topic) -> list[Route]:
    """Return every route of a topic."""
    return [route for by_instrument in topic.values() for route in by_instrument.values()]
