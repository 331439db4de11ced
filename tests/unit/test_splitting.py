"""FADEMOE_SYMBOLS=all: what a socket is asked for stays within each exchange's limits."""

import json
from collections.abc import Sequence

import pytest

from fademoe.feeds import registry
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.stream import Reduce, Socket
from fademoe.streams.runner import split_topics
from fademoe.streams.subscriptions import cut

CONTRACTS = 1200  # half as many again as any exchange lists
HOUR_S = 3600


def universe(name: str) -> list[Instrument]:
    """Return contracts whose names are as long as the longest, some of them not of ASCII letters."""
    pattern = {"okx": "{}-USDT-SWAP"}.get(name, "{}USDT")
    coins = [f"1000000{'币安人生' if number % 50 == 0 else 'BABYDO'}{number:04d}" for number in range(CONTRACTS)]
    return [
        Instrument(exchange=name, code=registry.load_exchanges()[name].codes[0], name=pattern.format(coin), symbol=coin)
        for coin in coins
    ]


def split(name: str, socket: Socket) -> list[list[Sequence[str]]]:
    """Return the topics of each request of each connection of a socket."""
    feeds = [feed for feed in registry.load_exchanges()[name].stream_feeds if feed.socket == socket.name]
    topics = {feed.topic(instrument): {} for feed in feeds for instrument in universe(name)}
    asked = [cut(sorted(part), socket.topics_per_request) for part in split_topics(topics, socket)]
    flat = [topic for connection in asked for request in connection for topic in request]
    assert sorted(flat) == sorted(topics)
    return asked


SOCKETS = [(exchange.name, socket) for exchange in registry.load_exchanges().values() for socket in exchange.sockets]


@pytest.mark.parametrize(("name", "socket"), SOCKETS, ids=lambda value: getattr(value, "name", value))
def test_every_topic_is_asked_for_once_within_the_limits(name, socket):
    connections = split(name, socket)
    for requests in connections:
        texts = [socket.subscribe(request, number) for number, request in enumerate(requests, 1)]
        topics = [topic for request in requests for topic in request]
        per_second = 1 / socket.request_pause_s + 1 / socket.ping_every_s
        if name == "binance":
            assert len(topics) <= 1024
            assert per_second < 10
        if name == "bybit":
            assert len(json.dumps(topics, ensure_ascii=False)) <= 21_000
        if name == "okx":
            assert max(len(text.encode()) for text in texts) <= 65_536
            assert len(texts) <= 480 / 2, "a socket may be requested again within the hour"
    assert len(connections) <= 1000


@pytest.mark.parametrize("contracts", [3, 167, 334, 510, CONTRACTS])
@pytest.mark.parametrize(("name", "socket"), SOCKETS, ids=lambda value: getattr(value, "name", value))
def test_events_are_never_without_topics_that_are_not_silent(name, socket, contracts):
    """By name all liquidations of Bybit came first: those of some contracts were with candles only, or alone."""
    feeds = [feed for feed in registry.load_exchanges()[name].stream_feeds if feed.socket == socket.name]
    topics = {}
    for instrument in universe(name)[:contracts]:  # as the runner makes them
        for feed in feeds:
            topics.setdefault(feed.topic(instrument), {})[feed] = {}
    parts = split_topics(topics, socket)
    assert max(map(len, parts)) <= socket.topics_per_socket
    assert len(parts) == -(-len(topics) // socket.topics_per_socket)
    for part in parts:
        every = [feed for topic in part.values() for feed in topic]
        has_events = any(feed.reduce is Reduce.SUM for feed in every)
        assert not has_events or any(feed.continuous for feed in every)
