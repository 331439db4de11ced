"""The stream process of an exchange: chooses the topics, spreads them over sockets, stores what they bring."""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial

from psycopg2.extensions import cursor as Cursor

from fademoe.client import instruments
from fademoe.client.server_time import describe_clock_skew
from fademoe.clock import Window, monotonic_s, now_ms, steady_ms, to_host_s
from fademoe.errors import SourceError, StoreError
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.stream import Socket, StreamFeed
from fademoe.metrics import METRICS, Row, name_perpspec
from fademoe.runtime.services import Services
from fademoe.signals import Stopped
from fademoe.store import corrections, coverage, status
from fademoe.store.arrivals import LIVE
from fademoe.store.coverage import Series
from fademoe.store.status import Report, State
from fademoe.streams.address import find_address
from fademoe.streams.buffer import Buffer, to_batches
from fademoe.streams.connection import Connection, Shared
from fademoe.streams.intake import Topic, list_routes
from fademoe.streams.minutes import Item, Route
from fademoe.streams.spill import Spill

log = logging.getLogger(__name__)

CHECK_EVERY_S = 0.5  # of connections, contracts and what could not be stored
# Rows are stored as they come; when storing takes longer, more at once, so that it takes a third of the time.
PAUSE_FACTOR = 2  # of the time that storing took
MIN_PAUSE_S, MAX_PAUSE_S = 0.02, 0.25
REPORT_EVERY_S = 5.0
LIST_EVERY_S = 60.0  # for contracts that are listed, delisted or changed
LIST_RETRY_S = 10.0
STORE_PAUSE_S = 2.0
MIN_AGE_S = 15.0  # of a connection that is replaced
MIN_OVERLAP_S = 75.0  # an old connection goes on so long at least beside the one that takes over
END_TIMEOUT_S = 3.0  # for all connections together
MAX_ITEMS_IN_MEMORY = 50_000  # about 25 MB; older ones go to disk while the database is away
DATA_LATE_S = 125.0  # a connection without data for so long is reported
CONNECT_EVERY_S = 0.4  # the strictest exchange allows three new connections a second
REOPEN_AFTER_S = 10.0  # a connection whose thread has died
LOSS_SHOWN_S = 3600.0  # so long after rows were lost the stream's state is an error


