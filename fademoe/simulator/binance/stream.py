"""Binance's sockets: URLs, SUBSCRIBE, acks that do not prove that a stream exists, caps, pings, lifetime."""

import asyncio
from collections.abc import Mapping

import orjson

from fademoe.simulator.binance import listing as binance_listing
from fademoe.simulator.binance.feeds import FORCE_ORDERS, ForceOrders, KlineFeed, MarkPrices, wrap
from fademoe.simulator.exchange import Exchange
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.sockets import Socket

MOST_TOPICS = 1_024
MESSAGES_PER_SECOND = 10
KLINE_SUFFIX = "@kline_1m"
FORCE_SUFFIX = "@forceOrder"
CONTRACT_INFO = "!contractInfo"
MARK_ARRAYS = {"!markPrice@arr@1s": 1, "!markPrice@arr": 3}
MARK_SUFFIXES = {"@markPrice@1s": 1, "@markPrice": 3}


class BinanceStreams:
    """All sockets of the exchange and their streams."""

    def __init__(self, exchange: Exchange, marks: MarkPrices) -> None:
        """Serve the market of `exchange`."""
        self._exchange = exchange
        self._marks = marks
        self._force_orders = ForceOrders(exchange)
        self._running: set[str] = set()
        self._pings: set[asyncio.Task[None]] = set()
        instruments = exchange.market.world.list_instruments(exchange.name)
        self._by_stream = {instrument.name.lower(): instrument for instrument in instruments}

    def open(self, socket: Socket, path: str, query: Mapping[str, str]) -> None:
        """Subscribe to the streams in the URL; only /market has data, on other paths the streams stay silent."""
        parts = path.strip("/").split("/")
        socket.state["is_market"] = parts[0] == "market"
        if "stream" in parts[:2]:
            socket.is_wrapped = True
            names = query.get("streams", "").split("/")
        else:
            names = parts[parts.index("ws") + 1 :] if "ws" in parts[:2] else []
        self._subscribe(socket, [name for name in names if name])
        options, timeline = self._exchange.options, self._exchange.timeline
        now_ms = self._exchange.clock.now_ms()
        timeline.schedule(now_ms + int(options.binance_lifetime_s * 1000), lambda _: socket.close(1001, ""))
        self._schedule_ping(socket, now_ms)

    def receive(self, socket: Socket, text: str) -> None:
        """Answer a request; an ack means only that the request was read."""
        if self._is_too_fast(socket):
            socket.close(1008, "Too many requests")
            return
        try:
            request = orjson.loads(text)
        except orjson.JSONDecodeError:
            request = None
        if not isinstance(request, dict):
            socket.send(b'{"error":{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"}}')
            socket.close(1008, "Invalid request")
            return
        names = [str(name) for name in request.get("params") or []]
        if request.get("method") == "SUBSCRIBE" and self._exchange.take_topic_fault("unnamed_refusal", names):
            refusal = {"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": request.get("id")}
            socket.send(orjson.dumps(refusal))
            return
        answer = self._answer(socket, request.get("method"), request.get("params") or [])
        if "id" in request:
            answer["id"] = request["id"]
        if answer.pop("is_full", False):
            socket.send(b'{"error":{"code":4,"msg":"Too many subscriptions"}}')
            socket.close(1008, "Invalid request")
        elif not self._exchange.take_topic_fault("lost_ack", names):
            socket.send(orjson.dumps(answer))

    def restart(self) -> None:
        """Schedule all feeds again, after the timeline was cleared."""
        self._running.clear()
        self._force_orders.stop()
        now_ms = self._exchange.clock.now_ms()
        for topic in self._exchange.hub.list_topics():
            self._start(topic)
        for socket in self._exchange.hub.sockets:
            self._schedule_ping(socket, now_ms)

    def push_contract(self, instrument: Instrument) -> None:
        """Publish !contractInfo of a contract."""
        now_ms = self._exchange.clock.now_ms()
        payload = {
            "e": "contractInfo",
            "E": now_ms,
            "s": instrument.name,
            "ps": binance_listing.find_base_asset(instrument) + instrument.quote,
            "ct": binance_listing.find_contract_type(instrument, now_ms),
            "dt": instrument.delisted_ms or binance_listing.NEVER_MS,
            "ot": instrument.list_time_ms,
            "cs": binance_listing.find_status(instrument, now_ms),
            "st": 1,
        }
        self._exchange.hub.publish(CONTRACT_INFO, orjson.dumps(payload), wrap)

    def _answer(self, socket: Socket, method: object, params: list[object]) -> dict[str, object]:
        """Execute a request and return its answer; its member `is_full` means: close the socket."""
        names = [str(name) for name in params]
        if method == "SUBSCRIBE":
            return {"result": None, "is_full": not self._subscribe(socket, names)}
        if method == "UNSUBSCRIBE":
            for name in names:
                self._exchange.hub.unsubscribe(socket, name)
            return {"result": None}
        if method == "LIST_SUBSCRIPTIONS":
            return {"result": list(socket.topics)}
        if method == "SET_PROPERTY" and names[:1] == ["combined"] and len(params) == 2:
            socket.is_wrapped = bool(params[1])
            return {"result": None}
        return {"error": {"code": 2, "msg": f"Invalid request: unknown variant `{method}`"}}

    def _is_too_fast(self, socket: Socket) -> bool:
        """Count a message; tell whether it exceeds the messages allowed per second."""
        now_ms = self._exchange.clock.host_ms()
        recent = [at_ms for at_ms in socket.message_times_ms if at_ms > now_ms - 1_000]
        socket.message_times_ms = [*recent, now_ms]
        return len(socket.message_times_ms) > MESSAGES_PER_SECOND

    def _subscribe(self, socket: Socket, names: list[str]) -> bool:
        """Subscribe a socket to streams, unknown ones too; False when they exceed the cap."""
        for name in names:
            if name not in socket.topics and len(socket.topics) >= MOST_TOPICS:
                return False
            if socket.state["is_market"]:
                self._exchange.hub.subscribe(socket, name)
                self._start(name)
            else:
                socket.topics[name] = None
        return True

    def _start(self, topic: str) -> None:
        """Start the feed of a stream; unknown names, among them upper case ones, have no feed."""
        if topic in self._running:
            return
        if topic == FORCE_ORDERS or topic.endswith(FORCE_SUFFIX):
            self._force_orders.start()
        elif topic in MARK_ARRAYS:
            self._running.add(topic)
            self._marks.start(topic, MARK_ARRAYS[topic], None, self._running.discard)
        elif topic.endswith(KLINE_SUFFIX):
            instrument = self._by_stream.get(topic.removesuffix(KLINE_SUFFIX))
            if instrument is not None:
                self._running.add(topic)
                KlineFeed(self._exchange, topic, instrument, self._running.discard)
        else:
            self._start_mark(topic)

    def _start_mark(self, topic: str) -> None:
        """Start the mark price of one contract."""
        for suffix, seconds in MARK_SUFFIXES.items():
            instrument = self._by_stream.get(topic.removesuffix(suffix)) if topic.endswith(suffix) else None
            if instrument is not None:
                self._running.add(topic)
                self._marks.start(topic, seconds, [instrument], self._running.discard)

    def _schedule_ping(self, socket: Socket, now_ms: int) -> None:
        """Send a protocol ping with the time as payload at every interval while the socket is open."""

        def ping(at_ms: int) -> None:
            if socket in self._exchange.hub.sockets:
                task = asyncio.ensure_future(socket.ping(str(at_ms).encode()))
                self._pings.add(task)
                task.add_done_callback(self._pings.discard)
                self._schedule_ping(socket, at_ms)

        self._exchange.timeline.schedule(now_ms + int(self._exchange.options.binance_ping_s * 1000), ping)
