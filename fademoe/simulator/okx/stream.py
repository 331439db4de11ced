"""OKX's sockets: two addresses, one ack for each topic, errors that name theirs in the text alone, text pings."""

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
LOOK_MS = 1_000  # between two looks for sockets that are silent


class OkxStreams:
    """All sockets of the exchange and what flows to them."""

    def __init__(self, exchange: Exchange) -> None:
        """Serve the exchange's market."""
        self._exchange = exchange
        self._feeds: dict[str, Feed] = {}
        self._pushed_ms: dict[str, int] = {}  # topic -> host time of its newest message
        self._opened_ms: dict[str, list[int]] = {}  # address -> host times of its newest connections
        self._is_looking = False

    def open(self, socket: Socket, path: str) -> None:
        """Greet a socket; an address that connects too fast is cut off."""
        exchange, host_ms = self._exchange, Clock.host_ms()
        recent = [at_ms for at_ms in self._opened_ms.get(socket.ip, []) if at_ms > host_ms - 1_000]
        self._opened_ms[socket.ip] = [*recent, host_ms]
        if exchange.options.limits and len(recent) >= CONNECTIONS_PER_SECOND:
            socket.abort()
            return
        socket.memory["endpoint"] = path.rstrip("/").rpartition("/")[2]
        socket.memory["id"] = f"{draw_number(exchange.market.seed, 'socket', exchange.stats.sockets_opened):016x}"[:8]
        socket.memory["heard_ms"] = host_ms
        self._schedule_notice(socket, exchange.clock.now_ms())
        if not self._is_looking:
            self._is_looking = True
            exchange.timeline.schedule(exchange.clock.now_ms() + LOOK_MS, self._look)

    def receive(self, socket: Socket, text: str) -> None:
        """Answer a ping or a request."""
        socket.memory["heard_ms"] = Clock.host_ms()
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
            topics = [topic for topic in (self._topic(socket, each) for each in arguments) if topic]
            if self._exchange.take_topic_fault("unnamed_refusal", topics):
                self._fail(socket, request, 60012, "Illegal request")
                return
            unknown = [each for each in arguments if self._topic(socket, each) is None]
            is_void = bool(unknown) and self._exchange.options.okx_void_requests
            for argument in unknown[:1] if is_void else arguments:
                self._carry_out(socket, request, argument)

    def restart(self) -> None:
        """Schedule all feeds anew, as the timeline has been cleared."""
        self._feeds.clear()
        now_ms = self._exchange.clock.now_ms()
        for topic in self._exchange.hub.list_topics():
            self._start(topic)
        for socket in self._exchange.hub.sockets:
            self._schedule_notice(socket, now_ms)
        self._exchange.timeline.schedule(now_ms + LOOK_MS, self._look)
        self._is_looking = True

    def forget_contract(self, instrument: Instrument) -> None:
        """Announce a change of a contract, and let feeds begin anew that know it as it was before."""
        announced = okx_listing.announcement(self._exchange.market, [instrument], self._exchange.clock.now_ms())
        self.publish(INSTRUMENTS, announced)
        for channel in BY_CONTRACT:
            topic = f"{channel}:{instrument.name}"
            feed = self._feeds.pop(topic, None)
            if feed is not None:
                feed.end()
                self._start(topic)

    def publish(self, topic: str, payload: bytes) -> None:
        """Send to all who hear a topic."""
        self._pushed_ms[topic] = Clock.host_ms()
        self._exchange.hub.publish(topic, payload)

    def _carry_out(self, socket: Socket, request: dict[str, object], argument: object) -> None:
        """Subscribe or unsubscribe one topic and say so."""
        topic = self._topic(socket, argument)
        if topic is None or not isinstance(argument, dict):
            named = (
                ",".join(f"{name}:{value}" for name, value in argument.items()) if isinstance(argument, dict) else ""
            )
            text = f"Subscribe failed, wrong URL or channel: {named.removeprefix('channel:')} doesn't exist."
            tail = " Please use the correct URL, channel and parameters referring to API document."
            self._fail(socket, request, 60018, text + tail)
            return
        answer = {"event": request["op"], "arg": argument, "connId": socket.memory["id"]}
        if not self._exchange.take_topic_fault("lost_ack", [topic]):
            socket.send(orjson.dumps(_with_id(request, answer)))
        if request["op"] == "unsubscribe":
            self._exchange.hub.unsubscribe(socket, topic)
            return
        self._exchange.hub.subscribe(socket, topic)
        if topic == INSTRUMENTS:
            exchange = self._exchange
            swaps = [each for each in exchange.market.world.list_instruments(exchange.name) if each.kind != "dated"]
            socket.send(okx_listing.announcement(exchange.market, swaps, exchange.clock.now_ms()))
            return
        feed = self._feeds.get(topic)
        if feed is None or feed.is_over:
            self._start(topic)
        elif feed.newest:
            socket.send(feed.newest)

    def _topic(self, socket: Socket, argument: object) -> str | None:
        """Return the topic of a request's argument, None when there is no such topic at this address."""
        if not isinstance(argument, dict):
            return None
        channel, endpoint = argument.get("channel"), socket.memory.get("endpoint")
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
        """Start what feeds a topic."""
        channel, _, what = topic.partition(":")
        if topic == INSTRUMENTS:
            return
        if channel == LIQUIDATIONS:
            if what == "SWAP":  # nothing happens on the others
                self._feeds[topic] = LiquidationFeed(self._exchange, topic, self.publish)
            return
        instrument = self._exchange.market.world.find_instrument(self._exchange.name, what)
        if instrument is not None:
            self._feeds[topic] = feed = BY_CONTRACT[channel][1](self._exchange, topic, self.publish)
            feed.follow(instrument)

    def _fail(self, socket: Socket, request: dict[str, object], code: int, text: str) -> None:
        """Send an error, which has no arg."""
        answer = {"event": "error", "code": str(code), "msg": text, "connId": socket.memory.get("id", "")}
        socket.send(orjson.dumps(_with_id(request, answer)))

    def _is_too_often(self, socket: Socket) -> bool:
        """Count a request and tell whether it is one too many within the hour."""
        host_ms = Clock.host_ms()
        socket.arrivals = [*(at_ms for at_ms in socket.arrivals if at_ms > host_ms - HOUR_MS), host_ms]
        return bool(self._exchange.options.limits) and len(socket.arrivals) > REQUESTS_PER_HOUR

    def _look(self, now_ms: int) -> None:
        """End the sockets that have neither pinged nor got data for too long."""
        sockets = self._exchange.hub.sockets
        late_ms = Clock.host_ms() - int(self._exchange.options.okx_silence_s * 1000)
        for socket in list(sockets):
            heard_ms = socket.memory.get("heard_ms", 0)
            is_heard = isinstance(heard_ms, int) and heard_ms > late_ms
            if not is_heard and not any(self._pushed_ms.get(topic, 0) > late_ms for topic in socket.topics):
                socket.close(4004, f"No data received in {self._exchange.options.okx_silence_s:.0f}s.")
        self._is_looking = bool(sockets)
        if sockets:
            self._exchange.timeline.schedule(now_ms + LOOK_MS, self._look)

    def _schedule_notice(self, socket: Socket, now_ms: int) -> None:
        """Announce the end of a /public socket, and bring it."""
        options = self._exchange.options
        if not options.okx_notice_after_s or socket.memory.get("endpoint") != "public":
            return

        def end(_now_ms: int) -> None:
            socket.close(1001, "service upgrade")

        def announce(at_ms: int) -> None:
            text = "The connection will soon be closed for a service upgrade. Please reconnect."
            notice = {"event": "notice", "code": "64008", "msg": text, "connId": socket.memory["id"]}
            socket.send(orjson.dumps(notice))
            self._exchange.timeline.schedule(at_ms + int(options.okx_notice_s * 1000), end)

        self._exchange.timeline.schedule(now_ms + int(options.okx_notice_after_s * 1000), announce)


def _with_id(request: dict[str, object], answer: dict[str, object]) -> dict[str, object]:
    """Repeat the request's id, if it has one."""
    return {"id": request["id"], **answer} if "id" in request else answer
