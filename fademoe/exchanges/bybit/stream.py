"""Bybit's socket and its channels."""

from collections.abc import Sequence

import orjson

from fademoe.clock import MINUTE_MS
from fademoe.errors import BadPayload
from fademoe.exchanges.bybit.history import read_one_side
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.rows import check_name, make_candle, make_liquidation
from fademoe.feeds.stream import Frame, Reduce, Socket, StreamFeed
from fademoe.feeds.symbols import find_power_of_ten
from fademoe.feeds.values import (
    get_member,
    multiply,
    read_amount,
    read_number,
    read_price,
    read_records,
    read_text,
    shift,
    to_ms,
)
from fademoe.metrics import Candle, Liquidations, OpenInterest, PredictedFunding

DOCS = "bybit-exchange.github.io/docs/v5, read 2026-07-24: "
TICKERS = "tickers."  # begin of a topic, before the contract's name
EVENT_SILENCE_S = 3600.0  # of many contracts together; a single one may be without liquidations for hours


def subscribe(topics: Sequence[str], request_id: int) -> str:
    """Write a subscription; one topic that is unknown or already active voids all of them."""
    return orjson.dumps({"req_id": str(request_id), "op": "subscribe", "args": list(topics)}).decode()


def route(message: Json) -> Frame:
    """Sort a frame by its topic, else by its op: pongs are passed over, acknowledgements are those of a whole request.

    {"success": false, "ret_msg": "error:handler not found,topic:kline.1.NOPEUSDT", "req_id": "1", "op": "subscribe"}
    A refusal names its first bad topic ("Invalid symbol :[...]" names none), and all of its request is void. One that
    is "already subscribed" is served.
    """
    if not isinstance(message, dict):
        return Frame(fault=str(message)[:200])
    if "topic" in message:
        topic = read_text(message["topic"])
        if topic.startswith(TICKERS):
            return _route_ticker(topic, message)
        if "data" not in message:
            return Frame(topic=topic, odd="no data")
        return Frame(topic=topic, data=message["data"], sent_ms=read_sent_ms(message))
    number = str(message.get("req_id", ""))
    request = int(number) if number.isdecimal() and message.get("op") == "subscribe" else None
    if "op" in message and message.get("success") is not False:
        return Frame(request=request)
    detail = str(message.get("ret_msg", message))[:200]
    named = detail.partition(",topic:")[2] or None
    if named and "already subscribed" in detail:
        return Frame(acked=(named,), request=request, void=True)
    return Frame(topic=named, fault=detail, request=request)


def _route_ticker(topic: str, message: dict[str, Json]) -> Frame:
    """Sort a message of a ticker, which must be of the topic's contract: deltas are merged before they are parsed."""
    data, kind = message.get("data"), message.get("type")
    if not isinstance(data, dict) or kind not in ("snapshot", "delta"):
        return Frame(topic=topic, odd=f"{topic}: a snapshot or a delta with data was expected")
    name = topic.removeprefix(TICKERS)
    if data.get("symbol", name) != name:
        return Frame(topic=topic, odd=f"{topic}: a message of {data['symbol']}")
    whole = {**data, "ts": message.get("ts")}
    return Frame(topic=topic, data=whole, partial=kind == "delta", sent_ms=read_sent_ms(message))


def read_sent_ms(message: dict[str, Json]) -> int | None:
    """Return when a message was sent, None where its ts is no time."""
    try:
        return to_ms(message.get("ts"))
    except BadPayload:
        return None


def make_ticker_topic(instrument: Instrument) -> str:
    """Return the topic of a contract's ticker, which several metrics are read from."""
    return f"{TICKERS}{instrument.name}"


def list_events(data: Json) -> Sequence[Json]:
    """Return the events of a message: an array in all captures, one event in the documentation."""
    return data if isinstance(data, list) else [data]


def parse_kline_event(item: Json, instrument: Instrument) -> Candle | None:
    """Read one of the candles of a kline message, there may be several; only confirm = true is final.

    {"start": 1719667560000, "end": 1719667619999, "interval": "1", "open": "61030", "close": "61029.9", "high":
     "61030", "low": "61015", "volume": "10.798", "turnover": "658980.4245", "confirm": false, "timestamp": ...}
    """
    if get_member(item, "confirm") is False:
        return None
    ts = to_ms(get_member(item, "start"))
    if (
        item["confirm"] is not True
        or get_member(item, "interval") != "1"
        or get_member(item, "end") != ts + MINUTE_MS - 1
    ):
        raise BadPayload(f"a candle of {instrument.name} of one minute was expected")
    names = ("open", "high", "low", "close", "volume", "turnover")
    return make_candle(instrument, ts, [get_member(item, name) for name in names])


