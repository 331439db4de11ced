"""Coinalyze has no sockets."""

from fademoe.feeds.stream import Socket, StreamFeed

SOCKETS: tuple[Socket, ...] = ()
STREAM_FEEDS: tuple[StreamFeed, ...] = ()