class StreamRunner:
    """Follows an exchange until SIGTERM."""

    def __init__(self, services: Services, exchange: Exchange) -> None:
        """Prepare; nothing is opened yet."""
        self.unit = f"stream {exchange.name}"
        self._services = services
        self._exchange = exchange
        self._buffer = Buffer()
        self._shared = Shared(buffer=self._buffer, stop=services.stop, exchange_now_ms=self.read_exchange_now_ms)
        self._connections: list[Connection] = []
        self._leaving: list[tuple[Connection, float]] = []  # (connection, monotonic time when it may end)
        self._followed: dict[str, dict[str, set[tuple[Series, str, int, str]]]] = {}
        self._clock_offset_ms: int | None = None  # of the exchange's time from this machine's steady clock
        self._list_problem = "no contracts to follow yet"
        self._unlisted = ""  # symbols that were chosen and that the exchange does not list
        self._new_rows = 0  # stored since the last report
        self._last_ts: int | None = None
        self._store_again_s = 0.0  # monotonic time of the next try after one that failed
        self._store_problem = ""  # why rows could not be stored
        self._spill_problem = ""  # why the disk did not take them either
        self._lost_rows = 0  # dropped when memory and disk were full
        self._lost_s: float | None = None  # monotonic time of the newest loss
        self._with_every_row = {feed.metric for feed in exchange.rest_feeds if not feed.sparse}
        self._spill = Spill(services.settings.home / "spill" / f"{exchange.name}.jsonl", exchange.stream_feeds)

    def run(self) -> None:
        """Follow until SIGTERM; then store what is held and report that it stopped."""
        self._report(State.STARTED, "starting")
        list_s = report_s = 0.0
        while not self._services.stop.requested:
            now_s = monotonic_s()
            if now_s >= list_s:
                with suppress(Stopped), self._services.stop.allow_interrupt():
                    list_s = now_s + (LIST_EVERY_S if self._follow_contracts() else LIST_RETRY_S)
            self._renew(now_s)
            if self._take_changes():
                list_s = 0.0
            self._count_losses(now_s)
            if now_s >= report_s:
                report_s = now_s + REPORT_EVERY_S
                self._report(*self._state(now_s))
            self._store_until(now_s + CHECK_EVERY_S)
        self._end([*self._connections, *(old for old, _ in self._leaving)])
        self._flush()
        held = len(self._buffer)
        self._report(State.STOPPED, f"stopped, {held} rows could not be stored" if held else "stopped")

    def _store_until(self, end_s: float) -> None:
        """Store rows as they come, until a time of the monotonic clock or SIGTERM."""
        stop = self._services.stop
        while not stop.requested and (left_s := end_s - monotonic_s()) > 0:
            if monotonic_s() < self._store_again_s:
                stop.wait(to_host_s(left_s))
                return
            self._buffer.wait(to_host_s(left_s))
            begin_s = monotonic_s()
            if not self._flush():
                self._store_again_s = monotonic_s() + STORE_PAUSE_S
            pause_s = PAUSE_FACTOR * (monotonic_s() - begin_s)
            stop.wait(to_host_s(min(max(pause_s, MIN_PAUSE_S), MAX_PAUSE_S)))

    def read_exchange_now_ms(self) -> int:
        """Return the exchange's time, as far as it is known; for any thread."""
        return now_ms() if self._clock_offset_ms is None else steady_ms() + self._clock_offset_ms

    def _follow_contracts(self) -> bool:
        """Connect to the topics of today's contracts when they have changed; return False when there is no list yet."""
        self._set_clock()
        try:
            contracts = instruments.ensure(self._exchange, self._services.rest, self._services.database)
            self._list_problem = "no contracts to follow yet"
            self._unlisted = instruments.describe_unlisted(contracts, self._services.settings.symbols)
            topics = self._topics(contracts)
            followed = {
                socket: {name: _terms(topic) for name, topic in by_name.items()} for socket, by_name in topics.items()
            }
            if followed != self._followed:
                self._want(topics)
                self._connect(topics)
                self._followed = followed
        except (SourceError, StoreError) as error:
            log.warning("%s: %s", self.unit, error)
            if not self._connections:
                self._list_problem = f"the list of contracts is not available: {error}"
            return bool(self._connections)
        return True

    def _take_changes(self) -> bool:
        """Fetch the list of contracts when the exchange has announced other terms; return whether it was fetched."""
        changed = [each.health for each in self._connections if each.health.contracts_changed]
        if not changed:
            return False
        for health in changed:
            health.contracts_changed = False
        try:
            with suppress(Stopped), self._services.stop.allow_interrupt():
                instruments.refresh(self._exchange, self._services.rest, self._services.database)
        except (SourceError, StoreError) as error:
            log.warning("%s: the list of contracts is not available: %s", self.unit, error)
            return False
        return True

    def _set_clock(self) -> None:
        """Ask the exchange for its time."""
        self._clock_offset_ms = self._services.clocks.estimate_now_ms(self._exchange) - steady_ms()

    def _topics(self, contracts: Mapping[str, Mapping[str, Instrument]]) -> dict[str, dict[str, Topic]]:
        """Return socket name -> topic name -> where its messages go, for the contracts that trade and are followed."""
        topics: dict[str, dict[str, dict[StreamFeed, dict[str, Route]]]] = {s.name: {} for s in self._exchange.sockets}
        for instrument in instruments.select_followed(
            contracts, self._services.settings.symbols, self.read_exchange_now_ms()
        ):
            for feed in self._exchange.stream_feeds:
                series = Series(name_perpspec(instrument.code, feed.metric), instrument.symbol)
                topic = topics[feed.socket].setdefault(feed.topic(instrument), {})
                topic.setdefault(feed, {})[instrument.name if feed.name else ""] = Route(feed, series, instrument)
        return {name: dict(by_name) for name, by_name in topics.items()}

    def _want(self, topics: Mapping[str, Mapping[str, Topic]]) -> None:
        """Declare that the followed series are wanted: from this minute on, new ones from their listing on.

        What the stream misses is then a gap.
        """
        starts: dict[int, set[Series]] = {}
        for topic in (topic for by_name in topics.values() for topic in by_name.values()):
            for feed, series, instrument in list_routes(topic):
                from_ms = instruments.find_wanted_from_ms(instrument, self.read_exchange_now_ms())
                start_ms = METRICS[feed.metric].stamp(from_ms, feed.interval_ms)
                starts.setdefault(start_ms, set()).add(series)
        if starts:
            self._services.database.run(partial(_want, starts))

    def _connect(self, topics: Mapping[str, Mapping[str, Topic]]) -> None:
        """Open the sockets for `topics`; those before go on until the new ones have taken over."""
        self._retire(self._connections)
        parts = [(s, part) for s in self._exchange.sockets for part in split_topics(topics[s.name], s)]
        self._connections = [self._open(*part, wait_s=number * CONNECT_EVERY_S) for number, part in enumerate(parts)]
        log.info("%s follows %d topics", self.unit, sum(len(by_name) for by_name in topics.values()))

    def _open(self, socket: Socket, topics: Mapping[str, Topic], wait_s: float = 0.0) -> Connection:
        url = self._services.settings.ws_urls.get(self._exchange.name, self._exchange.stream_url)
        address = find_address(self._exchange, socket, self._services.rest, url)
        connection = Connection(socket, address, topics, self._shared, wait_s)
        connection.start()
        return connection

    def _renew(self, now_s: float) -> None:
        """Let fresh connections replace aged and dead ones; end those that left when all that follow took over.

        A server may ask each new connection to leave: none is replaced before MIN_AGE_S.
        """
        for index, connection in enumerate(self._connections):
            if connection.health.is_aged and now_s - connection.opened_s >= MIN_AGE_S:
                self._retire([connection])
                self._connections[index] = self._open(connection.socket, connection.topics)
            elif not connection.is_alive():
                self._connections[index] = self._open(connection.socket, connection.topics, REOPEN_AFTER_S)
        over = [
            old
            for old, leave_s in self._leaving
            if not old.is_alive() or (now_s >= leave_s and has_taken_over(old, self._connections))
        ]
        self._end(over)
        self._leaving = [(old, leave_s) for old, leave_s in self._leaving if old not in over]

    def _retire(self, connections: list[Connection]) -> None:
        leave_s = monotonic_s() + MIN_OVERLAP_S
        for connection in connections:
            connection.retire()
            self._leaving.append((connection, leave_s))

    def _end(self, connections: list[Connection]) -> None:
        """End connections; one that cannot be reached at the moment is left to itself."""
        for connection in connections:
            connection.end()
        deadline_s = monotonic_s() + END_TIMEOUT_S
        for connection in connections:
            connection.join(timeout=max(0.0, deadline_s - monotonic_s()))

    def _flush(self) -> bool:
        """Store what the buffer and the spill hold; on failure keep it and return False."""
        items = self._buffer.take()
        errors = self._buffer.take_errors()
        try:
            if self._spill and not self._store_problem and not self._services.stop.requested:
                self._store_spilled()
            self.store(items)
            for _, error in errors:
                status.record_error(self._services.database, self.unit, error)
        except (StoreError, OSError) as error:
            self._keep(items)
            if str(error) != self._store_problem:
                log.warning("%s: rows wait: %s", self.unit, error)
            self._store_problem = str(error)
            return False
        if self._store_problem:
            log.info("%s: rows are stored again", self.unit)
        self._store_problem = ""
        return True

    def _store_spilled(self) -> None:
        """Store what is on disk; when a stop is requested amid, all of it stays there: storing it again is harmless."""
        for spilled in self._spill.read_chunks():
            if self._services.stop.requested:
                return
            self.store(spilled)
        self._spill.clear()

    def store(self, items: list[Item]) -> None:
        """Store rows and the minutes that they prove; raise StoreError when PostgreSQL is away.

        A minute without events proves nothing where the history has a row for each: that row is still to be fetched.
        """
        items = [item for item in items if item.row is not None or item.feed.metric not in self._with_every_row]
        if items:
            self._new_rows += self._services.writer.write(*to_batches(items), LIVE)
            self._last_ts = max(item.ts for item in items)
            self._replace(item for item in items if item.replaces)

    def _replace(self, items: Iterable[Item]) -> None:
        """Put rows in the place of those that are stored, and record what changed."""
        newest = {(item.series, item.ts): item for item in items}
        for feed, series, ts, row, _ in newest.values():
            window = [Window(ts, ts + feed.interval_ms)]
            if row is not None:
                self._services.database.run(partial(_correct, feed, series, window, {ts: row}))

    def _keep(self, items: list[Item]) -> None:
        """Keep rows that could not be stored: in memory, the oldest on disk where they are too many or time is up."""
        room = 0 if self._services.stop.requested else MAX_ITEMS_IN_MEMORY
        surplus = max(0, len(items) - room)
        if surplus:
            try:
                self._spill.write(items[:surplus])
            except OSError as error:
                if str(error) != self._spill_problem:
                    log.warning("%s: the disk refuses %d rows, memory keeps them: %s", self.unit, surplus, error)
                self._spill_problem, surplus = str(error), 0
            else:
                self._spill_problem = ""
        self._buffer.put_back(items[surplus:])

    def _count_losses(self, now_s: float) -> None:
        """Note rows that the buffer dropped since the last time: memory and disk were full."""
        lost = self._buffer.dropped - self._lost_rows
        if lost:
            if self._lost_s is None or now_s - self._lost_s > LOSS_SHOWN_S:
                log.error("%s: rows are lost: memory and disk are full", self.unit)
            self._lost_rows, self._lost_s = self._buffer.dropped, now_s

    def _state(self, now_s: float) -> tuple[State, str]:
        """Return the state of the connections and why, worst first."""
        if self._lost_s is not None and now_s - self._lost_s < LOSS_SHOWN_S:
            why = f"{self._store_problem or 'the database was away'}; {self._spill_problem or 'no room'}"
            return State.ERROR, f"{self._lost_rows} rows are lost, their minutes are missing: memory is full, {why}"
        healths = [connection.health for connection in self._connections]
        unlisted = f"; not on its list: {self._unlisted}" if self._unlisted else ""
        silent = sorted({metric for health in healths for metric in health.silent_feeds})
        if silent:
            text = f"no event of {', '.join(silent)} for an hour though subscribed"
            return State.ERROR, f"{text}: nothing is claimed since the last one"
        lost = [health for health in healths if not health.connected]
        if self._leaving:  # one that just begins to take over is not down
            lost = [health for health in lost if health.reconnects]
        if not healths:
            return State.WAITING, f"{self._list_problem}{unlisted}"
        if lost:
            return State.WAITING, f"{len(lost)} of {len(healths)} sockets down: {lost[0].detail}"
        late = [health for health in healths if 0 < health.last_data_s < now_s - DATA_LATE_S]
        if late:
            return State.WAITING, f"{len(late)} of {len(healths)} sockets open without data"
        if self._store_problem:
            return State.WAITING, f"{len(self._buffer)} rows wait for the database: {self._store_problem}"
        if skew := describe_clock_skew(self.read_exchange_now_ms() - now_ms()):
            return State.RUNNING, skew
        topics = sum(len(connection.topics) for connection in self._connections)
        messages = sum(health.messages for health in healths)
        return State.RUNNING, f"topics: {topics}, sockets: {len(healths)}, messages: {messages}{unlisted}"

    def _report(self, state: State, message: str) -> None:
        news = Report(
            unit=self.unit,
            state=state,
            message=message,
            new_rows=self._new_rows,
            last_ts=self._last_ts,
            interval_s=int(REPORT_EVERY_S),
        )
        try:
            status.report(self._services.database, news)
        except StoreError as error:
            log.warning("%s: its status could not be stored: %s", self.unit, error)
        else:
            self._new_rows = 0


