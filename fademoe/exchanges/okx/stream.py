"""OKX's sockets and their channels; a topic is "channel:instrument", or "channel:SWAP" for all swaps."""

import re
from collections.abc import Sequence

import orjson

from fademoe.errors import BadPayload
from fademoe.exchanges.okx.history import (
    parse_candle,
    parse_current_open_interest,
    parse_current_premium,
    parse_predicted_funding,
)
from fademoe.exchanges.okx.instruments import parse_instrument
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.reading import read_elements
from fademoe.feeds.rows import make_liquidation, to_coin_price
from fademoe.feeds.stream import Frame, Reduce, Socket, StreamFeed
from fademoe.feeds.values import get_member, multiply, read_amount, read_records, read_text, to_ms
from fademoe.metrics import Liquidations

GUIDE = "OKX API guide, mirrored 2026-08-22: "
ALL_SWAPS = "SWAP"
UPGRADE_NOTICE = "64008"  # the connection is closed in 60 s
CONTRACTS_TOPIC = f"instruments:{ALL_SWAPS}"
ERROR_EVENTS = ("error", "channel-conn-count-error")
EVENT_SILENCE_S = 3600.0  # liquidations of all swaps come two to five times a minute
REFUSED_TOPIC = re.compile(r"channel:\s*([^\s,]+),\s*inst(?:Id|Type):\s*([^\s,]+?)\.?(?=[\s,]|$)")


def subscribe(topics: Sequence[str], request_id: int) -> str:
    """Write a request; each topic is acknowledged by itself, a refusal names its topic in the text alone."""
    arguments = []
    for topic in topics:
        channel, instrument = topic.split(":", 1)
        arguments.append({"channel": channel, "instType" if instrument == ALL_SWAPS else "instId": instrument})
    return orjson.dumps({"id": str(request_id), "op": "subscribe", "args": arguments}).decode()


def route(message: Json) -> Frame:
    """Sort a frame: {"arg", "data"} is data, {"event"} an acknowledgement, an error, or the notice of an upgrade.

    {"event": "error", "code": "60018", "msg": "Wrong URL or channel:index-tickers, instId:NEAR-USDT-SWAP doesn't
     exist. …"}: the text alone names the topic. Whether the rest of its request is served is not documented: the
    acknowledgements show it.
    The channel of instruments sends all contracts, and then each that changes, as the list of contracts has them.
    """
    if not isinstance(message, dict):
        return Frame(fault=str(message)[:200])
    event = message.get("event")
    if event is not None and event not in ("subscribe", "notice", *ERROR_EVENTS):
        return Frame()  # such as channel-conn-count, which tells how many connections listen to a channel
    if event == "subscribe":
        return Frame(acked=(read_topic(get_member(message, "arg")),))
    if event == "notice":
        return Frame(renew=message.get("code") == UPGRADE_NOTICE)
    if event is None and "arg" in message and "data" in message:
        topic = read_topic(message["arg"])
        if topic == CONTRACTS_TOPIC:
            return _route_contracts(message["data"])
        return Frame(topic=topic, data=message["data"])
    refused = REFUSED_TOPIC.search(str(message.get("msg")))
    if refused:
        return Frame(topic=":".join(refused.groups()), fault=str(message)[:200])
    number = str(message.get("id", ""))
    return Frame(fault=str(message)[:200], request=int(number) if number.isdecimal() else None)


def _route_contracts(data: Json) -> Frame:
    """Sort a message of the channel of instruments; one that cannot be read says nothing about any data."""
    try:
        return Frame(contracts=read_elements(read_records(data), parse_instrument).readable)
    except BadPayload as error:
        return Frame(odd=f"{CONTRACTS_TOPIC}: {error}")


def read_topic(argument: Json) -> str:
    """Return the topic of the member "arg" of a frame."""
    channel = read_text(get_member(argument, "channel"))
    return f"{channel}:{read_text(argument.get('instId') or get_member(argument, 'instType'))}"


def make_funding_topic(instrument: Instrument) -> str:
    """Return the topic of a contract's funding rate, which two metrics are read from."""
    return f"funding-rate:{instrument.name}"


