"""The made-up exchange Acme Post itself: `python acme_post_server.py --clock 1@0` prints the port that it serves.

Requests are POST /info with {"type": ...}, files are GET /candles/kPEPE/2026-01-31.zip. GET /truth tells what FadeMoe
should store, GET /stats what it did.
"""

import argparse
import asyncio
import io
import json
import zipfile
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from zlib import crc32

from aiohttp import WSMsgType, web

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Pace, floor_to, now_ms, set_pace, to_host_s

COINS = {"BTC": 97_000, "kPEPE": 11, "OLD": 5}  # price in thousandths
UNIVERSE = [
    {"name": "BTC", "szDecimals": 5, "isDelisted": False},
    {"name": "kPEPE", "szDecimals": 0, "isDelisted": False},
    {"name": "OLD", "szDecimals": 1, "isDelisted": True},
]
BARS, KEPT_BARS = 500, 5000
STEPS = 6  # states of a running bar
SILENT_S = 60.0  # a client that sends nothing so long is cut
STATS: Counter[str] = Counter()


def figures(coin: str, ts: int, step: int = STEPS) -> dict[str, str]:
    """Return a bar after `step` of its STEPS states: texts of JSON numbers."""
    seed = crc32(f"{coin}{ts}".encode())
    opened = COINS[coin] + seed % 100 / 10_000
    moves = [opened + (seed >> shift) % 50 / 100_000 for shift in range(step)]
    prices = {"o": opened, "h": max(opened, *moves), "l": opened, "c": moves[-1]}
    volume = f"{seed % 100_000 * step // STEPS}.{seed % 10}0"
    return {name: f"{price:.5f}" for name, price in prices.items()} | {"v": volume, "n": str(7 * step)}


def bar(coin: str, ts: int, step: int = STEPS) -> str:
    """Return a bar as JSON text, its numbers with all their digits."""
    values = ", ".join(f'"{name}": {value}' for name, value in figures(coin, ts, step).items())
    return f'{{"t": {ts}, "T": {ts + MINUTE_MS - 1}, "s": "{coin}", "i": "1m", {values}}}'


