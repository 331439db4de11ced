"""The simulated exchanges in this process, at a clock that goes from one event to the next: an hour takes seconds."""

import struct

from fademoe.feeds.values import decode
from fademoe.simulator.clock import Clock
from fademoe.simulator.exchange import Call, Simulation
from fademoe.simulator.faults import Faults
from fademoe.simulator.market.market import Market
from fademoe.simulator.options import build_parser
from fademoe.simulator.pages import ChunkStore
from fademoe.simulator.server import load_exchanges

CHECK_EVERY_MS = 500  # as the loop of a connection does
PING_EVERY_MS = 20_000


class SteppedClock(Clock):
    """A clock that shows what it was set to."""

    def __init__(self, at_ms):
        super().__init__()
        self.at_ms = at_ms

    def now_ms(self):
        """Return the time that was set."""
        return self.at_ms


class Client:
    """The exchange's end of a socket: what it sends is kept until it is taken."""

    def __init__(self):
        self.ip = "127.0.0.1"
        self.topics, self.state, self.message_times_ms, self.is_wrapped = {}, {}, [], False
        self.sent = []

    def send(self, payload):
        """Keep a payload."""
        self.sent.append(payload)

    def write(self, frame):
        """Keep the payload of a WebSocket frame."""
        size = frame[1]
        start = 2 + {126: 2, 127: 8}.get(size, 0)
        if size == 126:
            size = struct.unpack("!H", frame[2:4])[0]
        elif size == 127:
            size = struct.unpack("!Q", frame[2:10])[0]
        assert start + size == len(frame)
        self.sent.append(frame[start:])

    def close(self, code, reason):
        """Fail the test: the exchange closed the socket."""
        raise AssertionError(f"the exchange closed a socket: {code} {reason}")

    def abort(self):
        """Fail the test: the exchange cut the socket."""
        raise AssertionError("the exchange cut a socket")

    async def ping(self, payload):
        """Protocol pings say nothing here."""

    def take(self):
        """Return what was sent since the last call, oldest first."""
        sent, self.sent = self.sent, []
        return sent


class SteppedWorld:
    """All simulated exchanges."""

    def __init__(self, start_ms, *options):
        kinds = load_exchanges()
        self.clock = SteppedClock(start_ms)
        parsed = build_parser(kinds).parse_args(["--no-limits", "--no-holes", *options])
        market = Market(parsed.seed, start_ms, universe_size=parsed.universe_size, has_holes=parsed.holes)
        simulation = Simulation(
            market=market, clock=self.clock, options=parsed, faults=Faults(parsed.seed), chunks=ChunkStore(100)
        )
        self.exchanges = {kind.name: kind(simulation) for kind in kinds}
        self._lines = []  # (exchange, client, line)

    def connect(self, name, line):
        """Open a socket of an exchange for a line, which subscribes."""
        exchange, client = self.exchanges[name], Client()
        exchange.hub.sockets.add(client)
        exchange.open_socket(client, line.connection.socket.path, {})
        self._lines.append((exchange, client, line))

    def run_until(self, end_ms):
        """Let time pass; every message reaches its line at its time."""
        check_ms = ping_ms = self.clock.at_ms
        while self.clock.at_ms < end_ms:
            next_ms = [exchange.timeline.run_due(self.clock.at_ms) for exchange in self.exchanges.values()]
            for exchange, client, line in self._lines:
                line.now_ms = self.clock.at_ms
                for text in line.send():
                    exchange.receive(client, text)
                line.hear(*client.take())
                if self.clock.at_ms >= check_ms:
                    line.check()
                if self.clock.at_ms >= ping_ms and (text := line.connection.socket.ping_text):
                    exchange.receive(client, text)
            check_ms += CHECK_EVERY_MS * (self.clock.at_ms >= check_ms)
            ping_ms += PING_EVERY_MS * (self.clock.at_ms >= ping_ms)
            due = [at_ms for at_ms in (*next_ms, check_ms, end_ms) if at_ms is not None]
            self.clock.at_ms = max(self.clock.at_ms + 1, min(due))

    def read_server_now_ms(self, exchange):
        """Return the exchange's time, as a client of REST knows it."""
        return self.clock.at_ms

    def send(self, exchange, request, **_):
        """Answer a request as the exchange does, decoded."""
        query = {name: str(value) for name, value in request.params.items()}
        headers = exchange.headers("demo")
        call = Call(request.path, query, "127.0.0.1", self.clock.at_ms, headers)
        reply = self.exchanges[exchange.name].answer(call)
        assert reply.status == 200, reply.body
        return decode(reply.body)