def list_liquidations(data: Json) -> Sequence[Json]:
    """Return the liquidations of a message, each with the name of its contract; what has no details stays as it is.

    {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "instFamily": "BTC-USDT", "uly": "BTC-USDT", "details": [{...}]}
    """
    liquidations: list[Json] = []
    for contract in read_records(data):
        details = contract.get("details") if isinstance(contract, dict) else None
        if isinstance(details, list):
            name = contract.get("instId")
            liquidations += [{**(item if isinstance(item, dict) else {}), "instId": name} for item in details]
        else:
            liquidations.append(contract)
    return liquidations


def parse_liquidation(item: Json, instrument: Instrument) -> Liquidations:
    """Read one liquidation: contracts x their size x price, in USDT.

    {"bkPx": "82655.7", "side": "sell", "posSide": "long", "sz": "8.55", "bkLoss": "0", "ccy": "", "ts":
     "1791565600771"}: side is that of the closing order, so sell means a long; posSide is net, or not there, where a
    position has no side of its own.
    """
    order, position = get_member(item, "side"), item.get("posSide", "")
    if order not in ("buy", "sell") or position not in ("long", "short", "net", ""):
        raise BadPayload(f"a liquidation with side {order!r} and posSide {position!r}")
    was_long = position == "long" if position in ("long", "short") else order == "sell"
    price = to_coin_price(get_member(item, "bkPx"), instrument)
    usd = multiply(read_amount(get_member(item, "sz")), instrument.contract_value, price)
    return make_liquidation(to_ms(get_member(item, "ts")), usd, of_long=was_long)


TOPICS_PER_SOCKET = 480  # no limit is documented, 483 have worked
TOPICS_PER_REQUEST = 100  # 64 KB are allowed, and 480 requests an hour
REQUEST_PAUSE_S = 0.35

SOCKETS = (
    Socket(
        name="public",
        path="/ws/v5/public",
        subscribe=subscribe,
        route=route,
        topics_per_socket=TOPICS_PER_SOCKET,
        topics_per_request=TOPICS_PER_REQUEST,
        request_pause_s=REQUEST_PAUSE_S,
        announcements=(CONTRACTS_TOPIC,),
        ping_text="ping",
        acks=True,
    ),
    Socket(
        name="business",
        path="/ws/v5/business",
        subscribe=subscribe,
        route=route,
        topics_per_socket=TOPICS_PER_SOCKET,
        topics_per_request=TOPICS_PER_REQUEST,
        request_pause_s=REQUEST_PAUSE_S,
        ping_text="ping",
        acks=True,
    ),
)

STREAM_FEEDS = (
    StreamFeed(
        metric="ohlcv",
        socket="business",
        topic=lambda instrument: f"candle1m:{instrument.name}",
        items=read_records,
        parse=parse_candle,
        continuous=False,  # a minute without trades may have no message
        source=GUIDE + "Candlesticks channel",
    ),
    StreamFeed(
        metric="pfr",
        socket="public",
        topic=make_funding_topic,
        items=read_records,
        parse=parse_current_premium,
        reduce=Reduce.LAST,
        source=GUIDE + "Funding rate channel",
    ),
    StreamFeed(
        metric="ppr",
        socket="public",
        topic=make_funding_topic,
        items=read_records,
        parse=parse_predicted_funding,
        reduce=Reduce.LAST,
        source=GUIDE + "Funding rate channel",
    ),
    StreamFeed(
        metric="oi",
        socket="public",
        topic=lambda instrument: f"open-interest:{instrument.name}",
        items=read_records,
        parse=parse_current_open_interest,
        reduce=Reduce.LAST,
        continuous=False,  # sent when it has changed
        source=GUIDE + "Open interest channel",
    ),
    StreamFeed(
        metric="lq",
        socket="public",
        topic=lambda instrument: f"liquidation-orders:{ALL_SWAPS}",
        items=list_liquidations,
        name="instId",
        parse=parse_liquidation,
        reduce=Reduce.SUM,
        distinct=True,
        continuous=False,  # there may be no liquidation for minutes
        max_silence_s=EVENT_SILENCE_S,
        source=GUIDE + "Liquidation orders channel",
    ),
)