def step_of(ts: int, time_ms: int) -> int:
    """Return the state of the bar of `ts` at a time."""
    return min(STEPS, 1 + (time_ms - ts) * STEPS // MINUTE_MS)


def rate(coin: str, ts: int) -> str:
    """Return a settled rate."""
    return f"-0.0000{crc32(f'{coin}{ts}'.encode()) % 1000:03}"


async def info(request: web.Request) -> web.Response:
    """Answer POST /info."""
    asked = await request.json()
    STATS[f"POST {asked['type']}"] += 1
    time_ms = now_ms()
    if asked["type"] == "meta":
        return web.json_response({"universe": UNIVERSE})
    if asked["type"] == "metaAndAssetCtxs":
        contexts = [f'{{"openInterest": {interest(each["name"], time_ms)}}}' for each in UNIVERSE]
        return as_json(f"[{json.dumps({'universe': UNIVERSE})}, [{', '.join(contexts)}], {time_ms}]")
    span = asked["req"] if asked["type"] == "candleSnapshot" else asked
    if span["coin"] not in COINS:
        return web.json_response("unknown coin", status=422)
    if asked["type"] == "candleSnapshot":
        first = max(span["startTime"], floor_to(time_ms, MINUTE_MS) - KEPT_BARS * MINUTE_MS)
        starts = grid(first, min(span["endTime"], time_ms), MINUTE_MS)
        return as_json(f"[{', '.join(bar(span['coin'], ts, step_of(ts, time_ms)) for ts in starts[:BARS])}]")
    settled = grid(span["startTime"], min(span["endTime"], time_ms), HOUR_MS)
    rows = [f'{{"coin": "{span["coin"]}", "fundingRate": {rate(span["coin"], ts)}, "time": {ts}}}' for ts in settled]
    return as_json(f"[{', '.join(rows[:BARS])}]")


def interest(coin: str, time_ms: int) -> str:
    """Return the open interest of a minute."""
    return f"{crc32(f'{coin}{floor_to(time_ms, MINUTE_MS)}'.encode()) % 10_000}.250"


def grid(start_ms: int, end_ms: int, step_ms: int) -> range:
    """Return the multiples of a step from start to end, both included."""
    return range(-(-start_ms // step_ms) * step_ms, end_ms + 1, step_ms)


def as_json(text: str) -> web.Response:
    """Return an answer of JSON text."""
    return web.Response(text=text, content_type="application/json")


async def candles(request: web.Request) -> web.Response:
    """Answer GET /candles/{coin}/{date}.zip: the minutes of a day that is over."""
    coin, date = request.match_info["coin"], request.match_info["date"]
    start_ms = int(datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * 1000
    STATS["files"] += 1
    if coin not in COINS or start_ms + DAY_MS > now_ms():
        return web.Response(status=404)
    lines = ["time,open,high,low,close,volume,trades"]
    minutes = range(start_ms, start_ms + DAY_MS, MINUTE_MS)
    lines += [f"{ts},{','.join(figures(coin, ts).values())}" for ts in minutes]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as folder:
        folder.writestr(f"{date}.csv", "\n".join(lines) + "\n")
    return web.Response(body=packed.getvalue(), content_type="application/zip", headers={"ETag": f'"{coin}-{date}"'})


async def truth(request: web.Request) -> web.Response:
    """Answer GET /truth?metric=ohlcv&name=kPEPE&from=...&to=...: what FadeMoe should have stored, by ts."""
    query = request.query
    coin, start_ms, end_ms = query["name"], int(query["from"]), int(query["to"])
    if query["metric"] == "fr":
        return web.json_response(
            {ts: {"fr": rate(coin, ts), "fr_hours": 1} for ts in grid(start_ms, end_ms - 1, HOUR_MS)}
        )
    unit = 1000 if coin.startswith("k") else 1
    rows = {}
    for ts in range(start_ms, end_ms, MINUTE_MS):
        values = figures(coin, ts)
        prices = {name: f"{Decimal(values[name]) / unit:f}" for name in "ohlc"}
        rows[ts] = prices | {"v": f"{Decimal(values['v']) * unit:f}", "n": values["n"], "qv": None}
    return web.json_response(rows)


async def socket(request: web.Request) -> web.WebSocketResponse:
    """Serve a connection: subscriptions, pings, and the running bar of each coin."""
    connection = web.WebSocketResponse()
    await connection.prepare(request)
    STATS["connections"] += 1
    coins: set[str] = set()
    pushing = asyncio.create_task(push(connection, coins))
    try:
        while True:
            message = await connection.receive(timeout=to_host_s(SILENT_S))
            if message.type is not WSMsgType.TEXT:
                break
            asked = json.loads(message.data)
            if asked["method"] == "ping":
                STATS["pings"] += 1
                await connection.send_str('{"channel": "pong"}')
                continue
            coin = asked["subscription"]["coin"]
            if coin not in COINS:
                await connection.send_json({"channel": "error", "data": f"unknown coin {coin}"})
                continue
            coins.add(coin)
            await connection.send_json({"channel": "subscriptionResponse", "data": asked})
    except TimeoutError:
        STATS["cut"] += 1
    finally:
        pushing.cancel()
    return connection


async def push(connection: web.WebSocketResponse, coins: set[str]) -> None:
    """Send the states of the running bars; the last one of a minute comes just after its end."""
    sent: dict[str, tuple[int, int]] = {}
    while True:
        time_ms = now_ms()
        ts = floor_to(time_ms, MINUTE_MS)
        for coin in sorted(coins):
            before, step = sent.get(coin, (ts, 0))
            if before < ts:
                await connection.send_str(f'{{"channel": "candle", "data": {bar(coin, before)}}}')
            if (ts, step_of(ts, time_ms)) != (before, step):
                sent[coin] = (ts, step_of(ts, time_ms))
                await connection.send_str(f'{{"channel": "candle", "data": {bar(coin, *sent[coin])}}}')
        await asyncio.sleep(to_host_s(0.3))


async def stats(request: web.Request) -> web.Response:
    """Answer GET /stats: how often FadeMoe did what."""
    return web.json_response(STATS)


async def serve() -> None:
    """Serve until the process is ended."""
    app = web.Application()
    app.add_routes(
        [
            web.post("/info", info),
            web.get("/ws", socket),
            web.get("/candles/{coin}/{date}.zip", candles),
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
