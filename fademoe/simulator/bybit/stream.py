"""Bybit's sockets: subscriptions that are granted or refused as a whole, text pings, and a timeout for idle sockets."""

import itertools
from collections.abc import Sequence

import orjson

from fademoe.simulator.bybit.feeds import KlineFeed, LiquidationFeed
from fademoe.simulator.bybit.tickers import TickerFeed
from fademoe.simulator.exchange import Exchange
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.sockets import Socket

SILENCE_LIMIT_MS = 600_000  # without a message of its client, a socket with topics is cut after this time
TICKERS = "tickers."
Feed = KlineFeed | TickerFeed | LiquidationFeed
FEEDS: dict[str, type[Feed]] = {"kline.1.": KlineFeed, TICKERS: TickerFeed, "allLiquidation.": LiquidationFeed}
SILENT = ("publicTrade.", "orderbook.1.", "orderbook.50.", "orderbook.200.", "orderbook.500.")  # topics without data


class BybitStreams:
    """All sockets of the exchange and their topics."""

    def __init__(self, exchange: Exchange) -> None:
        """Serve the market of `exchange`."""
        self._exchange = exchange
        self._feeds: dict[str, Feed] = {}
        self._numbers = itertools.count(1)

    def open(self, socket: Socket) -> None:
        """Register a socket and start its idle timeout; no greeting is sent."""
        socket.state["conn_id"] = f"d9tcajmgcca9r5l6sugg-{next(self._numbers):05x}"
        self._note_message(socket)
        self._check_idle(socket)

    def receive(self, socket: Socket, text: str) -> None:
        """Answer a request; there is one answer for all its topics."""
        self._note_message(socket)
        try:
            request = orjson.loads(text)
        except orjson.JSONDecodeError:
            request = None
        if not isinstance(request, dict):
            self._answer(socket, {}, f"Failed to decode incoming data:{text[:50]}", is_good=False)
            return
        op = request.get("op")
        names = [name for name in request.get("args") or [] if isinstance(name, str)]
        if op == "ping":
            self._answer(socket, request, "pong")
        elif op == "subscribe":
            self._subscribe(socket, request, names)
        elif op == "unsubscribe":
            for name in names:
                self._exchange.hub.unsubscribe(socket, name)
            self._answer(socket, request, "")
        else:
            self._answer(socket, request, "error:invalid op", is_good=False)

    def restart(self) -> None:
        """Schedule all feeds again, after the timeline was cleared."""
        self._feeds.clear()
        for topic in self._exchange.hub.list_topics():
            self._start(topic)
        for socket in self._exchange.hub.sockets:
            self._note_message(socket)
            self._check_idle(socket)

    def _subscribe(self, socket: Socket, request: dict[str, object], names: Sequence[str]) -> None:
        """Subscribe a socket to all topics of a request, or to none: the first invalid topic voids the request."""
        refusal = self._refusal(socket, names)
        if self._exchange.take_topic_fault("unnamed_refusal", names):
            refusal = f"Invalid symbol :[{len(names)} topics]"
        if refusal:
            self._answer(socket, request, refusal, is_good=False)
            return
        hub, now_ms = self._exchange.hub, self._exchange.clock.now_ms()
        for name in names:
            hub.subscribe(socket, name)
        if not self._exchange.take_topic_fault("lost_ack", names):
            self._answer(socket, request, "")
        for name in names:
            self._start(name)
            feed = self._feeds.get(name)
            if isinstance(feed, TickerFeed):
                socket.send(feed.encode_snapshot(now_ms))

    def _refusal(self, socket: Socket, names: Sequence[str]) -> str:
        """Return why a subscription is refused, "" when it is granted.

        Unknown of the real exchange: what happens above 21,000 characters. Here the request is refused.
        """
        topics = set(socket.topics)
        for name in names:
            if name in topics:
                return f"error:already subscribed,topic:{name}"
            if not self._is_known(name):
                return f"error:handler not found,topic:{name}"
            topics.add(name)
        length = sum(map(len, topics))
        return "error:args size exceeded" if length > self._exchange.options.bybit_args_limit else ""

    def _is_known(self, topic: str) -> bool:
        """Tell whether a topic exists: a known channel, and a contract in upper case that has not ended."""
        kind = next((kind for kind in (*FEEDS, *SILENT) if topic.startswith(kind)), None)
        instrument = self._instrument(topic.removeprefix(kind)) if kind else None
        now_ms = self._exchange.clock.now_ms()
        return instrument is not None and (instrument.delisted_ms is None or now_ms < instrument.delisted_ms)

    def _instrument(self, name: str) -> Instrument | None:
        """Return a contract by name; None when it is not listed."""
        return self._exchange.market.world.find_instrument(self._exchange.name, name)

    def _start(self, topic: str) -> None:
        """Start the feed of a topic unless it runs; a feed without subscribers has stopped by itself."""
        if topic in self._feeds:
            return
        for kind, make in FEEDS.items():
            if topic.startswith(kind):
                self._feeds[topic] = make(self._exchange, topic, topic.removeprefix(kind), self._forget)

    def _forget(self, topic: str) -> None:
        """Remove a stopped feed."""
        self._feeds.pop(topic, None)

    def _answer(self, socket: Socket, request: dict[str, object], text: str, *, is_good: bool = True) -> None:
        """Answer a request with its own id and op."""
        answer = {
            "success": is_good,
            "ret_msg": text,
            "conn_id": socket.state["conn_id"],
            "req_id": request.get("req_id") or "",
            "op": request.get("op") or "",
        }
        socket.send(orjson.dumps(answer))

    def _note_message(self, socket: Socket) -> None:
        """Note the time of a client's message."""
        socket.state["last_message_ms"] = self._exchange.clock.now_ms()

    def _check_idle(self, socket: Socket) -> None:
        """Cut the socket without a close frame when its client was silent for too long; else check again later."""
        if socket not in self._exchange.hub.sockets:
            return
        now_ms = self._exchange.clock.now_ms()
        limit_ms = SILENCE_LIMIT_MS if socket.topics else int(self._exchange.options.bybit_idle_s * 1000)
        last_message_ms = socket.state["last_message_ms"]
        assert isinstance(last_message_ms, int)
        if now_ms - last_message_ms >= limit_ms:
            socket.abort()
        else:
            due_ms = min(last_message_ms + limit_ms, now_ms + int(self._exchange.options.bybit_idle_s * 1000))
            self._exchange.timeline.schedule(due_ms, lambda _: self._check_idle(socket))
