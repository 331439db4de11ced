"""One socket: connect, subscribe, receive, watch, reconnect. The same for every exchange."""

import logging
import random
import socket as sockets
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import websocket
from websocket import ABNF

from fademoe.clock import SECOND_MS, monotonic_s
from fademoe.errors import BadPayload, SourceError
from fademoe.feeds.instrument import Json
from fademoe.feeds.reading import read_elements
from fademoe.feeds.stream import Frame, Reduce, Socket, StreamFeed
from fademoe.metrics import Row
from fademoe.signals import StopSignal
from fademoe.store.status import fingerprint
from fademoe.streams.address import Address
from fademoe.streams.buffer import Buffer
from fademoe.streams.minutes import Item, Minutes, Route
from fademoe.streams.socket import BufferedSocket

log = logging.getLogger(__name__)

# Where the messages of a topic go: feed -> the exchange's name of the instrument ("" where the topic has just one).
Topic = Mapping[StreamFeed, Mapping[str, Route]]

CONNECT_S = 10.0
LOOK_S = 0.5  # between two looks at the clock and at the wish to stop
SILENT_S = 90.0  # without a frame of any kind a socket is dead
CONTINUOUS_S = 120.0  # and without one message of data, whatever pings say: one in 90 s is the slowest that is known
SILENT_INTERVALS = 3  # a topic that has no message for so many of its intervals while others have is broken
MOST_DOUBLINGS = 5  # of the patience with a topic whose silence ended a session in vain
QUIET_S = 180.0  # the same for a socket of topics that may each be quiet for a while, but hardly all of them
HOPELESS = 2  # sessions without any message, then a topic is reported and not watched any more
PING_S = 20.0
DOUBT_S = 60.0  # the age of a session that is ended for a frame that cannot be read: they may come in numbers
COMPLAINT_S, MOST_CAUSES = 60.0, 1000
SUBSCRIBED_MS = SECOND_MS  # a subscription is taken to hold so long after its last request, where no topic is confirmed
CONFIRMED_S = 5.0  # a topic that is not confirmed by then is asked for again
AHEAD_MS = 5 * SECOND_MS  # so far may the exchange be ahead of what is known of its clock
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
BARS = (Reduce.CLOSED, Reduce.BAR)  # their rows are stamped with the begin of an interval
FINE_S = 10.0  # a shorter session does not count: exchanges limit the connections of some minutes


class Broken(Exception):
    """The connection is of no use any more; the message says why."""


@dataclass
class Health:
    """What a connection tells of itself; read by the main thread."""

    connected: bool = False
    said: str = "not connected yet"  # why it is not connected
    last_data_s: float = 0.0  # monotonic time of the newest data message, 0 before the first
    messages: int = 0
    reconnects: int = 0
    aged: bool = False  # the exchange will cut it soon: another one should take over


