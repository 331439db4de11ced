"""Follows candles by cryptofeed until killed; run by the Python of a venv that has it, never imported for more."""

import sys


def main(rest_url: str, ws_url: str, contracts: str) -> None:
    """Subscribe to the 1m candles of USDT perpetuals, closed ones only, as cryptofeed does by default."""
    from cryptofeed import FeedHandler, connection
    from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint
    from cryptofeed.defines import CANDLES
    from cryptofeed.exchanges import BinanceFutures

    BinanceFutures.rest_endpoints = [RestEndpoint(rest_url, routes=Routes("/fapi/v1/exchangeInfo"))]
    BinanceFutures.websocket_endpoints = [
        WebsocketEndpoint(ws_url.replace("ws://", "wss://", 1), options={"compression": None})
    ]
    # cryptofeed takes wss:// only; here both programs go without TLS
    secure = connection.connect
    connection.connect = lambda address, **options: secure(address.replace("wss://", "ws://", 1), **options)
    closed = []

    async def on_candle(candle: object, receipt_timestamp: float) -> None:
        closed.append(candle)

    symbols = [f"{contract.removesuffix('USDT')}-USDT-PERP" for contract in contracts.split(",")]
    handler = FeedHandler(config={"log": {"disabled": True}})
    handler.add_feed(BinanceFutures(symbols=symbols, channels=[CANDLES], callbacks={CANDLES: on_candle}))
    handler.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
