"""Downloads candles with ccxt as its manual shows it; run by bench.peers with the Python of another environment.

Arguments: exchange, address of the simulator, range in ms (two), rows per request (0: ccxt's default), symbols.
Prints a line of JSON: seconds, rows (each once), and the sum of all timestamps.
"""

import asyncio
import json
import sys
import time

import ccxt.async_support as ccxt
from addresses import moved

CLASSES = {"binance": ("binanceusdm", "linear"), "bybit": ("bybit", "linear"), "okx": ("okx", "swap")}
MINUTE_MS = 60_000


def make(name: str, address: str) -> ccxt.Exchange:
    """Return the exchange with its own rate limiter, every address of it replaced, derivatives only."""
    kind, markets = CLASSES[name]
    options = {"fetchMarkets": {"types": [markets]}, "fetchCurrencies": False, "defaultType": "swap"}
    exchange = getattr(ccxt, kind)({"enableRateLimit": True, "options": options})
    exchange.has["fetchCurrencies"] = False
    exchange.urls["api"] = moved(exchange.urls["api"], address)
    return exchange


async def download(exchange: ccxt.Exchange, symbol: str, since: int, until: int, limit: int | None) -> set[int]:
    """Fetch page after page, each from where the one before ended."""
    found: set[int] = set()
    while since < until:
        candles = await exchange.fetch_ohlcv(symbol, "1m", since, limit)
        if not candles:
            break
        found.update(candle[0] for candle in candles if candle[0] < until)
        since = candles[-1][0] + MINUTE_MS
    return found


async def main() -> None:
    """Download all symbols side by side."""
    name, address, since, until, limit, *symbols = sys.argv[1:]
    exchange = make(name, address)
    try:
        await exchange.load_markets()
        begin_s = time.monotonic()
        pairs = [f"{symbol}/USDT:USDT" for symbol in symbols]
        tasks = [download(exchange, pair, int(since), int(until), int(limit) or None) for pair in pairs]
        found = await asyncio.gather(*tasks)
        seconds = time.monotonic() - begin_s
    finally:
        await exchange.close()
    print(json.dumps({"seconds": seconds, "rows": sum(map(len, found)), "checksum": sum(map(sum, found))}))


asyncio.run(main())
