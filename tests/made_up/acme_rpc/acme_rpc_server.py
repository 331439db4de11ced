"""The made-up exchange Acme RPC itself: `python acme_rpc_server.py --clock 1@0` prints the port that it serves.

GET /truth tells what FadeMoe should store, GET /stats what it did.
"""

import argparse
import asyncio
import gzip
import json
import secrets
from collections import Counter
from decimal import Decimal
from zlib import crc32

from aiohttp import WSMsgType, web

from fademoe.clock import MINUTE_MS, SECOND_MS, Pace, floor_to, now_ms, set_pace, to_host_s

PERPETUALS = {"BTC_USDC-PERPETUAL": 97_000, "ETH_USDC-PERPETUAL": 3_100}
BARS = 1000
LIQUIDATION_PRICE = Decimal("100.5")
LISTED_MS = 1_650_000_000_000
STATS: Counter[str] = Counter()
TOKENS: set[str] = set()


def contract(name: str, period: str) -> dict[str, str | int]:
    """Return a contract of the list."""
    base, quote = name.partition("-")[0].split("_")
    return {
        "instrument_name": name,
        "base_currency": base,
        "quote_currency": quote,
        "settlement_period": period,
        "creation_timestamp": LISTED_MS,
    }


def bar(name: str, ts: int) -> list[str]:
    """Return a bar: begin, open, high, low, close, volume, cost, as texts of JSON numbers."""
    seed = crc32(f"{name}{ts}".encode())
    opened, close = (PERPETUALS[name] * 100 + (seed >> shift) % 1000 for shift in (0, 8))
    high, low = max(opened, close) + seed % 7, min(opened, close) - seed % 5
    prices = [f"{price // 100}.{price % 100:02}" for price in (opened, high, low, close)]
    return [str(ts), *prices, f"{seed % 1000}.{seed % 9}00", f"{seed % 90_000_000}.125"]


def interest(name: str, ts: int) -> str:
    """Return the open interest in the second of `ts`."""
    return f"{crc32(f'{name}{floor_to(ts, SECOND_MS)}'.encode()) % 10_000}.110"


def liquidated(name: str, ts: int) -> str | None:
    """Return the coins of a long position that is liquidated in the second of `ts`, if there is one."""
    seed = crc32(f"lq{name}{floor_to(ts, SECOND_MS)}".encode())
    return f"0.{seed % 100:02}5" if seed % 5 == 0 else None


def result(text: str) -> web.Response:
    """Answer with a result, given as JSON text."""
    return web.Response(text=f'{{"jsonrpc": "2.0", "result": {text}}}', content_type="application/json")


def error(code: int, message: str) -> web.Response:
    """Answer with an error."""
    return web.json_response({"jsonrpc": "2.0", "error": {"code": code, "message": message}}, status=400)


async def instruments(request: web.Request) -> web.Response:
    """Answer public/get_instruments."""
    perpetuals = [contract(name, "perpetual") for name in PERPETUALS]
    return result(json.dumps([*perpetuals, contract("BTC_USDC-25DEC26", "month")]))


async def time(request: web.Request) -> web.Response:
    """Answer public/get_time."""
    return result(str(now_ms()))


