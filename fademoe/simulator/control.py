"""The control plane under /sim: health, truth, symbols, stats, faults, clock, contracts, recordings."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from fademoe.simulator.exchange import Exchange, Simulation
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.stats import Stats

CHANGEABLE = (
    *("listed_ms", "shown_listed_ms", "delisted_ms", "halted_from_ms", "halted_until_ms", "relisted_factor"),
    *("forgotten_ms", "value_shift"),
)
SOCKETS_CUT_BY = ("down", "drop_sockets")
ONCE = ("drop_sockets", "control_frames")


class Control:
    """The HTTP routes by which tests control and inspect the simulator."""

    def __init__(self, simulation: Simulation, exchanges: Mapping[str, Exchange]) -> None:
        """Control the exchanges of one process."""
        self._simulation = simulation
        self._exchanges = exchanges
        self._recordings = _list_recordings(simulation.options.recordings)
        self._routes: dict[tuple[str, str], Callable[[web.BaseRequest], Awaitable[object]]] = {
            ("GET", "/sim/health"): self._health,
            ("GET", "/sim/truth"): self._truth,
            ("GET", "/sim/symbols"): self._symbols,
            ("GET", "/sim/stats"): self._stats,
            ("POST", "/sim/stats"): self._reset_stats,
            ("GET", "/sim/faults"): self._list_faults,
            ("POST", "/sim/faults"): self._add_faults,
            ("DELETE", "/sim/faults"): self._clear_faults,
            ("GET", "/sim/clock"): self._show_clock,
            ("POST", "/sim/clock"): self._set_clock,
            ("POST", "/sim/contracts"): self._change_contract,
        }

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer a request under /sim; errors are JSON with status 400 (bad parameter) or 404 (unknown name)."""
        if request.path.startswith("/sim/recordings/"):
            return self._recording(request.path.removeprefix("/sim/recordings/"))
        route = self._routes.get((request.method, request.path))
        try:
            if route is None:
                raise LookupError(f"no {request.method} {request.path}")
            return _json(await route(request))
        except KeyError as error:
            return _json({"error": f"missing or unknown: {error.args[0]}"}, 400)
        except LookupError as error:
            return _json({"error": str(error.args[0]) if error.args else "not found"}, 404)
        except ValueError as error:
            return _json({"error": str(error)}, 400)

    async def _health(self, _request: web.BaseRequest) -> object:
        """Return the exchanges' time and names."""
        return {"ok": True, "now_ms": self._simulation.clock.now_ms(), "exchanges": list(self._exchanges)}

    async def _truth(self, request: web.BaseRequest) -> object:
        """Return the rows that a collector must have; query: exchange, metric, symbol, from, to, step (times in ms)."""
        query = request.query
        step = int(query["step"]) if "step" in query else None
        rows = self._exchange(query["exchange"]).read_truth(
            query["metric"], query["symbol"], int(query["from"]), int(query["to"]), step
        )
        return {"rows": rows}

    async def _symbols(self, request: web.BaseRequest) -> object:
        """Return the contracts of the exchange in the query."""
        exchange = self._exchange(request.query["exchange"])
        now_ms = self._simulation.clock.now_ms()
        listed = self._simulation.market.world.list_instruments(exchange.name)
        return {"symbols": [_describe(instrument, now_ms) for instrument in listed]}

    async def _stats(self, _request: web.BaseRequest) -> object:
        """Return the counts of every exchange."""
        return {name: _report(exchange) for name, exchange in self._exchanges.items()}

    async def _reset_stats(self, _request: web.BaseRequest) -> object:
        """Reset all counts; the use of rate limits stays."""
        for exchange in self._exchanges.values():
            exchange.stats = Stats()
            exchange.hub.frames_sent = 0
        return {"ok": True}

    async def _list_faults(self, _request: web.BaseRequest) -> object:
        """Return the active faults."""
        return {"faults": [fault.report() for fault in self._simulation.faults.list_active()]}

    async def _add_faults(self, request: web.BaseRequest) -> object:
        """Activate the fault or the list of faults in the body; {"clear": true} ends all faults."""
        body = await _read_json(request)
        if isinstance(body, dict) and body.get("clear"):
            return {"cleared": self._simulation.faults.clear()}
        added = []
        for item in body if isinstance(body, list) else [body]:
            if not isinstance(item, dict):
                raise ValueError("a fault is a JSON object")
            if item.get("exchange") is not None:
                self._exchange(item["exchange"])
            fault = self._simulation.faults.add(item)
            added.append(fault.report())
            if fault.kind in SOCKETS_CUT_BY:
                self._drop_sockets(fault.exchange)
            if fault.kind == "control_frames":
                self._send_control_frames(fault.exchange)
            if fault.kind in ONCE:
                self._simulation.faults.clear(fault.id)
        return {"faults": added}

    async def _clear_faults(self, request: web.BaseRequest) -> object:
        """End the fault with the `id` of the query, or all faults."""
        fault_id = request.query.get("id")
        return {"cleared": self._simulation.faults.clear(int(fault_id) if fault_id else None)}

    async def _show_clock(self, _request: web.BaseRequest) -> object:
        """Return the exchanges' time and its offset to the host's."""
        clock = self._simulation.clock
        return {"offset_ms": clock.offset_ms, "now_ms": clock.now_ms()}

    async def _set_clock(self, request: web.BaseRequest) -> object:
        """Set the offset of the exchanges' clock to the host's, in ms; running streams are scheduled again."""
        body = await _read_json(request)
        if not isinstance(body, dict) or not isinstance(body.get("offset_ms"), int):
            raise ValueError("offset_ms must be a whole number")
        self._simulation.clock.offset_ms = body["offset_ms"]
        for exchange in self._exchanges.values():
            exchange.timeline.clear()
            exchange.restart_streams()
        return await self._show_clock(request)

    async def _change_contract(self, request: web.BaseRequest) -> object:
        """Change members of a contract for good; body: exchange, instrument, and any of `CHANGEABLE`."""
        body = await _read_json(request)
        if not isinstance(body, dict):
            raise ValueError("a change is a JSON object")
        exchange = self._exchange(body["exchange"])
        world = self._simulation.market.world
        instrument = world.find_instrument(exchange.name, body["instrument"])
        if instrument is None:
            raise LookupError(f"{exchange.name} has no contract {body['instrument']}")
        changes = {name: body[name] for name in CHANGEABLE if name in body}
        if "value_shift" in changes:
            changes["value_changed_ms"] = self._simulation.clock.now_ms()
        changed = world.change(exchange.name, instrument.name, **changes)
        exchange.apply_contract_change(changed)
        return _describe(changed, self._simulation.clock.now_ms())

    def _drop_sockets(self, name: str | None) -> None:
        """Abort all sockets of one exchange, or of all (None)."""
        for exchange in self._exchanges.values():
            if name in (None, exchange.name):
                exchange.stats.faults["drop_sockets"] += len(exchange.hub.sockets)
                for socket in list(exchange.hub.sockets):
                    socket.abort()

    def _send_control_frames(self, name: str | None) -> None:
        """Send the control frames of one exchange, or of all (None), to every socket."""
        for exchange in self._exchanges.values():
            if name in (None, exchange.name):
                for socket in exchange.hub.sockets:
                    for frame in exchange.build_control_frames():
                        socket.send(frame)

    def _exchange(self, name: object) -> Exchange:
        """Return the exchange of this name; LookupError when there is none."""
        if name not in self._exchanges:
            raise LookupError(f"no exchange {name}: there are {', '.join(self._exchanges)}")
        return self._exchanges[str(name)]

    def _recording(self, place: str) -> web.Response:
        """Return a recorded answer: <file>/<index>, the file with or without its folder and .json."""
        name, _, index = place.rpartition("/")
        path = self._recordings.get(name.removesuffix(".json"))
        entries = orjson.loads(path.read_bytes()) if path else []
        if not index.isdecimal() or int(index) >= len(entries) or "payload" not in entries[int(index)]:
            return _json({"error": f"no recording {place}"}, 404)
        entry = entries[int(index)]
        return _json(entry["payload"], entry.get("status") or 200)


