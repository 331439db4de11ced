"""The socket of Acme Post and its channels."""

from collections.abc import Sequence

import orjson

from acme_post.history import parse_bar
from fademoe.errors import BadPayload
from fademoe.feeds.instrument import Json
from fademoe.feeds.stream import Frame, Reduce, Socket, StreamFeed
from fademoe.feeds.values import get_member, read_text


def subscribe(topics: Sequence[str], request_id: int) -> str:
    """Write a request; it takes one topic, and its answer repeats it."""
    (topic,) = topics
    subscription = {"type": "candle", "coin": topic.removeprefix("candle."), "interval": "1m"}
    return orjson.dumps({"method": "subscribe", "subscription": subscription}).decode()


def route(message: Json) -> Frame:
    """Sort a message by its channel.

    {"channel": "candle", "data": {"t": ..., "s": "BTC", ...}}
    {"channel": "subscriptionResponse", "data": {"method": "subscribe", "subscription": {"type": "candle", ...}}}
    {"channel": "error", "data": "unknown coin NOPE"}     {"channel": "pong"}
    """
    channel = get_member(message, "channel")
    if channel == "candle":
        return Frame(topic=_topic(get_member(get_member(message, "data"), "s")), data=message["data"])
    if channel == "subscriptionResponse":
        subscription = get_member(get_member(message, "data"), "subscription")
        return Frame(acked=[_topic(get_member(subscription, "coin"))])
    if channel == "error":
        detail = read_text(get_member(message, "data"))
        return Frame(fault=detail, topic=_topic(detail.rpartition(" ")[2]))
    if channel == "pong":
        return Frame()
    raise BadPayload(f"unknown channel {channel!r}")


def _topic(coin: Json) -> str:
    return f"candle.{read_text(coin)}"


SOCKETS = (
    Socket(
        name="public",
        path="/ws",
        subscribe=subscribe,
        route=route,
        topics_per_socket=1000,
        topics_per_request=1,
        request_pause_s=0.05,
        acks=True,
        ping_text='{"method":"ping"}',  # the exchange closes a connection from which nothing came for a minute
        ping_every_s=20.0,
    ),
)
STREAM_FEEDS = (
    StreamFeed(
        metric="ohlcv",
        socket="public",
        topic=lambda instrument: _topic(instrument.name),
        parse=parse_bar,
        source="made up",
        reduce=Reduce.BAR,
    ),
)
