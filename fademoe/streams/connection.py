"""One socket: connect, subscribe, receive, watch, reconnect. The same for every exchange."""

import logging
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fademoe.clock import MINUTE_MS, SECOND_MS, floor_to, monotonic_s, to_host_s
from fademoe.errors import BadPayload, SourceError
from fademoe.feeds.instrument import Json
from fademoe.feeds.stream import Frame, Socket
from fademoe.signals import StopSignal
from fademoe.streams.address import Address
from fademoe.streams.buffer import Buffer
from fademoe.streams.intake import ErrorReports, Intake, Topic, list_routes
from fademoe.streams.liveness import Broken, Expected, Liveness
from fademoe.streams.minutes import GRACE_MS, LATE_MS, Minutes
from fademoe.streams.proofs import EventProofs, Unproven
from fademoe.streams.socket import LiveSocket, SocketError
from fademoe.streams.subscriptions import Change, Subscriptions

log = logging.getLogger(__name__)

CHECK_EVERY_S = 0.5  # of the clock and of the wish to stop
PING_EVERY_S = 20.0  # where the exchange names no other
AWAY_S = 15.0  # a process that did not run for so long knows not how old the frames are that wait for it
RESYNC_AFTER_S = 60.0  # the age of a session that is ended for a message that cannot be read: they may be many
SUBSCRIBED_MS = SECOND_MS  # a subscription is taken to hold so long after its request, where nothing confirms it
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
STABLE_AFTER_S = 10.0  # a shorter session does not count: exchanges limit the connections of some minutes


@dataclass
class Health:
    """What a connection tells of itself; read by the main thread."""

    connected: bool = False
    detail: str = "not connected yet"  # why it is not connected
    last_data_s: float = 0.0  # monotonic time of the newest data message, 0 before the first
    messages: int = 0
    reconnects: int = 0
    is_aged: bool = False  # the exchange will cut it soon: another one should take over
    contracts_changed: bool = False  # the exchange announced other terms than the list of contracts has
    silent_feeds: frozenset[str] = field(default_factory=frozenset)  # metrics whose events failed to come
    claims_from_ms: int | None = None  # from when on this session claims sums, once all topics are served or refused
    claimed_until_ms: int | None = None  # until when the sums of all topics are claimed


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What all connections of a stream share; `exchange_now_ms` gives the exchange's time."""

    buffer: Buffer
    stop: StopSignal
    exchange_now_ms: Callable[[], int]
    proofs: EventProofs = field(default_factory=EventProofs)


