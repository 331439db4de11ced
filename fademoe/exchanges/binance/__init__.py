"""Binance USDⓈ-M futures.

Facts: developers.binance.com, Derivatives > USDⓈ-M Futures, read 2026-05-28, and measurements of 2026-10-07 against
production (cost bands, windows, acks, socket limits).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import orjson

from fademoe.clock import DAY_MS, HOUR_MS, LATEST_MS, MINUTE_MS, SECOND_MS, floor_to
from fademoe.errors import BadPayload
from fademoe.feeds import answers, rows, symbols, values
from fademoe.feeds.answers import Answer, Refusal
from fademoe.feeds.exchange import ClockFeed, Exchange, InstrumentsFeed
from fademoe.feeds.history import Latency, Page, Paging, RestFeed, Retention
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.limits import Budget
from fademoe.feeds.poll import PollFeed
from fademoe.feeds.stream import Frame, Reduce, Socket, StreamFeed
from fademoe.feeds.values import member
from fademoe.metrics import Candle, Funding, Liquidations, LongShortRatio, OpenInterest, PredictedFunding, Premium

FUNDING_ROWS = 1000
TRANSIENT_CODES = (-1000, -1001, -1007, -1008, -1016)
LIMIT_CODE = -1003
BANNED_UNTIL = re.compile(r"banned until (\d{13})")
BAN_S = 120.0  # bans start at two minutes; used when the text names no end
FIREWALL_S = 300.0
BARRED_S = 3600.0
USED = "X-MBX-USED-WEIGHT-1M"


def judge(answer: Answer) -> Refusal | None:
    """Say what an answer means: HTTP status first, then the code of a {"code", "msg"} object, even inside a 200."""
    is_error = isinstance(answer.body, Mapping) and isinstance(answer.body.get("code"), int) and "msg" in answer.body
    code, message = (answer.body["code"], str(answer.body["msg"])) if is_error else (None, "")
    said = f"HTTP {answer.status}" + (f", code {code}: {message}" if code is not None else "")

    if answer.status == 418 or (code == LIMIT_CODE and "banned" in message):
        return answers.banned("banned", said, _ban(answer))
    if answer.status == 429 or code == LIMIT_CODE:
        return answers.rate_limited(said, values.retry_after_s(answer.headers))
    if answer.status == 403:
        return answers.banned("firewall", said, FIREWALL_S)
    if answer.status == 451:
        return answers.banned("this address's country is barred", said, BARRED_S)
    if answer.status != 200 and code in TRANSIENT_CODES:
        return answers.server_error(said)
    if answer.status == 200 and code is not None:
        return answers.unexpected_payload(f"an error inside HTTP 200: code {code}: {message}")
    if answer.status == 200 and answer.body is None:
        return answers.unexpected_payload("the answer is not JSON")
    return answers.by_status(answer, said)


def parse_instrument(item: Json) -> Instrument | None:
    """Read a contract of exchangeInfo: crypto perpetuals quoted in USDT, delisted ones with their time.

    Left out: TRADIFI_PERPETUAL and other underlyings than COIN, dated futures, USDC quotes, contracts not yet trading.
    deliveryDate says when a contract is or was delisted, whatever its status; times after 2100 are for "never".
    """
    is_followed = (
        member(item, "contractType") in ("PERPETUAL", "PERPETUAL_DELIVERING")
        and member(item, "quoteAsset") == "USDT"
        and item.get("underlyingType", "COIN") == "COIN"
        and member(item, "status") != "PENDING_TRADING"
    )
    return _instrument(item) if is_followed else None


def span_params(page: Page) -> dict[str, str | int]:
    """Both ends are inclusive, and always sent: with one alone the newest rows come.

    A window holds no more rows than the limit, so it does not matter which ones would win: sources differ.
    """
    return {
        "symbol": page.instrument.name,
        "startTime": page.start_ms,
        "endTime": page.end_ms - 1,
        "limit": page.limit,
    }


def funding_params(page: Page) -> dict[str, str | int]:
    """Begin 8 hours early, to have the settlement before; the oldest rows win, so room is asked for as for all.

    Contracts settle once an hour at most: the 83 hours of a page and the 8 before are fewer rows than the limit.
    """
    return {**span_params(page), "startTime": page.start_ms - 8 * HOUR_MS, "limit": FUNDING_ROWS}


def open_time(item: Json, interval_ms: int) -> int:
    """Read the open time of a kline; one of another interval than was asked for is bad."""
    values.element(item, 11)  # all that is read of it is there
    ts = values.to_ms(item[0])
    if values.to_ms(item[6]) != ts + interval_ms - 1:
        raise BadPayload(f"kline of {ts}: it does not close {interval_ms} ms after its open time")
    return ts


def parse_kline(item: Json, instrument: Instrument, interval_ms: int = MINUTE_MS) -> Candle:
    """Read one kline of REST.

    [1791382920000, "83137.90", "83155.70", "83082.90", "83084.90", "102.437", 1791382979999, "8514292.61220", 4409,
     "49.832", "4141805.93340", "0"]: open time, o, h, l, c, base volume, close time, quote volume, trades, taker-buy
    base volume, taker-buy quote volume, unused.
    """
    ts = open_time(item, interval_ms)
    values.amount(item[10])
    return rows.candle(instrument, ts, [*item[1:6], *item[7:10]])


def parse_kline_event(data: Json, instrument: Instrument) -> Candle | None:
    """Read one kline event of the stream; only x = true is final, and comes after the minute's end.

    {"e": "kline", "E": 1791382992723, "s": "BTCUSDT", "k": {"t": 1791382980000, "T": 1791383039999, "s": "BTCUSDT",
     "i": "1m", "f": 8153633367, "L": 8153634395, "o": "83084.90", "c": "83091.60", "h": "83091.70", "l": "83051.20",
     "v": "13.551", "n": 1027, "x": false, "q": "1125714.73960", "V": "6.426", "Q": "533856.66860", "B": "0"}}
    """
    k = member(data, "k")
    closed = member(k, "x")
    if closed is False:
        return None
    if closed is not True or member(k, "s") != instrument.name or member(k, "i") != "1m":
        raise BadPayload(f"a kline event of {instrument.name} 1m was expected")
    ts = values.to_ms(member(k, "t"))
    if member(k, "T") != ts + MINUTE_MS - 1 or values.to_ms(member(data, "E")) < member(k, "T"):
        raise BadPayload(f"kline event of {ts}: it is closed before the minute's end")
    return rows.candle(instrument, ts, [member(k, name) for name in "ohlcvqnV"])


def parse_premium(item: Json, instrument: Instrument) -> Premium:
    """Read one premium index kline; its close is the premium at the minute's end. All but prices and samples is "0".

    [1691603820000, "-0.00042931", "-0.00023641", "-0.00059406", "-0.00043659", "0", 1691603879999, "0", 12, "0", …]
    The row is the documented one, nobody has recorded any. The open may lie outside low..high.
    """
    return Premium(open_time(item, MINUTE_MS), [values.number(value) for value in item[1:5]][-1])


def parse_funding(item: Json, instrument: Instrument) -> Funding:
    """Read one settlement; its time comes 0 to 20 ms late and is floored to the minute.

    {"symbol": "BTCUSDT", "fundingTime": 1791331200002, "fundingRate": "-0.00000743", "markPrice": "85516.50151449",
     "rateType": "Regular"}

    Other rateTypes were never seen; a row with one is a settlement as well. The interval is told by the settlement
    before: fundingInfo has only today's, and it drifts within days.
    """
    rows.check_name(member(item, "symbol"), instrument)
    ts = floor_to(values.to_ms(member(item, "fundingTime")), MINUTE_MS)
    return Funding(ts, values.number(member(item, "fundingRate")), rows.hours_since(item.get("previous", ts), ts))


def parse_open_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read one point sample of open interest, one side, in base asset and USD.

    {"symbol": "LTCUSDT", "sumOpenInterest": "286060.67400000", "sumOpenInterestValue": "13151177.54493120",
     "timestamp": 1602028800000}
    """
    rows.check_name(member(item, "symbol"), instrument)
    coins = rows.coins(member(item, "sumOpenInterest"), instrument)
    usd = values.amount(member(item, "sumOpenInterestValue"))
    return OpenInterest(values.to_ms(member(item, "timestamp")), coins, usd)


