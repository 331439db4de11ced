"""The socket of Acme RPC and its channels."""

import gzip
import zlib

import orjson

from acme_rpc.answers import read_result
from acme_rpc.history import parse_bar
from fademoe.errors import BadPayload
from fademoe.feeds import values
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.request import Request
from fademoe.feeds.rows import make_liquidation
from fademoe.feeds.stream import Endpoint, Frame, Reduce, Socket, StreamFeed
from fademoe.feeds.values import get_member, multiply, read_amount, read_records, read_text, to_ms
from fademoe.metrics import Candle, Liquidations, OpenInterest

HEARTBEAT_S = 10
BAR_MEMBERS = ("tick", "open", "high", "low", "close", "volume", "cost")


def call(request_id: int, method: str, **params: Json) -> str:
    """Write a request."""
    return orjson.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}).decode()


def decode(content: bytes) -> Json:
    """Read a message; they come in gzip."""
    try:
        return values.decode(gzip.decompress(content))
    except (OSError, EOFError, zlib.error) as error:
        raise BadPayload(f"a message is not gzip: {error}") from error


def route(message: Json) -> Frame:
    """Sort a message: what a channel brings, the answer to a request by its id, or a heartbeat.

    {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": "ticker.BTC_USDC-PERPETUAL", "data": {...}}}
    {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}
    {"jsonrpc": "2.0", "id": 1, "result": ["ticker.BTC_USDC-PERPETUAL"]}
    """
    if not isinstance(message, dict):
        raise BadPayload(f"a message is no object: {str(message)[:50]!r}")
    method = message.get("method")
    if method == "subscription":
        params = get_member(message, "params")
        return Frame(topic=read_text(get_member(params, "channel")), data=get_member(params, "data"))
    if method == "heartbeat":
        is_question = get_member(get_member(message, "params"), "type") == "test_request"
        return Frame(reply=call(0, "public/test") if is_question else None)
    if "error" in message:
        return Frame(fault=str(message["error"])[:200])
    confirmed = read_result(message)
    return Frame(acked=[read_text(topic) for topic in confirmed] if isinstance(confirmed, list) else ())


def parse_chart(item: Json, instrument: Instrument) -> Candle | None:
    """Read a bar; one that is not closed is no row.

    {"tick": 1767225600000, "open": 97000.5, ..., "volume": 12.5, "cost": 1212503.125, "closed": true}
    """
    bar = parse_bar([get_member(item, name) for name in BAR_MEMBERS], instrument)
    is_closed = get_member(item, "closed")
    if type(is_closed) is not bool:
        raise BadPayload(f"{is_closed!r} does not say whether the bar is closed")
    return bar if is_closed else None


def parse_ticker(item: Json, instrument: Instrument) -> OpenInterest:
    """Read the open interest of a ticker, in coins.

    {"timestamp": 1767225605123, "open_interest": 688.110}
    """
    return OpenInterest(to_ms(get_member(item, "timestamp")), read_amount(get_member(item, "open_interest")))


def parse_liquidation(item: Json, instrument: Instrument) -> Liquidations:
    """Read a liquidated position; "sell" closes a long one.

    {"timestamp": 1767225605123, "instrument_name": "BTC_USDC-PERPETUAL", "direction": "sell", "amount": 0.5,
     "price": 97000.5}
    """
    direction = get_member(item, "direction")
    if direction not in ("buy", "sell"):
        raise BadPayload(f"{direction!r} is not a direction")
    usd = multiply(read_amount(get_member(item, "amount")), read_amount(get_member(item, "price")))
    return make_liquidation(to_ms(get_member(item, "timestamp")), usd, of_long=direction == "sell")


SOCKETS = (
    Socket(
        name="public",
        path="/ws/api/v2",
        endpoint=Endpoint(
            request=Request(method="POST", path="/api/v2/public/connect"),
            budget="tokens",
            parse=lambda answer: f"?token={read_text(get_member(read_result(answer), 'token'))}",
        ),
        opening=(call(0, "public/set_heartbeat", interval=HEARTBEAT_S),),
        subscribe=lambda topics, request_id: call(request_id, "public/subscribe", channels=list(topics)),
        decode=decode,
        route=route,
        topics_per_socket=500,
        topics_per_request=50,
        request_pause_s=0.1,
        acks=True,
    ),
)
STREAM_FEEDS = (
    StreamFeed(
        metric="ohlcv",
        socket="public",
        topic=lambda instrument: f"chart.{instrument.name}.1",
        parse=parse_chart,
        source="made up",
    ),
    StreamFeed(
        metric="oi",
        socket="public",
        topic=lambda instrument: f"ticker.{instrument.name}",
        parse=parse_ticker,
        source="made up",
        reduce=Reduce.LAST,
    ),
    StreamFeed(
        metric="lq",
        socket="public",
        topic=lambda instrument: "liquidations.any",
        items=read_records,
        name="instrument_name",
        parse=parse_liquidation,
        source="made up",
        reduce=Reduce.SUM,
        continuous=False,
    ),
)
