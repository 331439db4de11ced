"""Binance's socket and its channels."""

from collections.abc import Sequence

import orjson

from fademoe.clock import HOUR_MS, MINUTE_MS, SECOND_MS
from fademoe.errors import BadPayload
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.rows import check_name, make_candle, make_liquidation
from fademoe.feeds.stream import Frame, Reduce, Socket, StreamFeed
from fademoe.feeds.values import get_member, multiply, read_amount, read_count, read_number, read_text, to_ms
from fademoe.metrics import Candle, Liquidations, PredictedFunding

DOCS = "developers.binance.com, read 2026-05-28: "
SHUTDOWN = "serverShutdown"
EVENT_SILENCE_S = 3600.0  # forced orders of all contracts come several times a minute


def subscribe(topics: Sequence[str], request_id: int) -> str:
    """Write a SUBSCRIBE request; its acknowledgement proves that it was read, not that its topics exist."""
    return orjson.dumps({"method": "SUBSCRIBE", "params": list(topics), "id": request_id}).decode()


def route(message: Json) -> Frame:
    """Sort a frame of /market/stream: {"stream", "data"} is data, {"result", "id"} an acknowledgement.

    {"error": {"code": 2, "msg": "Invalid request: ..."}, "id": 1} refuses the whole request and names no topic.
    {"e": "serverShutdown", "E": 1791382993000}, bare or in an envelope, comes before the server closes the connection.
    """
    if not isinstance(message, dict):
        return Frame(fault=str(message)[:200])
    data = message.get("data", message.get("event", message))
    if isinstance(data, dict) and data.get("e") == SHUTDOWN:
        return Frame(renew=True)
    if "stream" in message and "data" in message:
        return Frame(topic=read_text(message["stream"]), data=data)
    number = message.get("id")
    request = number if isinstance(number, int) else None
    return Frame(request=request) if "result" in message else Frame(fault=str(message)[:200], request=request)


def parse_kline_event(data: Json, instrument: Instrument) -> Candle | None:
    """Read one kline event; only x = true is final, and comes after the minute's end.

    {"e": "kline", "E": 1791382992723, "s": "BTCUSDT", "k": {"t": 1791382980000, "T": 1791383039999, "s": "BTCUSDT",
     "i": "1m", "f": 8153633367, "L": 8153634395, "o": "83084.90", "c": "83091.60", "h": "83091.70", "l": "83051.20",
     "v": "13.551", "n": 1027, "x": false, "q": "1125714.73960", "V": "6.426", "Q": "533856.66860", "B": "0"}}
    """
    kline = get_member(data, "k")
    is_closed = get_member(kline, "x")
    if is_closed is False:
        return None
    if is_closed is not True or get_member(kline, "s") != instrument.name or get_member(kline, "i") != "1m":
        raise BadPayload(f"a kline event of {instrument.name} 1m was expected")
    ts = to_ms(get_member(kline, "t"))
    if get_member(kline, "T") != ts + MINUTE_MS - 1 or to_ms(get_member(data, "E")) < get_member(kline, "T"):
        raise BadPayload(f"kline event of {ts}: it is closed before the minute's end")
    return make_candle(
        instrument, ts, [get_member(kline, name) for name in "ohlcvqV"], trades=read_count(get_member(kline, "n"))
    )


def parse_mark_price(data: Json, instrument: Instrument) -> PredictedFunding | None:
    """Read the running funding estimate `r`; a contract without funding has T = 0 and no estimate.

    {"e": "markPriceUpdate", "E": 1791382993000, "s": "BTCUSDT", "p": "83084.30000000", "ap": "83084.30000000",
     "P": "83195.15881449", "i": "83123.65891304", "r": "0.00000078", "T": 1791388800000, "st": 1}
    """
    check_name(get_member(data, "s"), instrument)
    ts = to_ms(get_member(data, "E"))
    if get_member(data, "T") == 0:
        return None
    to_ms(data["T"])
    return PredictedFunding(ts, read_number(get_member(data, "r")))


def list_force_orders(data: Json) -> Sequence[Json]:
    """Return the forced orders of a message, the member "o" of each event; a message holds one event or a list."""
    events = data if isinstance(data, list) else [data]
    return [event.get("o") if isinstance(event, dict) else event for event in events]


def parse_force_order(order: Json, instrument: Instrument) -> Liquidations | None:
    """Read one forced order: SELL closes a long. USD = average price x filled quantity.

    {"s": "ILVUSDT", "S": "SELL", "o": "LIMIT", "f": "IOC", "q": "116.5", "p": "3.80300", "ap": "3.85642",
     "X": "FILLED", "l": "25.2", "z": "116.5", "T": 1791391082119, "ps": "ILVUSDT", "st": 1}

    The stream shows one order per symbol and second at most, the largest or the newest (sources differ), so the sums
    are too small. An order of which nothing is filled has liquidated nothing. Orders of COIN-M (st 2) come along and
    are left out.
    """
    if order.get("st", 1) != 1:
        return None
    side = get_member(order, "S")
    if side not in ("SELL", "BUY"):
        raise BadPayload(f"{side!r} is not a side of a forced order")
    usd = multiply(read_amount(get_member(order, "ap")), read_amount(get_member(order, "z")))
    ts = to_ms(get_member(order, "T"))
    return make_liquidation(ts, usd, of_long=side == "SELL") if usd.strip("0.") else None


SOCKETS = (
    Socket(
        name="market",
        path="/market/stream",
        subscribe=subscribe,
        route=route,
        topics_per_socket=1000,  # 1024 are allowed
        topics_per_request=100,
        request_pause_s=0.25,  # 10 messages a second are allowed
        renew_after_s=23.5 * HOUR_MS / SECOND_MS,  # cut after 24 h
        acks=True,
    ),
)

STREAM_FEEDS = (
    StreamFeed(
        metric="ohlcv",
        socket="market",
        topic=lambda instrument: f"{instrument.name.lower()}@kline_1m",
        parse=parse_kline_event,
        # a minute without trades may have no event; the mark price shows whether the contract's topics are served
        continuous=False,
        source=DOCS + "Kline/Candlestick Streams",
    ),
    StreamFeed(
        metric="ppr",
        socket="market",
        topic=lambda instrument: f"{instrument.name.lower()}@markPrice@1s",
        parse=parse_mark_price,
        reduce=Reduce.LAST,
        source=DOCS + "Mark Price Stream",
    ),
    StreamFeed(
        metric="lq",
        socket="market",
        topic=lambda instrument: "!forceOrder@arr",
        items=list_force_orders,
        name="s",
        parse=parse_force_order,
        reduce=Reduce.SUM,
        distinct=True,  # of a contract there is one order a second: an equal one is the same one
        continuous=False,  # there may be no liquidation for minutes
        max_silence_s=EVENT_SILENCE_S,
        source=DOCS + "All Market Liquidation Order Streams; side and value as every implementation reads them",
    ),
)