class Connection(threading.Thread):
    """Follows topics of one socket until ended; final rows go into the buffer."""

    def __init__(
        self,
        socket: Socket,
        address: Address,
        topics: Mapping[str, Topic],
        buffer: Buffer,
        stop: StopSignal,
        exchange_now_ms: Callable[[], int],
        wait_s: float = 0.0,
    ) -> None:
        """Prepare to follow `topics` at `address`, `wait_s` after the start."""
        super().__init__(name=f"socket {socket.name}", daemon=True)
        self.health = Health()
        self.topics = topics
        self.socket = socket
        self._address = address
        self._url = address.url
        self._buffer = buffer
        self._stop_signal = stop
        self._exchange_now_ms = exchange_now_ms
        self._ended = threading.Event()
        self._retired = False
        routes = [route for topic in topics.values() for found in topic.values() for route in found.values()]
        self._routes = routes
        self._minutes = Minutes(routes)
        self._merged: dict[str, dict[str, Json]] = {}
        self._heard: dict[str, float] = {}  # topic -> monotonic time of its newest message in this session
        self._silent_sessions: dict[str, int] = {}  # topic -> sessions in a row without a message
        self._breaks: dict[str, int] = {}  # topic -> sessions that were ended for its silence
        self._said: dict[str, float] = {}  # fingerprint of a complaint -> monotonic time
        self._in_doubt = False  # a change was missed: merged states are void until the next session
        feeds = {feed for topic in topics.values() for feed in topic}
        self._continuous = any(feed.continuous for feed in feeds)
        self._eventful = all(feed.reduce is Reduce.SUM for feed in feeds)  # events alone may fail to come for hours
        self._alive_ms = 0  # exchange time of the newest frame of any kind
        self._alive_s = 0.0  # the same, monotonic
        self._data_ms = 0  # exchange time of the newest message of data
        self._waiting: list[list[str]] = []  # topics of the requests that are still to be sent
        self._asked: list[list[str]] = []  # topics of the requests that were sent
        self._unconfirmed: dict[str, float] = {}  # topic -> monotonic time of its request
        self._questions: dict[str, int] = {}  # topic -> how often it was not confirmed in this session
        self._answers = False  # whether the exchange has confirmed or refused any topic in this session
        self._sums = {name for name, topic in topics.items() if any(feed.reduce is Reduce.SUM for feed in topic)}
        self._watching = False  # whether the sums have begun
        self._wait_s = wait_s

    def end(self) -> None:
        """Ask the connection to close; join it to wait for that."""
        self._ended.set()

    def retire(self) -> None:
        """Go on as long as the connection holds, and do not come back after it: another one takes over."""
        self._retired = True

    def run(self) -> None:
        """Connect again and again; pauses double up to a minute and start afresh after a session that had data."""
        pause_s = FIRST_PAUSE_S
        self._ended.wait(self._wait_s)
        while not self._over():
            self._heard.clear()
            born_s = monotonic_s()
            try:
                self._session()
            except (Broken, SourceError, websocket.WebSocketException, OSError) as error:
                if self._over() or self._retired:
                    break
                is_fine = bool(self._heard) and monotonic_s() - born_s > FINE_S
                pause_s = FIRST_PAUSE_S if is_fine else min(pause_s * 2, LONGEST_PAUSE_S)
                wait_s = pause_s * random.uniform(0.5, 1.0)
                self.health.connected = False
                self.health.said = f"{self._url}: {_reason(error)}; next try in {wait_s:.0f} s"
                self.health.reconnects += 1
                log.warning("%s", self.health.said)
                self._ended.wait(wait_s)
            finally:
                self._minutes.watch_from(None)
        self.health.connected = False

    def _over(self) -> bool:
        return self._stop_signal.requested or self._ended.is_set()

    def _session(self) -> None:
        """Follow the topics over one connection until it breaks or is to end."""
        options = ((sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1), (sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1))
        connection = websocket.create_connection(
            self._address.resolve(), timeout=CONNECT_S, skip_utf8_validation=True, sockopt=options, http_no_proxy=["*"]
        )
        self._merged.clear()
        self._in_doubt = False
        try:
            connection.settimeout(LOOK_S)
            connection.sock = BufferedSocket(connection.sock)  # type: ignore[arg-type, assignment]  # it takes its place
            self.health.connected = True
            log.info("%s: connected, %d topics", self._url, len(self.topics))
            self._follow(connection)
        finally:
            connection.close(timeout=1)

    def _follow(self, connection: websocket.WebSocket) -> None:
        socket = self.socket
        self._waiting, self._asked = requests_of(sorted(self.topics), socket.topics_per_request), []
        self._unconfirmed, self._questions, self._answers, self._watching = {}, {}, False, False
        born_s = look_s = ask_s = self.health.last_data_s = self._alive_s = monotonic_s()
        every_s = socket.ping_every_s if socket.ping_text else PING_S
        ping_s = born_s + every_s
        for text in socket.opening:
            connection.send(text)
        while not self._over():
            now_s = monotonic_s()
            if self._waiting and now_s >= ask_s:
                self._asked.append(self._waiting.pop(0))
                connection.send(socket.subscribe(self._asked[-1], len(self._asked)))
                ask_s = now_s + socket.request_pause_s
                if socket.acks:
                    self._unconfirmed |= dict.fromkeys(self._asked[-1], now_s)
                self._watch_sums()
            if now_s >= ping_s:
                connection.send(socket.ping_text) if socket.ping_text else connection.ping()
                ping_s = now_s + every_s
            if now_s >= look_s:
                look_s = now_s + LOOK_S
                self._look(now_s, born_s)
            self._receive(connection)

    def _look(self, now_s: float, born_s: float) -> None:
        """Close minutes that are over; raise Broken when the connection or a topic is silent."""
        items = self._minutes.close(self._exchange_now_ms(), self._data_ms if self._continuous else self._alive_ms)
        if items:
            self._buffer.put(items)
        self._ask_for_unconfirmed(now_s)
        self._look_for_silence(now_s)
        if self._in_doubt and now_s - born_s > DOUBT_S:
            raise Broken("a frame could not be read, so what has changed since is not known")
        renew_s = self.socket.renew_after_s
        self.health.aged = self.health.aged or (renew_s is not None and now_s - born_s > renew_s)
        for name, topic in self.topics.items():
            patience_s = max(feed.interval_ms for feed in topic) * SILENT_INTERVALS / SECOND_MS
            patience_s *= 2 ** min(self._breaks.get(name, 0), MOST_DOUBLINGS)  # it may just have nothing to say
            if now_s - self._heard.get(name, born_s) <= patience_s or not any(feed.continuous for feed in topic):
                continue
            silent = self._silent_sessions[name] = self._silent_sessions.get(name, 0) + (name not in self._heard)
            if silent <= HOPELESS:
                self._breaks[name] = self._breaks.get(name, 0) + (name in self._heard)
                raise Broken(f"{name} is silent for {patience_s:.0f} s while other topics have data")
            if silent == HOPELESS + 1:
                self._complain(BadPayload(f"{name} never has data: the exchange may not know it"))
            self._silent_sessions[name] = HOPELESS + 2

    def _look_for_silence(self, now_s: float) -> None:
        """Raise Broken when the socket is open but brings nothing, or nothing but pongs."""
        if now_s - self._alive_s > SILENT_S:
            raise Broken(f"open but silent: no sign of life for {SILENT_S:.0f} s")
        patience_s = CONTINUOUS_S if self._continuous else QUIET_S
        if not self._eventful and now_s - self.health.last_data_s > patience_s:
            raise Broken(f"open but silent: no data for {patience_s:.0f} s, so the address may be a wrong one")

    def _receive(self, connection: websocket.WebSocket) -> None:
        """Take one message, if one comes."""
        try:
            opcode, payload = connection.sock.receive(connection)  # type: ignore[union-attr]
        except websocket.WebSocketTimeoutException:
            return
        self._alive_ms, self._alive_s = self._exchange_now_ms(), monotonic_s()
        if opcode == ABNF.OPCODE_CLOSE:
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 0
            raise Broken(f"closed by the exchange with code {code} {payload[2:].decode('utf-8', 'replace')}".rstrip())
        if opcode in (ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY) and payload != b"pong":
            reply = self.take(payload)
            if reply is not None:
                connection.send(reply)

    def take(self, payload: bytes) -> str | None:
        """Sort one message and hand its rows on; return what the exchange wants to be answered at once.

        What cannot be read is recorded and costs what it may have told.
        """
        try:
            frame = self.socket.route(self.socket.decode(payload))
        except (ValueError, BadPayload) as error:
            self._give_up(error, payload)
            return None
        self._handle(frame, payload)
        return frame.reply

    def _give_up(self, error: ValueError | BadPayload, payload: bytes) -> None:
        """Note a frame of which nobody can tell what it was: what it may have told is given up."""
        self._minutes.spoil(self._alive_ms, self._routes)
        self._complain(error if isinstance(error, BadPayload) else BadPayload("a frame is not JSON"), payload)
        self._in_doubt = self._in_doubt or bool(self._merged)
        self._merged.clear()

    def _handle(self, frame: Frame, payload: bytes) -> None:
        """Hand the rows of one message on."""
        if frame.fault is not None:
            self._answers = True
            self._ask_again(frame.topic)
            self._complain(BadPayload(f"the exchange reports a fault: {frame.fault}"), payload)
            return
        if frame.acked:
            self._answers = True
            for acked in frame.acked:
                self._confirm(acked)
        if frame.renew:
            log.info("%s: the exchange asks for a new connection", self._url)
            self.health.aged = True
        topic = self.topics.get(frame.topic or "")
        if topic is None or frame.topic is None:
            return
        self._heard[frame.topic] = self.health.last_data_s = monotonic_s()
        self._data_ms = self._alive_ms
        self._silent_sessions.pop(frame.topic, None)
        self.health.messages += 1
        self._confirm(frame.topic)
        data = self._complete(frame)
        if data is not None:
            for feed, routes in topic.items():
                self._read(feed, routes, data, payload)

    def _confirm(self, topic: str) -> None:
        if self._unconfirmed.pop(topic, None) is not None:
            self._watch_sums()

    def _watch_sums(self) -> None:
        """Let the sums begin once all topics of events are served."""
        if not self._watching and not self._waiting and self._sums.isdisjoint(self._unconfirmed):
            self._watching = True
            self._minutes.watch_from(self._exchange_now_ms() + (0 if self._answers else SUBSCRIBED_MS))

    def _expect_nothing(self, topic: str) -> None:
        """Neither wait for a topic that the exchange does not serve, nor claim anything of it."""
        self._silent_sessions[topic] = HOPELESS + 2
        self._minutes.refuse(route for found in self.topics[topic].values() for route in found.values())
        self._confirm(topic)

    def _ask_again(self, offender: str | None) -> None:
        """Send the rest of a request once more after the exchange refused all of it for one named topic.

        Where topics are confirmed the rest is asked for when its time is up: it may be served all the same.
        """
        for request in self._asked:
            if offender is not None and offender in request:
                self._expect_nothing(offender)
                rest = [topic for topic in request if topic != offender]
                request.clear()
                if rest and not self.socket.acks:
                    self._watching = False
                    self._waiting.append(rest)

    def _ask_for_unconfirmed(self, now_s: float) -> None:
        """Ask again for topics that were not confirmed, in smaller requests: one of them may spoil all others."""
        overdue = [topic for topic, asked_s in self._unconfirmed.items() if now_s - asked_s > CONFIRMED_S]
        if not overdue or self._waiting:
            return
        for topic in overdue:
            del self._unconfirmed[topic]
            self._questions[topic] = self._questions.get(topic, 0) + 1
        if not self._answers:  # no word of any topic: then silence says nothing
            self._watch_sums()
            return
        times = min(self._questions[topic] for topic in overdue)
        if times > HOPELESS:
            self._complain(BadPayload(f"{len(overdue)} topics are not confirmed, the first is {overdue[0]}"))
            for topic in overdue:
                self._expect_nothing(topic)
            self._watch_sums()
            return
        most = self.socket.topics_per_request
        self._waiting = requests_of(overdue, 1 if times > 1 and len(overdue) <= most else max(1, most // 10))

    def _complete(self, frame: Frame) -> Json:
        """Return a message's data, merged into the topic's state where it tells changes only; None before the first."""
        if frame.topic is None or not isinstance(frame.data, dict):
            return frame.data
        state = self._merged.get(frame.topic)
        if frame.partial:
            if state is None:
                return None
            state.update(frame.data)
            return state
        if any(feed.merged for feed in self.topics[frame.topic]):
            self._merged[frame.topic] = dict(frame.data)
        return frame.data

    def _read(self, feed: StreamFeed, routes: Mapping[str, Route], data: Json, payload: bytes) -> None:
        """Pass on the rows of a message; an unreadable item costs the open minute of its own series only."""

        def read(item: Json) -> tuple[Route, Row] | None:
            route = routes.get(feed.instrument_name(item))
            row = feed.parse(item, route.instrument) if route else None
            if route is None or row is None:
                return None
            self._check_time(route, row)
            return route, row

        try:
            elements = read_elements(feed.items(data), read)
        except BadPayload as error:
            self._minutes.spoil(self._alive_ms, routes.values())
            self._complain(error, payload)
            return
        for element in elements.unreadable:
            self._minutes.spoil(self._alive_ms, _routes_of(feed, routes, element.element))
            self._complain(BadPayload(element.reason), payload)
        if feed.reduce is not Reduce.CLOSED:
            for route, row in elements.readable:
                self._minutes.add(route, row)
        elif elements.readable:
            self._buffer.put([Item(feed, route.series, row.ts, row) for route, row in elements.readable])

    def _check_time(self, route: Route, row: Row) -> None:
        """Raise BadPayload for a row of the future, and for a bar that does not lie on the grid."""
        feed = route.feed
        if row.ts > self._exchange_now_ms() + AHEAD_MS - (feed.interval_ms if feed.reduce is Reduce.CLOSED else 0):
            raise BadPayload(f"ts {row.ts} of {route.instrument.name} is not over by the exchange's clock")
        if feed.reduce in BARS and row.ts % feed.interval_ms:
            raise BadPayload(f"ts {row.ts} of {route.instrument.name} is not on the grid of {feed.interval}")

    def _complain(self, error: BadPayload, payload: bytes = b"") -> None:
        """Have an error recorded, those of one cause once a minute."""
        cause, now_s = fingerprint(error), monotonic_s()
        if now_s - self._said.get(cause, -COMPLAINT_S) < COMPLAINT_S:
            return
        if len(self._said) >= MOST_CAUSES:
            self._said.clear()
        self._said[cause] = now_s
        error.body = error.body or payload[:200].decode("utf-8", "replace")
        error.request = error.request or self._url
        log.warning("%s: %s", self._url, error)
        self._buffer.complain(self.name, error)


def _routes_of(feed: StreamFeed, routes: Mapping[str, Route], item: Json) -> Collection[Route]:
    """Return the route of an unreadable item, all routes of its topic where it does not name its instrument."""
    try:
        name = feed.instrument_name(item)
    except BadPayload:
        return routes.values()
    return [routes[name]] if name in routes else []


def requests_of(topics: list[str], size: int) -> list[list[str]]:
    """Cut topics into requests of at most `size` of them."""
    return [topics[at : at + size] for at in range(0, len(topics), size)]


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
