"""A WebSocket server that sends the same kline frames as fast as its client takes them: `python -m bench.frames N`.

It prints its port; then, per client: `begin`, and the seconds until the client answered a ping behind the last frame.
"""

import asyncio
import sys
import time

import orjson
from aiohttp import WSMsgType, web

from fademoe.clock import MINUTE_MS, floor_to, now_ms
from fademoe.simulator.sockets import encode_text_frame

CONTRACTS = 200  # cryptofeed follows so many over one socket
CLOSED_EVERY = 100  # one frame of so many is that of a closed bar
BLOCK = 500  # frames that are written at once
SETTLE_S = 5.0  # by then a client has subscribed all of its topics
UPDATES = 20  # frames of a contract in a minute
RECENT_MS = 55 * MINUTE_MS  # before now the first minute is: what is older than an hour is no live data
LAST = b"end"  # payload of the ping behind the last frame


def names() -> list[str]:
    """Return the contracts of the frames."""
    return [f"SIM{chr(65 + n // 676)}{chr(65 + n // 26 % 26)}{chr(65 + n % 26)}USDT" for n in range(CONTRACTS)]


def frame(name: str, ts: int, *, closed: bool) -> bytes:
    """Return one encoded frame, as Binance's combined stream sends it."""
    bar = {"t": ts, "T": ts + MINUTE_MS - 1, "s": name, "i": "1m", "f": 8153633367, "L": 8153634395, "o": "83084.90"}
    bar |= {"c": "83091.60", "h": "83091.70", "l": "83051.20", "v": "13.551", "n": 1027, "x": closed}
    bar |= {"q": "1125714.73960", "V": "6.426", "Q": "533856.66860", "B": "0"}
    data = {"e": "kline", "E": ts + MINUTE_MS + 7, "s": name, "k": bar}
    return encode_text_frame(orjson.dumps({"stream": f"{name.lower()}@kline_1m", "data": data}))


def blocks(count: int) -> list[bytes]:
    """Return about `count` frames in blocks, contract by contract, minute by minute; none is closed twice."""
    frames, contracts = [], names()
    first_ms = floor_to(now_ms() - RECENT_MS, MINUTE_MS)
    for number in range(count):
        update, contract = divmod(number, CONTRACTS)
        frames.append(
            frame(
                contracts[contract],
                first_ms + update // UPDATES * MINUTE_MS,
                closed=(number + update) % CLOSED_EVERY == CLOSED_EVERY - 1,
            )
        )
    return [b"".join(frames[at : at + BLOCK]) for at in range(0, count, BLOCK)]


async def serve(count: int) -> None:
    """Serve one client after the other until killed."""
    prepared = blocks(count)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.WebSocketResponse(autoping=False, compress=False)
        await response.prepare(request)
        answered = asyncio.Event()
        sending = asyncio.create_task(_send(response, request, prepared, answered))
        async for message in response:
            if message.type is WSMsgType.TEXT:
                await response.send_str(f'{{"result":null,"id":{orjson.loads(message.data).get("id", 0)}}}')
            elif message.type is WSMsgType.PONG and bytes(message.data) == LAST:
                answered.set()
        sending.cancel()
        return response

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


async def _send(
    response: web.WebSocketResponse, request: web.BaseRequest, prepared: list[bytes], answered: asyncio.Event
) -> None:
    """Send all frames after the client has settled, no faster than it reads; print when it begins and ends."""
    await asyncio.sleep(SETTLE_S)
    print("begin", flush=True)
    begin_s = time.monotonic()
    for block in prepared:
        request.transport.write(block)
        await request.protocol._drain_helper()
    await response.ping(LAST)
    await answered.wait()
    print(f"{time.monotonic() - begin_s:.3f}", flush=True)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
