"""WebSocket connections and subscriptions: a payload is encoded once and all subscribers get the same bytes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

from aiohttp import web

from fademoe.clock import to_host_s
from fademoe.simulator.faults import Faults

MAX_BUFFERED_BYTES = 16_000_000  # a client with more unread bytes is cut off
CLOSE_TIMEOUT_S = 0.5
ORDER_FAULTS = ("doubled_frames", "swapped_frames")
HELD_S = 2.0  # a swapped message is sent so late at most: one that waits for minutes is a lost one
Wrap = Callable[[str, bytes], bytes]  # makes the envelope of a topic's message


def encode_text_frame(payload: bytes) -> bytes:
    """Encode a text message as a WebSocket frame of a server: not masked, not compressed."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + payload
    if size < 65_536:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


class Socket:
    """A client's connection. Frames written in one turn of the event loop are sent in one write."""

    def __init__(self, hub: Hub, response: web.WebSocketResponse, transport: asyncio.Transport, ip: str) -> None:
        """Take over an accepted connection."""
        self._hub = hub
        self.ip = ip
        self.topics: dict[str, None] = {}  # in order of subscription; unknown ones too
        self.is_wrapped = False  # messages get an envelope with the name of the stream
        self.message_times_ms: list[int] = []  # host times of the last messages, for limits on messages
        self.state: dict[str, object] = {}  # state that the exchange keeps of this client
        self._response = response
        self._transport = transport
        self._pending: list[bytes] = []
        self._closing: asyncio.Task[bool] | None = None

    def send(self, payload: bytes) -> None:
        """Send a text message to this client."""
        self.write(encode_text_frame(payload))

    def write(self, frame: bytes) -> None:
        """Send an encoded frame, unless a fault silences the exchange's sockets."""
        if self._closing is not None or self._hub.is_silent():
            return
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._flush)
        self._pending.append(frame)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame after everything that was sent before."""
        if self._closing is None:
            self._flush()
            self._closing = asyncio.ensure_future(self._response.close(code=code, message=reason.encode()))

    def abort(self) -> None:
        """Cut the connection without a close frame (the client sees code 1006)."""
        self._pending.clear()
        self._transport.abort()

    async def ping(self, payload: bytes) -> None:
        """Send a protocol ping."""
        if self._closing is None and not self._transport.is_closing():
            await self._response.ping(payload)

    def _flush(self) -> None:
        """Write the frames of this turn of the event loop; abort when the client reads too slowly."""
        frames, self._pending = self._pending, []
        if not frames or self._transport.is_closing():
            return
        self._transport.write(b"".join(frames))
        if self._transport.get_write_buffer_size() > MAX_BUFFERED_BYTES:
            self.abort()


class Hub:
    """The sockets of an exchange and their subscriptions."""

    def __init__(self, faults: Faults, exchange: str) -> None:
        """Start without sockets."""
        self.sockets: set[Socket] = set()
        self.frames_sent = 0
        self._faults = faults
        self._exchange = exchange
        self._listeners: dict[str, set[Socket]] = {}
        self._held: dict[str, tuple[bytes, Wrap | None]] = {}  # messages that wait for the next one of their topic

    def is_silent(self, topic: str | None = None) -> bool:
        """Tell whether a fault silences all sockets, or this topic."""
        if not self._faults.active:
            return False
        is_topic_silent = topic is not None and self._faults.is_in_force("silent_topics", self._exchange, topic)
        return is_topic_silent or self._faults.is_in_force("silent_sockets", self._exchange)

    def subscribe(self, socket: Socket, topic: str) -> bool:
        """Subscribe `socket` to `topic`; return whether it is the topic's first subscriber."""
        socket.topics[topic] = None
        listeners = self._listeners.setdefault(topic, set())
        listeners.add(socket)
        return len(listeners) == 1

    def unsubscribe(self, socket: Socket, topic: str) -> None:
        """Unsubscribe `socket` from `topic`."""
        socket.topics.pop(topic, None)
        listeners = self._listeners.get(topic)
        if listeners is not None:
            listeners.discard(socket)
            if not listeners:
                del self._listeners[topic]

    def drop(self, socket: Socket) -> None:
        """Remove a socket and its subscriptions."""
        for topic in list(socket.topics):
            self.unsubscribe(socket, topic)
        self.sockets.discard(socket)

    def has_listeners(self, topic: str) -> bool:
        """Tell whether a socket is subscribed to `topic`."""
        return topic in self._listeners

    def list_topics(self) -> list[str]:
        """Return the topics with subscribers."""
        return list(self._listeners)

    def publish(self, topic: str, payload: bytes, wrap: Wrap | None = None) -> None:
        """Send `payload` to all subscribers of `topic`; sockets that want an envelope get it through `wrap`.

        An active fault repeats it, or holds it until the next one is sent.
        """
        held = self._held.pop(topic, None) if self._held else None
        fault = self._faults.pick(self._exchange, ORDER_FAULTS, path=topic) if held is None else None
        if fault is not None and fault.kind == "swapped_frames":
            self._held[topic] = payload, wrap
            asyncio.get_running_loop().call_later(to_host_s(HELD_S), self._release, topic, self._held[topic])
            return
        self._publish(topic, payload, wrap)
        if fault is not None:
            self._publish(topic, payload, wrap)
        elif held is not None:
            self._publish(topic, *held)

    def _release(self, topic: str, held: tuple[bytes, Wrap | None]) -> None:
        """Send a message for which no next one came."""
        if self._held.get(topic) is held:
            del self._held[topic]
            self._publish(topic, *held)

    def _publish(self, topic: str, payload: bytes, wrap: Wrap | None) -> None:
        listeners = self._listeners.get(topic)
        if not listeners or self.is_silent(topic):
            return
        plain = enveloped = b""
        for socket in listeners:
            if socket.is_wrapped and wrap is not None:
                enveloped = enveloped or encode_text_frame(wrap(topic, payload))
                socket.write(enveloped)
            else:
                plain = plain or encode_text_frame(payload)
                socket.write(plain)
        self.frames_sent += len(listeners)
