"""OKX's sockets: two URLs, one ack per topic, errors that name their topic in the text only, text pings."""

import orjson

from fademoe.simulator.clock import HOUR_MS, Clock
from fademoe.simulator.exchange import Exchange
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.noise import draw_number
from fademoe.simulator.okx import listing as okx_listing
from fademoe.simulator.okx.feeds import CandleFeed, Feed, FundingFeed, InterestFeed, LiquidationFeed
from fademoe.simulator.sockets import Socket

REQUESTS_PER_HOUR = 480
LARGEST_REQUEST = 65_536
CONNECTIONS_PER_SECOND = 3
LIQUIDATIONS = "liquidation-orders"
INSTRUMENTS = "instruments:SWAP"
BY_CONTRACT: dict[str, tuple[str, type[Feed]]] = {
    "candle1m": ("business", CandleFeed),
    "funding-rate": ("public", FundingFeed),
    "open-interest": ("public", InterestFeed),
}
SILENCE_CHECK_MS = 1_000  # time between two checks for silent sockets


class OkxStreams:
    """All sockets of the exchange and their topics."""

    def __init__(self, exchange: Exchange) -> None:
        """Serve the market of `exchange`."""
        self._exchange = exchange
        self._feeds: dict[str, Feed] = {}
        self._pushed_ms: dict[str, int] = {}  # topic -> host time of its newest message
        self._opened_ms: dict[str, list[int]] = {}  # address -> host times of its newest connections
        self._is_checking = False

    def open(self, socket: Socket, path: str) -> None:
        """Register a socket; abort it when its address connects too often."""
        exchange, host_ms = self._exchange, Clock.host_ms()
        recent = [at_ms for at_ms in self._opened_ms.get(socket.ip, []) if at_ms > host_ms - 1_000]
        self._opened_ms[socket.ip] = [*recent, host_ms]
        if exchange.options.limits and len(recent) >= CONNECTIONS_PER_SECOND:
            socket.abort()
            return
        socket.state["endpoint"] = path.rstrip("/").rpartition("/")[2]
        socket.state["id"] = f"{draw_number(exchange.market.seed, 'socket', exchange.stats.sockets_opened):016x}"[:8]
        socket.state["last_message_ms"] = host_ms
        self._schedule_notice(socket, exchange.clock.now_ms())
        if not self._is_checking:
            self._is_checking = True
            exchange.timeline.schedule(exchange.clock.now_ms() + SILENCE_CHECK_MS, self._close_silent_sockets)

    def receive(self, socket: Socket, text: str) -> None:
        """Answer a ping or a request."""
        socket.state["last_message_ms"] = Clock.host_ms()
        if text == "ping":
            socket.send(b"pong")
            return
        try:
            request = orjson.loads(text)
        except orjson.JSONDecodeError:
            request = None
        arguments = request.get("args") if isinstance(request, dict) else None
        if not isinstance(request, dict) or not isinstance(arguments, list) or len(text) > LARGEST_REQUEST:
            self._fail(socket, {}, 60012, f"Illegal request: {text[:200]}")
        elif request.get("op") not in ("subscribe", "unsubscribe"):
            self._fail(socket, request, 60019, f"Invalid op: {request.get('op')}")
        elif self._is_too_often(socket):
            self._fail(socket, request, 60014, "Requests too frequent")
        else:
            topics = [topic for topic in (self._topic(socket, argument) for argument in arguments) if topic]
            if self._exchange.take_topic_fault("unnamed_refusal", topics):
                self._fail(socket, request, 60012, "Illegal request")
                return
            unknown = [argument for argument in arguments if self._topic(socket, argument) is None]
            is_void = bool(unknown) and self._exchange.options.okx_void_requests
            for argument in unknown[:1] if is_void else arguments:
                self._execute(socket, request, argument)

    def restart(self) -> None:
        """Schedule all feeds again, after the timeline was cleared."""
        self._feeds.clear()
        now_ms = self._exchange.clock.now_ms()
        for topic in self._exchange.hub.list_topics():
            self._start(topic)
        for socket in self._exchange.hub.sockets:
            self._schedule_notice(socket, now_ms)
        self._exchange.timeline.schedule(now_ms + SILENCE_CHECK_MS, self._close_silent_sockets)
        self._is_checking = True

    def forget_contract(self, instrument: Instrument) -> None:
        """Restart the feeds of a contract that has changed."""
        announced = okx_listing.encode_announcement(self._exchange.market, [instrument], self._exchange.clock.now_ms())
        self.publish(INSTRUMENTS, announced)
        for channel in BY_CONTRACT:
            topic = f"{channel}:{instrument.name}"
            feed = self._feeds.pop(topic, None)
            if feed is not None:
                feed.end()
                self._start(topic)

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish a message and note its time."""
        self._pushed_ms[topic] = Clock.host_ms()
        self._exchange.hub.publish(topic, payload)

    def _execute(self, socket: Socket, request: dict[str, object], argument: object) -> None:
        """Subscribe or unsubscribe one topic and acknowledge it."""
        topic = self._topic(socket, argument)
        if topic is None or not isinstance(argument, dict):
            named = (
                ",".join(f"{name}:{value}" for name, value in argument.items()) if isinstance(argument, dict) else ""
            )
            text = f"Subscribe failed, wrong URL or channel: {named.removeprefix('channel:')} doesn't exist."
            tail = " Please use the correct URL, channel and parameters referring to API document."
            self._fail(socket, request, 60018, text + tail)
            return
        answer = {"event": request["op"], "arg": argument, "connId": socket.state["id"]}
        if not self._exchange.take_topic_fault("lost_ack", [topic]):
            socket.send(orjson.dumps(_with_id(request, answer)))
        if request["op"] == "unsubscribe":
            self._exchange.hub.unsubscribe(socket, topic)
            return
        self._exchange.hub.subscribe(socket, topic)
        if topic == INSTRUMENTS:
            exchange = self._exchange
            swaps = [each for each in exchange.market.world.list_instruments(exchange.name) if each.kind != "dated"]
            socket.send(okx_listing.encode_announcement(exchange.market, swaps, exchange.clock.now_ms()))
            return
        feed = self._feeds.get(topic)
        if feed is None or feed.is_over:
            self._start(topic)
        elif feed.newest:
            socket.send(feed.newest)

    def _topic(self, socket: Socket, argument: object) -> str | None:
        """Return the topic of a request's argument; None when this URL has no such topic."""
        if not isinstance(argument, dict):
            return None
        channel, endpoint = argument.get("channel"), socket.state.get("endpoint")
        if f"{channel}:{argument.get('instType')}" == INSTRUMENTS:
            return INSTRUMENTS if endpoint == "public" else None
        if channel == LIQUIDATIONS:
            is_good = endpoint == "public" and argument.get("instType") in ("SWAP", "FUTURES")
            return f"{LIQUIDATIONS}:{argument['instType']}" if is_good else None
        instrument = self._exchange.market.world.find_instrument(self._exchange.name, str(argument.get("instId")))
        if str(channel) not in BY_CONTRACT or BY_CONTRACT[str(channel)][0] != endpoint or instrument is None:
            return None
        now_ms = self._exchange.clock.now_ms()
        is_gone = instrument.delisted_ms is not None and now_ms >= instrument.delisted_ms
        return None if is_gone or not okx_listing.is_known(instrument, now_ms) else f"{channel}:{instrument.name}"

    def _start(self, topic: str) -> None:
        """Start the feed of a topic."""
        channel, _, what = topic.partition(":")
        if topic == INSTRUMENTS:
            return
        if channel == LIQUIDATIONS:
            if what == "SWAP":  # dated contracts have no liquidations
                self._feeds[topic] = LiquidationFeed(self._exchange, topic, self.publish)
            return
        instrument = self._exchange.market.world.find_instrument(self._exchange.name, what)
        if instrument is not None:
            self._feeds[topic] = feed = BY_CONTRACT[channel][1](self._exchange, topic, self.publish)
            feed.follow(instrument)

    def _fail(self, socket: Socket, request: dict[str, object], code: int, text: str) -> None:
        """Send an error; errors have no `arg`."""
        answer = {"event": "error", "code": str(code), "msg": text, "connId": socket.state.get("id", "")}
        socket.send(orjson.dumps(_with_id(request, answer)))

    def _is_too_often(self, socket: Socket) -> bool:
        """Count a request; tell whether it exceeds the requests allowed per hour."""
        host_ms = Clock.host_ms()
        socket.message_times_ms = [*(at_ms for at_ms in socket.message_times_ms if at_ms > host_ms - HOUR_MS), host_ms]
        return bool(self._exchange.options.limits) and len(socket.message_times_ms) > REQUESTS_PER_HOUR

    def _close_silent_sockets(self, now_ms: int) -> None:
        """Close the sockets without a ping and without data for too long; schedule the next check."""
        sockets = self._exchange.hub.sockets
        late_ms = Clock.host_ms() - int(self._exchange.options.okx_silence_s * 1000)
        for socket in list(sockets):
            last_message_ms = socket.state.get("last_message_ms", 0)
            is_alive = isinstance(last_message_ms, int) and last_message_ms > late_ms
            if not is_alive and not any(self._pushed_ms.get(topic, 0) > late_ms for topic in socket.topics):
                socket.close(4004, f"No data received in {self._exchange.options.okx_silence_s:.0f}s.")
        self._is_checking = bool(sockets)
        if sockets:
            self._exchange.timeline.schedule(now_ms + SILENCE_CHECK_MS, self._close_silent_sockets)

    def _schedule_notice(self, socket: Socket, now_ms: int) -> None:
        """Schedule the notice to a /public socket and the end of its connection."""
        options = self._exchange.options
        if not options.okx_notice_after_s or socket.state.get("endpoint") != "public":
            return

        def end(_now_ms: int) -> None:
            socket.close(1001, "service upgrade")

        def announce(at_ms: int) -> None:
            text = "The connection will soon be closed for a service upgrade. Please reconnect."
            notice = {"event": "notice", "code": "64008", "msg": text, "connId": socket.state["id"]}
            socket.send(orjson.dumps(notice))
            self._exchange.timeline.schedule(at_ms + int(options.okx_notice_s * 1000), end)

        self._exchange.timeline.schedule(now_ms + int(options.okx_notice_after_s * 1000), announce)


def _with_id(request: dict[str, object], answer: dict[str, object]) -> dict[str, object]:
    """Add the request's id, if it has one."""
    return {"id": request["id"], **answer} if "id" in request else answer