async def chart(request: web.Request) -> web.Response:
    """Answer public/get_tradingview_chart_data: columns."""
    name = request.query["instrument_name"]
    if name not in PERPETUALS:
        return error(-32602, "Invalid params")
    first = -(-int(request.query["start_timestamp"]) // MINUTE_MS) * MINUTE_MS
    end_ms = min(int(request.query["end_timestamp"]) + 1, floor_to(now_ms(), MINUTE_MS))
    columns = list(zip(*(bar(name, ts) for ts in range(first, end_ms, MINUTE_MS)[:BARS]), strict=True)) or [()] * 7
    names = ("ticks", "open", "high", "low", "close", "volume", "cost")
    parts = [f'"{title}": [{", ".join(column)}]' for title, column in zip(names, columns, strict=True)]
    return result(f'{{"status": "ok", {", ".join(parts)}}}')


async def connect(request: web.Request) -> web.Response:
    """Answer POST public/connect: a token that opens one connection."""
    token = secrets.token_hex(8)
    TOKENS.add(token)
    STATS["tokens"] += 1
    return result(json.dumps({"token": token}))


async def truth(request: web.Request) -> web.Response:
    """Answer GET /truth?metric=ohlcv&name=...&from=...&to=...: what FadeMoe should have stored, by ts."""
    query = request.query
    minutes = range(int(query["from"]), int(query["to"]), MINUTE_MS)
    row_of = {"ohlcv": candle, "oi": lambda name, ts: {"oi": interest(name, ts)}, "lq": liquidations}[query["metric"]]
    return web.json_response({ts: row for ts in minutes if (row := row_of(query["name"], ts))})


def candle(name: str, ts: int) -> dict[str, str]:
    """Return the row of a bar."""
    return dict(zip(("o", "h", "l", "c", "v", "qv"), bar(name, ts)[1:], strict=True))


def liquidations(name: str, ts: int) -> dict[str, str] | None:
    """Return the row of a minute's liquidations, None where there are none."""
    amounts = [amount for at in range(ts, ts + MINUTE_MS, SECOND_MS) if (amount := liquidated(name, at))]
    return {"lql": str(sum(map(Decimal, amounts)) * LIQUIDATION_PRICE), "lqs": "0"} if amounts else None


class Session:
    """A connection: requests by id, channels, and a heartbeat that must be answered."""

    def __init__(self, connection: web.WebSocketResponse) -> None:
        self.connection = connection
        self.topics: set[str] = set()
        self.heartbeat_s = 0
        self.owed = 0  # heartbeats that are not answered
        self.tested_s = 0.0

    async def send(self, message: str) -> None:
        """Send a message in gzip."""
        await self.connection.send_bytes(gzip.compress(message.encode()))

    async def answer(self, asked: dict) -> None:
        """Answer a request."""
        method, params = asked["method"], asked["params"]
        if method == "public/subscribe":
            known = {f"chart.{name}.1" for name in PERPETUALS} | {f"ticker.{name}" for name in PERPETUALS}
            served = [topic for topic in params["channels"] if topic in known | {"liquidations.any"}]
            self.topics.update(served)
            reply = served
        elif method == "public/set_heartbeat":
            self.heartbeat_s, reply = params["interval"], "ok"
        elif method == "public/test":
            self.owed, reply = 0, {"version": "1.2.26"}
            STATS["heartbeats answered"] += 1
        await self.send(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": reply}))

    async def push(self) -> None:
        """Send what the channels have, second by second, and a heartbeat where it is wanted."""
        loop = asyncio.get_running_loop()
        last_ms = floor_to(now_ms(), SECOND_MS)
        self.tested_s = loop.time()
        while True:
            await asyncio.sleep(to_host_s(0.2))
            while last_ms + SECOND_MS <= now_ms():
                last_ms += SECOND_MS
                await self.push_second(last_ms)
            if self.heartbeat_s and loop.time() - self.tested_s > to_host_s(self.heartbeat_s):
                if self.owed:
                    STATS["cut"] += 1
                    await self.connection.close(code=1001)
                    return
                self.owed, self.tested_s = 1, loop.time()
                await self.send('{"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}')

    async def push_second(self, ts: int) -> None:
        """Send the messages of one second."""
        events = []
        for name in PERPETUALS:
            if f"ticker.{name}" in self.topics:
                data = f'{{"timestamp": {ts}, "open_interest": {interest(name, ts)}}}'
                await self.publish(f"ticker.{name}", data)
            if f"chart.{name}.1" in self.topics and ts % (15 * SECOND_MS) == 0:
                is_closed = ts % MINUTE_MS == 0
                values = bar(name, ts - MINUTE_MS if is_closed else floor_to(ts, MINUTE_MS))
                names = ("tick", "open", "high", "low", "close", "volume", "cost")
                parts = [f'"{title}": {value}' for title, value in zip(names, values, strict=True)]
                await self.publish(f"chart.{name}.1", f'{{{", ".join(parts)}, "closed": {json.dumps(is_closed)}}}')
            if amount := liquidated(name, ts):
                events.append(
                    f'{{"timestamp": {ts}, "instrument_name": "{name}", "direction": "sell", "amount": {amount},'
                    f' "price": {LIQUIDATION_PRICE}}}'
                )
        if events and "liquidations.any" in self.topics:
            await self.publish("liquidations.any", f"[{', '.join(events)}]")

    async def publish(self, topic: str, data: str) -> None:
        """Send a message of a channel."""
        params = f'{{"channel": "{topic}", "data": {data}}}'
        await self.send(f'{{"jsonrpc": "2.0", "method": "subscription", "params": {params}}}')


async def socket(request: web.Request) -> web.StreamResponse:
    """Serve a connection that has a token which was not used yet."""
    try:
        TOKENS.remove(request.query.get("token", ""))
    except KeyError:
        STATS["without token"] += 1
        return web.Response(status=401)
    connection = web.WebSocketResponse()
    await connection.prepare(request)
    STATS["connections"] += 1
    session = Session(connection)
    pushing = asyncio.create_task(session.push())
    async for message in connection:
        if message.type is WSMsgType.TEXT:
            await session.answer(json.loads(message.data))
    pushing.cancel()
    return connection


async def stats(request: web.Request) -> web.Response:
    """Answer GET /stats: how often FadeMoe did what."""
    return web.json_response(STATS)


async def serve() -> None:
    """Serve until the process is ended."""
    app = web.Application()
    public = "/api/v2/public"
    app.add_routes(
        [
            web.get(f"{public}/get_instruments", instruments),
            web.get(f"{public}/get_time", time),
            web.get(f"{public}/get_tradingview_chart_data", chart),
            web.post(f"{public}/connect", connect),
            web.get("/ws/api/v2", socket),
            web.get("/truth", truth),
            web.get("/stats", stats),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)  # noqa: T201
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--clock", default="1@0", help="SPEED@SINCE_MS, as FADEMOE_CLOCK")
    set_pace(Pace(*map(int, parser.parse_args().clock.split("@"))))
    asyncio.run(serve())
