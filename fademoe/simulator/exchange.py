"""The base of the simulated exchanges: prefixes of paths, REST replies, and what happens on sockets.

A new exchange is a folder of this package whose exchange.py has `EXCHANGE`, a class derived from `Exchange`, and whose
name is in `simulator.EXCHANGE_NAMES` (docs/simulator.md). It uses

- `self.market` for all data, and `Reply` for its answers;
- `self.hub.subscribe(socket, topic)` and `self.hub.publish(topic, payload, wrap)`: a payload is encoded once;
- `self.timeline.schedule(ms, action)` for what happens at a time of the exchange's clock;
- `pages.Chunk(times, texts, newest_first=...)` with `self.simulation.chunks` and `pages.cut_page` for pages of rows;
- `limits.FixedWindow`, `SlidingWindow` and `Ban`, one set for each `call.ip`;
- `self.take_fault(kinds, symbol=...)` at the places where a fault of `faults.ON_STREAM` may occur. The server and the
  hub handle all other faults.

A refusal with status 200 (an error code in the body) is counted by the exchange:
`self.stats.refusals[code] += 1`.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from fademoe.simulator.clock import Clock
from fademoe.simulator.faults import Fault, Faults
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.market import Market
from fademoe.simulator.market.truth import Row, list_truth
from fademoe.simulator.pages import ChunkStore
from fademoe.simulator.sockets import Hub, Socket
from fademoe.simulator.stats import Stats
from fademoe.simulator.timeline import Timeline


class Call(NamedTuple):
    """A REST request as an exchange receives it."""

    path: str
    query: Mapping[str, str]  # the first value of each name, decoded
    ip: str
    now_ms: int
    headers: Mapping[str, str]


class Reply(NamedTuple):
    """The response to a `Call`."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    content_type: str = "application/json"


@dataclass(kw_only=True)
class Simulation:
    """What all exchanges of one process share."""

    market: Market
    clock: Clock
    options: argparse.Namespace
    faults: Faults
    chunks: ChunkStore


class Exchange:
    """Base class of the simulated exchanges. A request goes to the exchange with the longest matching prefix."""

    name: ClassVar[str] = ""
    rest_prefixes: ClassVar[tuple[str, ...]] = ()
    stream_prefixes: ClassVar[tuple[str, ...]] = ()
    symbol_parameter: ClassVar[str] = "symbol"
    volume_index: ClassVar[int] = 5  # index of the volume in a candle that is an array

    def __init__(self, simulation: Simulation) -> None:
        """Take the shared objects from `simulation`; create the exchange's own hub, counts and timeline."""
        self.simulation = simulation
        self.market = simulation.market
        self.clock = simulation.clock
        self.options = simulation.options
        self.faults = simulation.faults
        self.hub = Hub(simulation.faults, self.name)
        self.stats = Stats()
        self.timeline = Timeline(simulation.clock)

    def take_fault(self, kinds: Collection[str], *, path: str = "", symbol: str | None = None) -> Fault | None:
        """Return a fault of one of these kinds that applies to `path` and `symbol`, counted; None without one."""
        fault = self.faults.pick(self.name, kinds, path=path, symbol=symbol)
        if fault is not None:
            self.stats.faults[fault.kind] += 1
        return fault

    @classmethod
    def add_options(cls, options: argparse._ArgumentGroup) -> None:
        """Add the exchange's own options, each named `--<name>-...`; defaults are the real exchange's values."""

    def answer(self, call: Call) -> Reply:
        """Answer a REST request; apply the rate limits."""
        raise LookupError(f"{self.name} answers no REST request")

    def refuse(self, status: int, call: Call) -> Reply:
        """Return the exchange's own response for a status that a fault requests: 403, 418, 429, 451 or 503."""
        return Reply(b"{}", status)

    def reply_error_in_200(self, call: Call) -> Reply:
        """Return an error that the exchange sends with HTTP status 200."""
        return Reply(b'{"code":-1000,"msg":"An unknown error occurred while processing the request."}')

    def find_rows(self, body: object) -> list[Any]:
        """Return the list of rows inside a decoded response, [] when it has none. Faults change this list in place."""
        return body if isinstance(body, list) else []

    def open_socket(self, socket: Socket, path: str, query: Mapping[str, str]) -> None:
        """Handle a new socket: subscribe to the topics that its URL names."""

    def receive(self, socket: Socket, text: str) -> None:
        """Handle a text message of a client."""

    def build_control_frames(self) -> list[bytes]:
        """Return the frames about the connection or the service that the exchange sends to every socket."""
        return []

    def take_topic_fault(self, kind: str, topics: Iterable[str]) -> bool:
        """Tell whether a fault of `kind` applies to a request for one of `topics`; count it."""
        return any(self.take_fault((kind,), path=topic) is not None for topic in topics)

    def close_socket(self, socket: Socket) -> None:
        """Forget a closed socket; the hub has already removed its subscriptions."""

    def restart_streams(self) -> None:
        """Schedule all running streams again; called after a change of the clock, with an empty timeline."""

    def apply_contract_change(self, instrument: Instrument) -> None:
        """Update caches and notify subscribers after the control plane changed a contract."""

    def read_truth(self, metric: str, symbol: str, start_ms: int, end_ms: int, step_ms: int | None = None) -> list[Row]:
        """Return the rows that a collector must have stored by now; LookupError for an unknown metric or symbol.

        `symbol` is a coin or the exchange's name of a contract, `step_ms` the distance of rows (see
        `truth.list_truth`).
        """
        instrument = self.market.world.find_contract(self.name, symbol)
        if instrument is None:
            raise LookupError(f"{self.name} has no contract on {symbol}")
        return list_truth(
            self.market, instrument, metric, (start_ms, end_ms), now_ms=self.clock.now_ms(), step_ms=step_ms
        )

    def report_limits(self) -> dict[str, object]:
        """Return the use of the rate limits, for /sim/stats."""
        return {}