class Connection(threading.Thread):
    """Follows topics of one socket until ended; final rows go into the buffer."""

    def __init__(
        self,
        socket: Socket,
        address: Address,
        topics: Mapping[str, Topic],
        shared: Shared,
        wait_s: float = 0.0,
    ) -> None:
        """Prepare to follow `topics` at `address`, `wait_s` after the start."""
        super().__init__(name=f"socket {socket.name}", daemon=True)
        self.health = Health()
        self.opened_s = monotonic_s()
        self.topics = topics
        self.socket = socket
        self._address = address
        self._buffer = shared.buffer
        self._stop_signal = shared.stop
        self._exchange_now_ms = shared.exchange_now_ms
        self._proofs = shared.proofs
        self._wait_s = wait_s
        self._ended = threading.Event()
        self._retired = False
        self._errors = ErrorReports(self.name, address.url, shared.buffer, socket.decode)
        self._liveness = Liveness({name: Expected(feeds=tuple(topic)) for name, topic in topics.items()})
        routes = [route for topic in topics.values() for route in list_routes(topic)]
        self._followed = frozenset(route.series for route in routes)
        self._minutes = Minutes(routes, self._liveness.proving_feeds, self._proofs.take_left)
        self._intake = Intake(topics, self._minutes, shared.buffer, self._errors)
        self._subscriptions = self._new_subscriptions()
        self._frame_ms = 0  # exchange time of the newest frame of any kind
        self._data_ms = 0  # exchange time of the newest data
        self._pinged_ms = 0  # the newest minute at whose end a frame was asked for
        self._checked_s = 0.0  # monotonic time of the newest check of the clocks,
        self._checked_ms = 0  # and the exchange's

    def end(self) -> None:
        """Ask the connection to close; join it to wait for that."""
        self._ended.set()

    def retire(self) -> None:
        """Go on as long as the connection holds, and do not come back after it: another one takes over."""
        self._retired = True

    def run(self) -> None:
        """Connect again and again; pauses double up to a minute and start afresh after a session that had data.

        Whatever is raised ends the session; what is no fault of the exchange or of the network is recorded, too.
        """
        pause_s = FIRST_PAUSE_S
        self._ended.wait(self._wait_s)
        while not self._over():
            begin_s = monotonic_s()
            try:
                self._run_session()
            except Exception as error:
                if not isinstance(error, (Broken, SourceError, SocketError)):
                    log.exception("%s: the session is ended", self._address.url)
                    self._intake.discard(error, b"", self._frame_ms)
                if self._over() or self._retired:
                    break
                is_stable = self._liveness.had_data and monotonic_s() - begin_s > STABLE_AFTER_S
                pause_s = FIRST_PAUSE_S if is_stable else min(pause_s * 2, LONGEST_PAUSE_S)
                wait_s = pause_s * random.uniform(0.5, 1.0)
                self.health.connected = False
                self.health.detail = f"{self._address.url}: {error}; next try in {wait_s:.0f} s"
                self.health.silent_feeds = frozenset(self._liveness.silent_feeds)
                self.health.reconnects += 1
                log.warning("%s", self.health.detail)
                self._ended.wait(wait_s)
            finally:
                self.end_session()
        self.health.connected = False

    def _over(self) -> bool:
        return self._stop_signal.requested or self._ended.is_set()

    def _new_subscriptions(self) -> Subscriptions:
        socket = self.socket
        return Subscriptions(
            (*self.topics, *socket.announcements),
            topics_per_request=socket.topics_per_request,
            request_pause_s=socket.request_pause_s,
            acks=socket.acks,
        )

    def _run_session(self) -> None:
        """Follow the topics over one connection until it breaks or is to end."""
        self._liveness.begin(monotonic_s())
        line = LiveSocket.connect(self._address.resolve())
        try:
            self.begin_session(monotonic_s())
            log.info("%s: connected, %d topics", self._address.url, len(self.topics))
            for text in self.socket.opening:
                line.send(text)
            self._follow(line)
        finally:
            line.close()

    def begin_session(self, now_s: float) -> None:
        """Begin to follow the topics over a connection that is open now."""
        self._intake.begin_session()
        self._liveness.begin(now_s)
        self._checked_s, self._checked_ms = now_s, self._exchange_now_ms()
        self._subscriptions = self._new_subscriptions()
        self.health.last_data_s = now_s
        self.health.claims_from_ms = self.health.claimed_until_ms = None
        self.health.connected = True

    def end_session(self) -> None:
        """Drop open minutes; those that only an event had still to prove wait for one on the next connection.

        What came late until now changes rows all the same. What comes later for the minutes of a connection that does
        not come back, the one that takes over adds to them.
        """
        if changed := self._minutes.take_changed():
            self._buffer.put(changed)
        sure_ms = min(self._exchange_now_ms() - GRACE_MS, self._proved_ms(), self._frame_ms - LATE_MS)
        final, unproven = self._minutes.end_session(sure_ms)
        if final:
            self._buffer.put(final)
        self._proofs.hold([Unproven(*each) for each in unproven])
        if self._over() or self._retired:
            self._proofs.leave(self._minutes.get_closed_sums(), self._exchange_now_ms())

    def _proved_ms(self) -> int:
        """Return until when the connection proved to be alive; a sample that was held up proves its own time alone."""
        if not self._liveness.is_continuous:
            return self._frame_ms
        sampled_ms = self._intake.sampled_ms
        return self._data_ms if sampled_ms is None else min(self._data_ms, sampled_ms)

    def _follow(self, line: LiveSocket) -> None:
        now_s = check_s = monotonic_s()
        ping_s = now_s + self._ping_every_s
        while not self._over():
            while text := self.take_request(now_s):
                line.send(text)
            if now_s >= check_s:
                check_s = now_s + CHECK_EVERY_S
                self.check_clocks(now_s)
                self.check(now_s)
                if now_s >= ping_s or self._needs_frame():
                    ping_s = now_s + self._ping_every_s
                    self._ping(line)
            payload = line.receive()
            now_s = monotonic_s()
            if payload is not None:
                reply = self.take(payload, now_s, self.check_clocks(now_s))
                if reply is not None:
                    line.send(reply)

    @property
    def _ping_every_s(self) -> float:
        return self.socket.ping_every_s if self.socket.ping_text else PING_EVERY_S

    def _ping(self, line: LiveSocket) -> None:
        if self.socket.ping_text:
            line.send(self.socket.ping_text)
        else:
            line.ping()

    def _needs_frame(self) -> bool:
        """Return, once a minute, whether its sums wait for a frame that comes behind the last events: a pong is one."""
        minute_ms = floor_to(self._checked_ms - LATE_MS, MINUTE_MS)
        is_new = minute_ms > self._pinged_ms
        self._pinged_ms = minute_ms
        return is_new and self._minutes.get_claimed_until_ms() is not None

    def check_clocks(self, now_s: float) -> int:
        """Compare the clocks at the monotonic time `now_s`, before a frame is taken or a minute is claimed.

        Returns the exchange's time in ms. Raises Broken when that moved by more than GRACE_MS against the monotonic
        clock, as after a sleep of the host or a correction of that time: this session then claims no more. Raises
        Broken, too, when the last check was more than AWAY_S ago, as after a stop of the process: frames may have
        waited, so nothing later than that check is claimed.
        """
        exchange_ms = self._exchange_now_ms()
        away_s = now_s - self._checked_s
        step_s = (exchange_ms - self._checked_ms) / SECOND_MS - away_s
        sure_ms, self._checked_s, self._checked_ms = self._checked_ms, now_s, exchange_ms
        if to_host_s(abs(step_s)) > GRACE_MS / SECOND_MS:
            self._frame_ms = self._data_ms = 0
            raise Broken(f"the exchange's time went {step_s:+.0f} s against this machine's clock")
        if to_host_s(away_s) > AWAY_S:
            self._frame_ms, self._data_ms = min(self._frame_ms, sure_ms), min(self._data_ms, sure_ms)
            raise Broken(f"this process did not run for {away_s:.0f} s")
        return exchange_ms

    def take_request(self, now_s: float) -> str | None:
        """Return the text of the request that is to be sent now, None while there is none."""
        request = self._subscriptions.take_request(now_s)
        if request is None:
            return None
        number, topics = request
        if not self.socket.acks:
            self._apply(Change(served=tuple(topics)), delay_ms=SUBSCRIBED_MS)
        return self.socket.subscribe(topics, number)

    def check(self, now_s: float) -> None:
        """Close minutes that are over; raise Broken when the connection, a topic or a feed is silent."""
        items = self._minutes.close(self._exchange_now_ms(), self._proved_ms(), self._frame_ms)
        if items:
            self._buffer.put(items)
        self._ask_again(now_s)
        self._note_claims()
        for topic in self._liveness.check(now_s):
            self._errors.add(BadPayload(f"{topic} never has data: the exchange may not know it"))
        if self._intake.state_invalid and self._liveness.compute_age_s(now_s) > RESYNC_AFTER_S:
            raise Broken("a message could not be read, so what has changed since is not known")
        renew_s = self.socket.renew_after_s
        self.health.is_aged |= renew_s is not None and self._liveness.compute_age_s(now_s) > renew_s

    def _ask_again(self, now_s: float) -> None:
        """Ask again for topics that are not confirmed."""
        has_answers = self._subscriptions.acked_any
        change = self._subscriptions.retry_overdue(now_s)
        if change.refused:
            text = f"{len(change.refused)} topics are not confirmed, the first is {change.refused[0]}"
            self._errors.add(BadPayload(text))
        self._apply(change, delay_ms=0 if has_answers else SUBSCRIBED_MS)

    def _note_claims(self) -> None:
        """Tell from when and until when the sums of this session are claimed, once that is certain."""
        if self._subscriptions.is_settled:
            if self.health.claims_from_ms is None:
                self.health.claims_from_ms = self._minutes.get_claims_from_ms()
            self.health.claimed_until_ms = self._minutes.get_claimed_until_ms()

    def take(self, payload: bytes, now_s: float, exchange_ms: int) -> str | None:
        """Sort one message and hand its rows on; return what the exchange wants to be answered at once.

        `now_s` is the monotonic time and `exchange_ms` the exchange's at which it came.
        """
        self._frame_ms = exchange_ms
        self._liveness.on_frame(now_s)
        if not payload or payload == b"pong":
            return None
        try:
            message = self.socket.decode(payload)
            frame = self.socket.route(message)
        except BadPayload as error:
            self._intake.discard(error, payload, self._frame_ms)
            return None
        except ValueError:
            self._intake.discard(BadPayload("a message is not JSON"), payload, self._frame_ms)
            return None
        topic = frame.topic
        if topic is not None and topic in self.topics and frame.fault is None:
            self._take_data(topic, frame, message, payload, now_s)
        else:
            self._take_control(frame, payload, now_s)
        return frame.reply

    def _take_data(self, topic: str, frame: Frame, message: Json, payload: bytes, now_s: float) -> None:
        self._data_ms = self._frame_ms
        self._liveness.on_data(topic, now_s)
        self.health.last_data_s = now_s
        self.health.messages += 1
        if topic in self._subscriptions.unserved:
            self._apply(self._subscriptions.on_data([topic]))
        if frame.odd is not None:
            self._intake.discard(BadPayload(frame.odd), payload, self._frame_ms, topic)
            return
        for feed in self._intake.take(topic, frame, message, payload, self._frame_ms):
            self._minutes.on_event(feed, self._frame_ms)
            self._liveness.on_event(feed, now_s)
            if items := self._proofs.on_event(feed, self._frame_ms, self._followed):
                self._buffer.put(self._minutes.prove(items))

    def _take_control(self, frame: Frame, payload: bytes, now_s: float) -> None:
        if frame.contracts and self._intake.change_terms(frame.contracts, self._frame_ms):
            self.health.contracts_changed = True
        if frame.renew:
            log.info("%s: the exchange asks for a new connection", self._address.url)
            self.health.is_aged = True
        if frame.acked:
            self._apply(self._subscriptions.on_ack(frame.acked))
        if frame.fault is not None or frame.void:
            self._apply(self._subscriptions.on_reject(frame.topic, frame.request, now_s))
        elif frame.request is not None:
            self._apply(self._subscriptions.on_ack(request=frame.request))
        if frame.odd is not None:
            self._errors.add(BadPayload(frame.odd), payload)
        if frame.fault is not None:
            self._errors.add(BadPayload(f"the exchange reports a fault: {frame.fault}"), payload)

    def _apply(self, change: Change, *, delay_ms: int = 0) -> None:
        """Claim events of the topics that are served, and nothing of those that are not."""
        for topic in change.served:
            self._minutes.watch(list_routes(self.topics.get(topic, {})), self._exchange_now_ms() + delay_ms)
        for topic in (*change.refused, *change.again):
            self._minutes.unwatch(list_routes(self.topics.get(topic, {})))
        for topic in change.refused:
            self._liveness.ignore(topic)
