"""Bybit's sockets: subscriptions that are granted or refused as a whole, text pings, and idle ones that are cut."""

import itertools
from collections.abc import Sequence

import orjson

from fademoe.simulator.bybit.feeds import KlineFeed, LiquidationFeed
from fademoe.simulator.bybit.tickers import TickerFeed
from fademoe.simulator.exchange import Exchange
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.sockets import Socket

MUTE_MS = 600_000  # a socket with topics, but without a message of its client for so long, is cut
TICKERS = "tickers."
Feed = KlineFeed | TickerFeed | LiquidationFeed
FEEDS: dict[str, type[Feed]] = {"kline.1.": KlineFeed, TICKERS: TickerFeed, "allLiquidation.": LiquidationFeed}
SILENT = ("publicTrade.", "orderbook.1.", "orderbook.50.", "orderbook.200.", "orderbook.500.")  # exist, send nothing


class BybitStreams:
    """All sockets of the exchange and what flows to them."""

    def __init__(self, exchange: Exchange) -> None:
        """Serve the exchange's market."""
        self._exchange = exchange
        self._feeds: dict[str, Feed] = {}
        self._numbers = itertools.count(1)

    def open(self, socket: Socket) -> None:
        """Greet nobody, and watch the socket."""
        socket.memory["conn_id"] = f"d9tcajmgcca9r5l6sugg-{next(self._numbers):05x}"
        self._hear(socket)
        self._watch(socket)

    def receive(self, socket: Socket, text: str) -> None:
        """Answer a request; one answer for all its topics."""
        self._hear(socket)
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
        """Schedule all feeds anew, as the timeline has been cleared."""
        self._feeds.clear()
        for topic in self._exchange.hub.list_topics():
            self._start(topic)
        for socket in self._exchange.hub.sockets:
            self._hear(socket)
            self._watch(socket)

    def _subscribe(self, socket: Socket, request: dict[str, object], names: Sequence[str]) -> None:
        """Let the socket hear the topics, or none of them: the first that is wrong voids the whole request."""
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
        """Return why a subscription is refused, "" when it is not.

        What happens above 21,000 characters is not known; here the request is refused.
        """
        seen = set(socket.topics)
        for name in names:
            if name in seen:
                return f"error:already subscribed,topic:{name}"
            if not self._is_known(name):
                return f"error:handler not found,topic:{name}"
            seen.add(name)
        length = sum(map(len, seen))
        return "error:args size exceeded" if length > self._exchange.options.bybit_args_limit else ""

    def _is_known(self, topic: str) -> bool:
        """Tell whether a topic exists: a known kind, and a contract that has not ended, in upper case."""
        kind = next((kind for kind in (*FEEDS, *SILENT) if topic.startswith(kind)), None)
        instrument = self._instrument(topic.removeprefix(kind)) if kind else None
        now_ms = self._exchange.clock.now_ms()
        return instrument is not None and (instrument.delisted_ms is None or now_ms < instrument.delisted_ms)

    def _instrument(self, name: str) -> Instrument | None:
        return self._exchange.market.world.find_instrument(self._exchange.name, name)

    def _start(self, topic: str) -> None:
        """Start what feeds a topic, unless it runs: a feed without listeners has stopped by itself."""
        if topic in self._feeds:
            return
        for kind, make in FEEDS.items():
            if topic.startswith(kind):
                self._feeds[topic] = make(self._exchange, topic, topic.removeprefix(kind), self._forget)

    def _forget(self, topic: str) -> None:
        """Drop a feed that has stopped."""
        self._feeds.pop(topic, None)

    def _answer(self, socket: Socket, request: dict[str, object], text: str, *, is_good: bool = True) -> None:
        """Answer a request with its own id and op."""
        answer = {
            "success": is_good,
            "ret_msg": text,
            "conn_id": socket.memory["conn_id"],
            "req_id": request.get("req_id") or "",
            "op": request.get("op") or "",
        }
        socket.send(orjson.dumps(answer))

    def _hear(self, socket: Socket) -> None:
        """Note that the client has said something."""
        socket.memory["heard_ms"] = self._exchange.clock.now_ms()

    def _watch(self, socket: Socket) -> None:
        """Cut the socket without a close frame once it has been mute for too long."""
        if socket not in self._exchange.hub.sockets:
            return
        now_ms = self._exchange.clock.now_ms()
        patience_ms = MUTE_MS if socket.topics else int(self._exchange.options.bybit_idle_s * 1000)
        heard_ms = socket.memory["heard_ms"]
        assert isinstance(heard_ms, int)
        if now_ms - heard_ms >= patience_ms:
            socket.abort()
        else:
            due_ms = min(heard_ms + patience_ms, now_ms + int(self._exchange.options.bybit_idle_s * 1000))
            self._exchange.timeline.schedule(due_ms, lambda _: self._watch(socket))
