"""The control plane under /sim: health, truth, symbols, stats, faults, clock, contracts, recordings."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from fademoe.simulator.exchange import Exchange, Simulation
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.stats import Stats

LOST_AT_ONCE = ("down", "drop_sockets")
ONCE = ("drop_sockets", "control_frames")


class Control:
    """What a test asks of the simulator besides the exchanges' own answers."""

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
        """Answer a request of the control plane; what is wrong with it is told with status 400 or 404."""
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
        """Tell that the process answers, and the exchanges' time."""
        return {"ok": True, "now_ms": self._simulation.clock.now_ms(), "exchanges": list(self._exchanges)}

    async def _truth(self, request: web.BaseRequest) -> object:
        """Return the rows that a collector must have: exchange, metric, symbol, from, to and optionally step in ms."""
        query = request.query
        step = int(query["step"]) if "step" in query else None
        rows = self._exchange(query["exchange"]).read_truth(
            query["metric"], query["symbol"], int(query["from"]), int(query["to"]), step
        )
        return {"rows": rows}

    async def _symbols(self, request: web.BaseRequest) -> object:
        """Return the contracts of an exchange."""
        exchange = self._exchange(request.query["exchange"])
        now_ms = self._simulation.clock.now_ms()
        listed = self._simulation.market.world.list_instruments(exchange.name)
        return {"symbols": [_describe(instrument, now_ms) for instrument in listed]}

    async def _stats(self, _request: web.BaseRequest) -> object:
        """Return the counts of every exchange."""
        return {name: _report(exchange) for name, exchange in self._exchanges.items()}

    async def _reset_stats(self, _request: web.BaseRequest) -> object:
        """Start the counts anew; budgets go on."""
        for exchange in self._exchanges.values():
            exchange.stats = Stats()
            exchange.hub.frames_sent = 0
        return {"ok": True}

    async def _list_faults(self, _request: web.BaseRequest) -> object:
        """Return the faults in force."""
        return {"faults": [fault.report() for fault in self._simulation.faults.list_active()]}

    async def _add_faults(self, request: web.BaseRequest) -> object:
        """Put one fault or a list of them in force; {"clear": true} ends all."""
        body = await _read_json(request)
        if isinstance(body, dict) and body.get("clear"):
            return {"cleared": self._simulation.faults.clear()}
        added = []
        for wanted in body if isinstance(body, list) else [body]:
            if not isinstance(wanted, dict):
                raise ValueError("a fault is a JSON object")
            if wanted.get("exchange") is not None:
                self._exchange(wanted["exchange"])
            fault = self._simulation.faults.add(wanted)
            added.append(fault.report())
            if fault.kind in LOST_AT_ONCE:
                self._drop_sockets(fault.exchange)
            if fault.kind == "control_frames":
                self._send_control_frames(fault.exchange)
            if fault.kind in ONCE:
                self._simulation.faults.clear(fault.id)
        return {"faults": added}

    async def _clear_faults(self, request: web.BaseRequest) -> object:
        """End the fault `id`, or all of them."""
        wanted = request.query.get("id")
        return {"cleared": self._simulation.faults.clear(int(wanted) if wanted else None)}

    async def _show_clock(self, _request: web.BaseRequest) -> object:
        """Return the exchanges' time."""
        clock = self._simulation.clock
        return {"offset_ms": clock.offset_ms, "now_ms": clock.now_ms()}

    async def _set_clock(self, request: web.BaseRequest) -> object:
        """Set by how much the exchanges' clock is ahead of the host's; running streams follow."""
        body = await _read_json(request)
        if not isinstance(body, dict) or not isinstance(body.get("offset_ms"), int):
            raise ValueError("offset_ms must be a whole number")
        self._simulation.clock.offset_ms = body["offset_ms"]
        for exchange in self._exchanges.values():
            exchange.timeline.clear()
            exchange.restart_streams()
        return await self._show_clock(request)

    async def _change_contract(self, request: web.BaseRequest) -> object:
        """Change a contract's listed_ms or delisted_ms (null: none), or from now on its value by 10 ** value_shift."""
        body = await _read_json(request)
        if not isinstance(body, dict):
            raise ValueError("a change is a JSON object")
        exchange = self._exchange(body["exchange"])
        world = self._simulation.market.world
        now = world.find_instrument(exchange.name, body["instrument"])
        if now is None:
            raise LookupError(f"{exchange.name} has no contract {body['instrument']}")
        changes = {name: body[name] for name in ("listed_ms", "delisted_ms", "value_shift") if name in body}
        if "value_shift" in changes:
            changes["value_changed_ms"] = self._simulation.clock.now_ms()
        changed = world.change(exchange.name, now.name, **changes)
        exchange.apply_contract_change(changed)
        return _describe(changed, self._simulation.clock.now_ms())

    def _drop_sockets(self, name: str | None) -> None:
        """Cut all sockets of one exchange or of all."""
        for exchange in self._exchanges.values():
            if name in (None, exchange.name):
                exchange.stats.faults["drop_sockets"] += len(exchange.hub.sockets)
                for socket in list(exchange.hub.sockets):
                    socket.abort()

    def _send_control_frames(self, name: str | None) -> None:
        """Let one exchange or all send the frames about themselves."""
        for exchange in self._exchanges.values():
            if name in (None, exchange.name):
                for socket in exchange.hub.sockets:
                    for frame in exchange.build_control_frames():
                        socket.send(frame)

    def _exchange(self, name: object) -> Exchange:
        """Return an exchange by name."""
        if name not in self._exchanges:
            raise LookupError(f"no exchange {name}: there are {', '.join(self._exchanges)}")
        return self._exchanges[str(name)]

    def _recording(self, place: str) -> web.Response:
        """Answer with a recorded answer: <file>/<index>, the file with or without its folder and its .json."""
        name, _, index = place.rpartition("/")
        path = self._recordings.get(name.removesuffix(".json"))
        entries = orjson.loads(path.read_bytes()) if path else []
        if not index.isdecimal() or int(index) >= len(entries) or "payload" not in entries[int(index)]:
            return _json({"error": f"no recording {place}"}, 404)
        entry = entries[int(index)]
        return _json(entry["payload"], entry.get("status") or 200)


def _list_recordings(folder: Path | None) -> dict[str, Path]:
    """Return the recording files of a folder and of its folders, by name without .json."""
    if folder is None:
        return {}
    return {str(path.relative_to(folder).with_suffix("")): path for path in sorted(folder.rglob("*.json"))}


def _describe(instrument: Instrument, now_ms: int) -> dict[str, object]:
    """Return what a test needs to know of a contract."""
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
    """Return the counts of one exchange."""
    hub = exchange.hub
    subscriptions = sum(len(socket.topics) for socket in hub.sockets)
    counts = exchange.stats.report() | {"frames_sent": hub.frames_sent}
    return counts | {"sockets": len(hub.sockets), "subscriptions": subscriptions, "budgets": exchange.report_limits()}


async def _read_json(request: web.BaseRequest) -> Any:
    """Return the request's JSON; ValueError when it is none."""
    return orjson.loads(await request.read())


def _json(value: object, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