def _want(starts: Mapping[int, set[Series]], cursor: Cursor) -> None:
    for start_ms, wanted in starts.items():
        coverage.want(cursor, sorted(wanted), start_ms, None)


def _correct(feed: StreamFeed, series: Series, windows: list[Window], rows: Mapping[int, Row], cursor: Cursor) -> None:
    stored = corrections.read_stored_rows(cursor, series, feed.metric, feed.interval, windows)
    changes = corrections.find_differences(feed.metric, stored, rows)
    corrections.correct(cursor, series, feed.interval, changes)


def has_taken_over(old: Connection, connections: list[Connection]) -> bool:
    """Tell whether the connections claim on where an old one stops: no minute of events is claimed by neither."""
    if not all(connection.health.connected and connection.is_alive() for connection in connections):
        return False
    until_ms = old.health.claimed_until_ms
    starts = [connection.health.claims_from_ms for connection in connections]
    return until_ms is None or all(start is not None and start <= until_ms for start in starts)


def _terms(topic: Topic) -> set[tuple[Series, str, int, str]]:
    """Return what must be the same for a connection to go on: contracts change their size now and then."""
    contracts = [(route.series, route.instrument) for route in list_routes(topic)]
    return {(series, each.name, each.multiplier, each.contract_value) for series, each in contracts}


def split_topics(topics: Mapping[str, Topic], socket: Socket) -> list[dict[str, Topic]]:
    """Spread topics evenly over as few sockets as the exchange's limit allows, in their order.

    They come contract by contract. So events share a socket with channels that are never silent, where the exchange has
    some: without them nothing but a pong would show that the events are served.
    """
    names = list(topics)
    count = -(-len(names) // socket.topics_per_socket)
    size = -(-len(names) // max(1, count))
    return [{name: topics[name] for name in names[at : at + size]} for at in range(0, len(names), max(1, size))]