def _list_recordings(folder: Path | None) -> dict[str, Path]:
    """Return the recording files below a folder by name without .json; {} without a folder."""
    if folder is None:
        return {}
    return {str(path.relative_to(folder).with_suffix("")): path for path in sorted(folder.rglob("*.json"))}


def _describe(instrument: Instrument, now_ms: int) -> dict[str, object]:
    """Return a contract as JSON values."""
    return {
        "symbol": instrument.coin.name,
        "instrument": instrument.name,
        "kind": instrument.kind,
        "quote": instrument.quote,
        "is_trading": instrument.is_trading(now_ms),
        "listed_ms": instrument.listed_ms,
        "delisted_ms": instrument.delisted_ms,
        "price_coins": str(10**instrument.price_shift),
        "volume_unit_coins": f"1e{instrument.unit_shift}",
    }


def _report(exchange: Exchange) -> dict[str, object]:
    """Return the counts of an exchange as JSON values."""
    hub = exchange.hub
    subscriptions = sum(len(socket.topics) for socket in hub.sockets)
    counts = exchange.stats.report() | {"frames_sent": hub.frames_sent}
    return counts | {"sockets": len(hub.sockets), "subscriptions": subscriptions, "budgets": exchange.report_limits()}


async def _read_json(request: web.BaseRequest) -> Any:
    """Return the decoded body; ValueError when it is not JSON."""
    return orjson.loads(await request.read())


def _json(value: object, status: int = 200) -> web.Response:
    """Encode a value as a JSON response."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