def parse_predicted_funding(data: Json, instrument: Instrument) -> PredictedFunding | None:
    """Read the running estimate of the next funding rate from a merged ticker; "" stands for none.

    {"symbol": "BTCUSDT", "fundingRate": "0.00008055", ..., "ts": 1715748762463}: the message's ts, added by `route`.
    """
    check_name(get_member(data, "symbol"), instrument)
    rate = get_member(data, "fundingRate")
    return None if rate == "" else PredictedFunding(to_ms(get_member(data, "ts")), read_number(rate))


def parse_open_interest(data: Json, instrument: Instrument) -> OpenInterest:
    """Read the open interest from a merged ticker: one side as sent since 2026-06-11, else half of both, exactly.

    {"symbol": "BTCUSDT", "openInterest": "58117.022", "openInterestValue": "3596005265.51",
     "singleOpenInterest": "29058.511", "singleOpenInterestValue": "1798002632.75", "ts": 1715748762463}

    A blank value in USD is unknown.
    """
    check_name(get_member(data, "symbol"), instrument)
    contracts = read_amount(read_one_side(data, both="openInterest", single="singleOpenInterest"))
    usd = read_one_side(data, both="openInterestValue", single="singleOpenInterestValue")
    return OpenInterest(to_ms(get_member(data, "ts")), shift(contracts, find_power_of_ten(instrument.multiplier)), usd)


def parse_liquidation(item: Json, instrument: Instrument) -> Liquidations:
    """Read one liquidation: S is the side of the POSITION, so Buy is a long that was closed.

    {"T": 1791091285156, "s": "STRKUSDT", "S": "Buy", "v": "2084.9", "p": "0.05165"}

    p is the bankruptcy price, not the price paid, so v * p is a little low for longs, a little high for shorts.
    Bybit's page, tardis and a capture beside another exchange agree on the side; two clients read S as the order's.
    """
    check_name(get_member(item, "s"), instrument)
    side = get_member(item, "S")
    if side not in ("Buy", "Sell"):
        raise BadPayload(f"{side!r} is not the side of a position")
    usd = multiply(read_amount(get_member(item, "v")), read_price(get_member(item, "p")))
    return make_liquidation(to_ms(get_member(item, "T")), usd, of_long=side == "Buy")


SOCKETS = (
    Socket(
        name="linear",
        path="/v5/public/linear",
        subscribe=subscribe,
        route=route,
        topics_per_socket=500,  # 21,000 characters are allowed; the longest topics have 35, and quotes and a comma
        topics_per_request=10,
        request_pause_s=0.1,
        ping_text='{"op":"ping"}',
        acks=True,
    ),
)

STREAM_FEEDS = (
    StreamFeed(
        metric="ohlcv",
        socket="linear",
        topic=lambda instrument: f"kline.1.{instrument.name}",
        items=read_records,
        parse=parse_kline_event,
        # whether a minute without trades has a message is not known; the ticker shows whether the contract is served
        continuous=False,
        source=DOCS + "Kline stream",
    ),
    StreamFeed(
        metric="ppr",
        socket="linear",
        topic=make_ticker_topic,
        parse=parse_predicted_funding,
        reduce=Reduce.LAST,
        merged=True,
        source=DOCS + "Ticker stream",
    ),
    StreamFeed(
        metric="oi",
        socket="linear",
        topic=make_ticker_topic,
        parse=parse_open_interest,
        reduce=Reduce.LAST,
        merged=True,
        source=DOCS + "Ticker stream",
    ),
    StreamFeed(
        metric="lq",
        socket="linear",
        topic=lambda instrument: f"allLiquidation.{instrument.name}",
        items=list_events,
        parse=parse_liquidation,
        reduce=Reduce.SUM,
        continuous=False,  # there may be no liquidation for minutes
        max_silence_s=EVENT_SILENCE_S,
        # not distinct: events have no id, and equal ones in a frame are different events; of a frame that is sent again
        # ts is the same, too
        source=DOCS + "All Liquidation stream",
    ),
)
