"""A connection that is given messages at a time that is set; no socket is opened."""

import json
from contextlib import suppress

from fademoe.clock import MINUTE_MS
from fademoe.metrics import name_perpspec
from fademoe.signals import StopSignal
from fademoe.store.coverage import Series
from fademoe.streams.address import Address
from fademoe.streams.buffer import Buffer
from fademoe.streams.connection import Connection, Shared
from fademoe.streams.liveness import Broken
from fademoe.streams.minutes import GRACE_MS, Route
from fademoe.streams.proofs import EventProofs

ADDRESS = Address(url="wss://x/ws", resolve=lambda: "wss://x/ws")


def topics_of(feeds, instruments):
    """Return topic -> feed -> name -> route, as the runner makes them."""
    topics = {}
    for feed in feeds:
        for each in instruments:
            route = Route(feed, Series(name_perpspec(each.code, feed.metric), each.symbol), each)
            topics.setdefault(feed.topic(each), {}).setdefault(feed, {})[each.name if feed.name else ""] = route
    return topics


class Line:
    """A connection in its first session, which began at `start_ms` of the exchange's clock."""

    def __init__(self, socket, topics, start_ms, proofs=None):
        self.start_ms = self.now_ms = start_ms
        self.step_ms = 0  # so far the exchange's clock went against the monotonic one
        self.buffer = Buffer()
        shared = Shared(
            buffer=self.buffer,
            stop=StopSignal(),
            exchange_now_ms=lambda: self.now_ms,
            proofs=proofs or EventProofs(),
        )
        self.connection = Connection(socket, ADDRESS, topics, shared)
        self.connection.begin_session(0.0)

    @property
    def now_s(self):
        """Return the monotonic time of the connection, in s since its begin."""
        return (self.now_ms - self.start_ms - self.step_ms) / 1000

    def send(self):
        """Return the texts of all requests that are due."""
        sent = []
        while text := self.connection.take_request(self.now_s):
            sent.append(text)
        return sent

    def hear(self, *messages):
        """Take messages, bytes or what is to be JSON; return the reply to the last one."""
        reply = None
        for message in messages:
            payload = message if isinstance(message, bytes) else json.dumps(message).encode()
            reply = self.connection.take(payload, self.now_s, self.now_ms)
        return reply

    def check_clocks(self):
        """Check the clocks as before each frame; raise Broken where the connection would end."""
        self.connection.check_clocks(self.now_s)

    def check(self):
        """Look at the clock; raise Broken where the connection would end."""
        self.connection.check(self.now_s)

    def items(self, until_ms=None):
        """Return the final rows as of a time at which a pong comes."""
        if until_ms is not None:
            self.now_ms = until_ms
            self.hear(b"pong")
            with suppress(Broken):
                self.check()
        return self.buffer.take()

    def rows(self, minutes):
        """Let so many minutes pass; return (source, symbol, minute, values) of what is to be stored."""
        items = self.items(self.start_ms + minutes * MINUTE_MS + GRACE_MS)
        return [(*i.series, (i.ts - self.start_ms) // MINUTE_MS, i.row and i.row[1:]) for i in items]

    def errors(self):
        """Return the texts of the errors to be recorded."""
        return [str(error) for _, error in self.buffer.take_errors()]