def parse_current_open_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read the current open interest; it comes without a value in USD.

    {"symbol": "BTCUSDT", "openInterest": "95744.938", "time": 1791382984119}
    """
    rows.check_name(member(item, "symbol"), instrument)
    return OpenInterest(values.to_ms(member(item, "time")), rows.coins(member(item, "openInterest"), instrument))


def parse_ratio(item: Json, instrument: Instrument) -> LongShortRatio:
    """Read one point sample of the ratio of all accounts.

    {"symbol": "BTCUSDT", "longAccount": "0.5799", "longShortRatio": "1.3804", "shortAccount": "0.4201",
     "timestamp": 1602989400000}
    """
    rows.check_name(member(item, "symbol"), instrument)
    for share in ("longAccount", "shortAccount"):
        values.amount(member(item, share))
    return LongShortRatio(values.to_ms(member(item, "timestamp")), values.amount(member(item, "longShortRatio")))


def parse_mark_price(data: Json, instrument: Instrument) -> PredictedFunding | None:
    """Read the running funding estimate `r`; a contract without funding has T = 0 and no estimate.

    {"e": "markPriceUpdate", "E": 1791382993000, "s": "BTCUSDT", "p": "83084.30000000", "ap": "83084.30000000",
     "P": "83195.15881449", "i": "83123.65891304", "r": "0.00000078", "T": 1791388800000, "st": 1}
    """
    rows.check_name(member(data, "s"), instrument)
    ts = values.to_ms(member(data, "E"))
    if member(data, "T") == 0:
        return None
    values.to_ms(data["T"])
    return PredictedFunding(ts, values.number(member(data, "r")))


def force_orders(data: Json) -> list[Json]:
    """Return the forced orders of a message; it holds one event, in captures of others a list of them."""
    return [
        event.get("o") if isinstance(event, dict) else event for event in (data if isinstance(data, list) else [data])
    ]


def parse_force_order(order: Json, instrument: Instrument) -> Liquidations | None:
    """Read one forced order: SELL closes a long. USD = average price x filled quantity.

    {"s": "ILVUSDT", "S": "SELL", "o": "LIMIT", "f": "IOC", "q": "116.5", "p": "3.80300", "ap": "3.85642",
     "X": "FILLED", "l": "25.2", "z": "116.5", "T": 1791391082119, "ps": "ILVUSDT", "st": 1}

    The stream shows one order per symbol and second at most, the largest or the newest (sources differ), so the sums
    are too small. An order of which nothing is filled has liquidated nothing. Orders of COIN-M (st 2)
    ride along and are left out.
    """
    if order.get("st", 1) != 1:
        return None
    side = member(order, "S")
    if side not in ("SELL", "BUY"):
        raise BadPayload(f"{side!r} is not a side of a forced order")
    usd = values.product(values.amount(member(order, "ap")), values.amount(member(order, "z")))
    ts = values.to_ms(member(order, "T"))
    return rows.liquidation(ts, usd, of_long=side == "SELL") if usd.strip("0.") else None


def subscribe(topics: Sequence[str], request_id: int) -> str:
    """Write a SUBSCRIBE request; its ack proves nothing, not even that a topic exists."""
    return orjson.dumps({"method": "SUBSCRIBE", "params": list(topics), "id": request_id}).decode()


def route(message: Json) -> Frame:
    """Sort a frame of /market/stream: {"stream", "data"} is data, {"result", "id"} an ack, the rest is a fault."""
    if isinstance(message, dict):
        if "stream" in message and "data" in message:
            return Frame(topic=values.text(message["stream"]), data=message["data"])
        if "result" in message:
            return Frame()
    return Frame(fault=str(message)[:200])


def _instrument(item: Json) -> Instrument:
    symbol, multiplier = symbols.split_multiplier(values.text(member(item, "baseAsset")))
    delivery = member(item, "deliveryDate")
    return Instrument(
        exchange="binance",
        code="bin",
        name=values.text(member(item, "symbol")),
        symbol=symbol.upper(),
        multiplier=multiplier,
        listed_ms=values.to_ms(member(item, "onboardDate")),
        delisted_ms=None if type(delivery) is int and delivery >= LATEST_MS else values.to_ms(delivery),
    )


def _ban(answer: Answer) -> float:
    """Return the seconds until a ban ends: by Retry-After or the time in the text, the later; else two minutes."""
    named = BANNED_UNTIL.search(answer.text)
    waits = [(int(named[1]) - answer.now_ms) / SECOND_MS + 1] if named else []
    return max(1.0, *waits, values.retry_after_s(answer.headers) or (0.0 if named else BAN_S))


DOCS = "developers.binance.com, read 2026-05-28: "
# Measured bands end at 100, 500, 1000, 1500, documented ones one row earlier: cheap under both readings.
KLINE_COSTS = ((99, 1), (499, 2), (1000, 5), (1500, 10))

KLINES = RestFeed(
    metric="ohlcv",
    path="/fapi/v1/klines",
    budget="weight",
    paging=Paging(costs=KLINE_COSTS),
    params=lambda page: {**span_params(page), "interval": "1m"},
    items=lambda body, page: values.records(body),
    parse=parse_kline,
    source=DOCS + "Kline/Candlestick Data",
)
STATISTICS = RestFeed(
    metric="oi",
    path="/futures/data/openInterestHist",
    budget="futures-data",
    paging=Paging(costs=((500, 1),)),
    params=lambda page: {**span_params(page), "period": "5m"},
    items=lambda body, page: values.records(body),
    parse=parse_open_interest,
    source=DOCS + "Open Interest Statistics",
    interval="5m",
    interval_ms=5 * MINUTE_MS,
    # a row is public 201 s after its time at most, and requested 330 s after it
    latency=Latency(settle_ms=30 * SECOND_MS, live_edge_ms=5 * MINUTE_MS),
    retention=Retention(certain_ms=30 * DAY_MS),
)

EXCHANGE = Exchange(
    name="binance",
    title="Binance USDⓈ-M",
    codes=("bin",),
    rest_url="https://fapi.binance.com",
    stream_url="wss://fstream.binance.com",
    budgets=(
        Budget(name="weight", limit=2400, period_ms=MINUTE_MS, aligned=True, jitter_ms=400, used_header=USED),
        # windows of the clock or sliding ones, one pool for all of futures-data or one per route: the stricter readings
        Budget(name="funding", limit=500, period_ms=5 * MINUTE_MS, jitter_ms=500),
        Budget(name="futures-data", limit=1000, period_ms=5 * MINUTE_MS, jitter_ms=500),
    ),
    judge=judge,
    clock=ClockFeed(path="/fapi/v1/time", budget="weight", parse=lambda body: values.to_ms(member(body, "serverTime"))),
    instruments=InstrumentsFeed(
        path="/fapi/v1/exchangeInfo",
        budget="weight",
        params={},
        items=lambda body: values.rows_of(body, "symbols"),
        parse=parse_instrument,
        source=DOCS + "Exchange Information",
    ),
    rest_feeds=(
        KLINES,
        replace(
            KLINES,
            metric="pfr",
            path="/fapi/v1/premiumIndexKlines",
            parse=parse_premium,
            latency=Latency(live_edge_ms=MINUTE_MS),  # no stream brings it
            source=DOCS + "Premium index Kline Data; its costs are not measured, those of klines are documented for it",
        ),
        RestFeed(
            metric="fr",
            path="/fapi/v1/fundingRate",
            budget="funding",
            paging=Paging(costs=((FUNDING_ROWS, 1),), window_ms=40 * DAY_MS),
            params=funding_params,
            items=lambda body, page: rows.with_previous(body, "fundingTime"),
            parse=parse_funding,
            source=DOCS + "Get Funding Rate History",
            interval="settlement",
            interval_ms=5 * MINUTE_MS,  # far finer than settlements come: a page never holds more than an answer
            # a settlement that was not there yet is not requested again
            latency=Latency(settle_ms=5 * MINUTE_MS, live_edge_ms=15 * MINUTE_MS),
            sparse=True,
        ),
        STATISTICS,
        replace(
            STATISTICS,
            metric="lsr",
            path="/futures/data/globalLongShortAccountRatio",
            parse=parse_ratio,
            source=DOCS + "Long/Short Ratio",
        ),
    ),
    poll_feeds=(
        PollFeed(
            metric="oi",
            path="/fapi/v1/openInterest",
            budget="weight",
            batch=1,
            params=lambda instruments: {"symbol": instruments[0].name},
            items=lambda body: [body],
            name="symbol",
            parse=parse_current_open_interest,
            source=DOCS + "Open Interest",
        ),
    ),
    sockets=(
        Socket(
            name="market",
            path="/market/stream",
            subscribe=subscribe,
            route=route,
            topics_per_socket=1000,  # 1024 are allowed
            topics_per_request=100,
            request_pause_s=0.25,  # 10 messages a second are allowed
            renew_after_s=23.5 * 3600,  # cut after 24 h
        ),
    ),
    stream_feeds=(
        StreamFeed(
            metric="ohlcv",
            socket="market",
            topic=lambda instrument: f"{instrument.name.lower()}@kline_1m",
            parse=parse_kline_event,
            source=DOCS + "Kline/Candlestick Streams",
            # minutes without trades may have no event; the mark price tells whether a contract is heard
            continuous=False,
        ),
        StreamFeed(
            metric="ppr",
            socket="market",
            topic=lambda instrument: f"{instrument.name.lower()}@markPrice@1s",
            parse=parse_mark_price,
            source=DOCS + "Mark Price Stream",
            reduce=Reduce.LAST,
        ),
        StreamFeed(
            metric="lq",
            socket="market",
            topic=lambda instrument: "!forceOrder@arr",
            items=force_orders,
            name="s",
            parse=parse_force_order,
            source=DOCS + "All Market Liquidation Order Streams; side and value as every implementation reads them",
            reduce=Reduce.SUM,
            continuous=False,
        ),
    ),
)
