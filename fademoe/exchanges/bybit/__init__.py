"""Bybit v5, category linear: perpetuals settled in USDT.

Facts: the v5 documentation (bybit-exchange.github.io/docs/v5), read 2026-07-24, and public captures and measurements
up to 2026-10-09. Every list comes newest first, numbers are strings, trailing zeros are dropped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import partial
from urllib.parse import unquote

import orjson

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from fademoe.errors import BadPayload
from fademoe.feeds import answers, rows, symbols, values
from fademoe.feeds.answers import Answer, Refusal
from fademoe.feeds.exchange import ClockFeed, Exchange, InstrumentsFeed
from fademoe.feeds.history import Latency, Order, Page, PageParams, Paging, RestFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.limits import Budget
from fademoe.feeds.request import Params, Request
from fademoe.feeds.stream import Frame, Reduce, Socket, StreamFeed
from fademoe.feeds.symbols import power_of_ten
from fademoe.feeds.values import amount, member, number, price, shift, to_ms
from fademoe.metrics import Candle, Funding, Liquidations, LongShortRatio, OpenInterest, PredictedFunding, Premium

DOCS = "bybit-exchange.github.io/docs/v5, read 2026-07-24: "
EXACT = Context(prec=80)  # products and halves of what the exchange sends have far fewer digits
BARS, SETTLEMENTS, INTERESTS, RATIOS = 1000, 200, 200, 500  # most of an answer
MOST_REQUESTS = 595  # 600 are allowed, and one more costs ten minutes
STEP_MS = 5 * MINUTE_MS
BAR_VALUES = ("open", "high", "low", "close", "volume", "turnover")
LIST: Params = {"category": "linear", "limit": 1000}
AFTER = {"Trading": "Closed", "Closed": "Delivering", "Delivering": None}  # status of contracts -> what to ask for next
CRYPTO_TYPES = (None, "", "innovation", "adventure")  # the others: stock, forex, commodity, and whatever comes next
LIMIT_CODES, REGION_CODES = (10006, 10018, 429), (10009, 10024)
TRANSIENT_CODES, REFUSED_CODES = (10000, 10016), (10001, 10017, 10029)
OFF = Decimal("0.001")  # two shares of four decimals make one, give or take their rounding
BAN_S, REGION_S, LIMIT_S, LONGEST_LIMIT_S = 600.0, 300.0, 2.0, 60.0


def judge(answer: Answer) -> Refusal | None:
    """Say what an answer means: HTTP status first, then retCode, which tells errors inside a 200 too.

    A 403 with "access too frequent" is the ban of the address, ten minutes at least; every other 403 is taken for the
    region (CloudFront). One client documents 10016 for the rate limit, Bybit for a server error: waiting suits both.
    """
    told = answer.body if isinstance(answer.body, Mapping) and type(answer.body.get("retCode")) is int else {}
    code, message = told.get("retCode"), told.get("retMsg", "")
    said = f"HTTP {answer.status}" + (f", code {code}: {message}" if code else "")
    reset = answer.headers.get("X-Bapi-Limit-Reset-Timestamp", "")[:16]  # of public answers mostly missing
    reset_s = (int(reset) - answer.now_ms) / SECOND_MS if reset.isdecimal() else LIMIT_S
    if answer.status == 403 and "access too frequent" in answer.text.lower():
        return answers.banned("banned", said, BAN_S)
    if answer.status in (403, 451) or code in REGION_CODES:
        return answers.banned("barred region", said, REGION_S)
    if answer.status == 429 or code in LIMIT_CODES:
        return answers.rate_limited(said, min(max(reset_s, LIMIT_S), LONGEST_LIMIT_S))
    if code in TRANSIENT_CODES:
        return answers.server_error(said)
    if code in REFUSED_CODES:
        return answers.refused(said)
    if code == 0 and answer.status == 200:
        return None
    return answers.by_status(answer, said) or answers.unexpected_payload(f"no data: {said} (retCode {code})")


def listed_contracts(body: Json) -> list[Json]:
    """Return the contracts of a page of instruments-info, each with the time of the answer as "answered"."""
    answered_ms = to_ms(member(body, "time"))
    contracts = values.rows_of(member(body, "result"), "list")
    return [item | {"answered": answered_ms} if isinstance(item, dict) else item for item in contracts]


def parse_instrument(item: Json) -> Instrument | None:
    """Read a contract of instruments-info: crypto perpetuals settled in USDT, delisted ones with their time.

    {"symbol": "1000BTTUSDT", "contractType": "LinearPerpetual", "status": "Trading", "baseCoin": "1000BTT",
     "quoteCoin": "USDT", "settleCoin": "USDT", "launchTime": "1645769298000", "deliveryTime": "0", "symbolType": ""}
    Left out: dated futures, USDC contracts, TradFi (told by symbolType, which 2023's rows lack), pre-market contracts.
    """
    is_followed = (
        member(item, "contractType") == "LinearPerpetual"
        and member(item, "settleCoin") == "USDT"
        and item.get("symbolType") in CRYPTO_TYPES
        and values.text(member(item, "status")) in AFTER
    )
    return _instrument(item) if is_followed else None


def next_page(body: Json, request: Request) -> Request | None:
    """Return the request after a page of instruments-info: its cursor, else the next status, None after the last.

    A short page may carry a cursor to nothing, so an empty page ends its status too, and one that a cursor leads back
    to. The cursor comes percent-encoded, and is encoded again when sent.
    """
    result = member(body, "result")
    rows, sent = values.rows_of(result, "list"), result.get("nextPageCursor")
    cursor = unquote(values.text(sent)) if sent else ""
    if rows and cursor and cursor != request.params.get("cursor"):
        return replace(request, params={**LIST, "status": request.params["status"], "cursor": cursor})
    later = AFTER[str(request.params["status"])]
    return replace(request, params={**LIST, "status": later}) if later else None


def asks(start: str, end: str, limit: int, *, early: int = 0, late: int = 0, **rest: str) -> PageParams:
    """Return how a history is asked for: both times always, and never more than one answer holds.

    So it does not matter which rows win when there are too many, and that a start alone is an error here and ignored
    there. `early` and `late`: how many ms more are asked for.
    """
    fixed: dict[str, str | int] = {"category": "linear", "limit": limit, **rest}
    late -= 1  # ends are inclusive
    return lambda page: fixed | {"symbol": page.instrument.name, start: page.start_ms - early, end: page.end_ms + late}


def own_items(body: Json, page: Page) -> Sequence[Json]:
    """Return the rows of an answer, which names its contract once for all, or in each row, or both."""
    result = member(body, "result")
    listed = values.rows_of(result, "list")
    rows.check_name(result.get("symbol", page.instrument.name), page.instrument)
    if result.get("category", "linear") != "linear":
        raise BadPayload(f"category linear was asked for, not {result['category']!r}")
    return listed


def kline_items(body: Json, page: Page) -> list[Json]:
    """Return the candles that are final: the open one has no mark, and Bybit warns that REST may answer with old data.

    Over for two seconds by the answer's own time, and with a newer one in the answer: the one after the page is asked
    for, too. As minutes without trades may have none, what was over two minutes ago needs no such witness.
    """
    now_ms = to_ms(member(body, "time"))
    listed = own_items(body, page)
    newest_ms = max([now_ms - 2 * MINUTE_MS, *(int(row[0]) for row in listed if _is_timed(row))])
    final_ms = min(now_ms - 2 * SECOND_MS, newest_ms) - MINUTE_MS
    return [
        row
        for row in listed
        if not _is_timed(row) or (int(row[0]) <= final_ms and not page.end_ms <= int(row[0]) < page.end_ms + MINUTE_MS)
    ]


def parse_kline(item: Json, instrument: Instrument) -> Candle:
    """Read one candle of REST: open time, o, h, l, c, base volume, turnover. Trades and taker volume are not sent.

    ["1687589580000", "30707.9", "30710", "30704.7", "30709.9", "21.984", "675041.8648"]
    Whether a minute without trades has a flat candle or none is unconfirmed: both are accepted.
    """
    values.element(item, 6)  # all that is read below is there
    return rows.candle(instrument, to_ms(item[0]), item[1:7])


def parse_premium(item: Json, instrument: Instrument) -> Premium:
    """Read one minute of the premium index: open time, open, high, low, close, fractions.

    ["1677024000000", "0.000000", "0.000045", "0.000000", "0.000000"]
    The open repeats the close before and lies outside low..high in half of the rows, the close in none.
    """
    if not isinstance(item, list) or len(item) != 5:
        raise BadPayload(f"five values of the premium index were expected, not {item!r}")
    _, high, low, close = (number(value) for value in item[1:])
    rows.check_candle(close, high, low, close)
    return Premium(to_ms(item[0]), close)


def parse_funding(item: Json, instrument: Instrument) -> Funding:
    """Read one settled rate.

    {"symbol": "XTZUSDT", "fundingRate": "-0.00249093", "fundingRateTimestamp": "1752940800000"}
    """
    rows.check_name(member(item, "symbol"), instrument)
    ts = to_ms(member(item, "fundingRateTimestamp"))
    return Funding(ts, number(member(item, "fundingRate")), rows.hours_since(item.get("previous", ts), ts))


def interest_items(body: Json, page: Page) -> list[Json]:
    """Return the rows; of the oldest one source shows ten-digit seconds: read, but alone only if within the page."""
    rows = list(own_items(body, page))
    stamp = member(rows[-1], "timestamp") if rows else None
    if isinstance(stamp, str) and len(stamp) == 10:
        in_ms = f"{stamp}000"
        if len(rows) > 1 or page.start_ms <= to_ms(in_ms) < page.end_ms:
            rows[-1] = rows[-1] | {"timestamp": in_ms}
    return rows


def parse_open_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read one sample of the open interest: one side as sent since 2026-06-11, else half of both sides, exactly.

    {"openInterest": "52673.34300000", "singleOpenInterest": "26336.672", "timestamp": "1789458300000"}
    USD are not sent.
    """
    ts = to_ms(member(item, "timestamp"))
    rows.check_name(item.get("symbol", instrument.name), instrument)
    return OpenInterest(ts, _one_side(item, "openInterest", "singleOpenInterest", instrument))


def parse_ratio(item: Json, instrument: Instrument) -> LongShortRatio | None:
    """Read the shares of accounts that are long and short, and divide them: rounded to 8 decimals, half up.

    {"symbol": "ETHUSDT", "buyRatio": "0.6784", "sellRatio": "0.3216", "timestamp": "1789460400000"}
    Without any account on the short side there is no ratio. It is the only value of this module that is rounded.
    """
    rows.check_name(member(item, "symbol"), instrument)
    longs, shorts = (Decimal(amount(member(item, name))) for name in ("buyRatio", "sellRatio"))
    if not shorts:
        return None
    if abs(longs + shorts - 1) > OFF:
        raise BadPayload(f"{longs} and {shorts} are not the two shares of all accounts")
    ratio = EXACT.divide(longs, shorts).quantize(Decimal("1E-8"), rounding=ROUND_HALF_UP)
    return LongShortRatio(to_ms(member(item, "timestamp")), f"{ratio:f}")


def parse_kline_event(bar: Json, instrument: Instrument) -> Candle | None:
    """Read one of the candles of a kline message, there may be several; only confirm = true is final.

    {"start": 1719667560000, "end": 1719667619999, "interval": "1", "open": "61030", "close": "61029.9", "high":
     "61030", "low": "61015", "volume": "10.798", "turnover": "658980.4245", "confirm": false, "timestamp": ...}
    """
    if member(bar, "confirm") is False:
        return None
    ts = to_ms(member(bar, "start"))
    if bar["confirm"] is not True or member(bar, "interval") != "1" or member(bar, "end") != ts + MINUTE_MS - 1:
        raise BadPayload(f"candles of {instrument.name} of one minute were expected")
    return rows.candle(instrument, ts, [member(bar, name) for name in BAR_VALUES])


def parse_predicted_funding(data: Json, instrument: Instrument) -> PredictedFunding | None:
    """Read the running estimate of the next funding rate from a merged ticker; "" stands for none.

    {"symbol": "BTCUSDT", "fundingRate": "0.00008055", ..., "ts": 1715748762463}: the message's ts, added by `route`.
    """
    rows.check_name(member(data, "symbol"), instrument)
    rate = member(data, "fundingRate")
    return None if rate == "" else PredictedFunding(to_ms(member(data, "ts")), number(rate))


def parse_ticker_interest(data: Json, instrument: Instrument) -> OpenInterest:
    """Read the open interest from a merged ticker: one side as sent since 2026-06-11, else half of both, exactly.

    {"symbol": "BTCUSDT", "openInterest": "58117.022", "openInterestValue": "3596005265.51",
     "singleOpenInterest": "29058.511", "singleOpenInterestValue": "1798002632.75", "ts": 1715748762463}
    """
    rows.check_name(member(data, "symbol"), instrument)
    interest = _one_side(data, "openInterest", "singleOpenInterest", instrument)
    usd = _one_side(data, "openInterestValue", "singleOpenInterestValue", None)
    return OpenInterest(to_ms(member(data, "ts")), interest, usd)


def parse_liquidation(item: Json, instrument: Instrument) -> Liquidations:
    """Read one liquidation: S is the side of the POSITION, so Buy is a long that was closed.

    {"T": 1791091285156, "s": "STRKUSDT", "S": "Buy", "v": "2084.9", "p": "0.05165"}
    BIAS: p is the bankruptcy price, not the price paid, so v * p is a little low for longs, a little high for shorts.
    Bybit's page, tardis and a capture beside another exchange agree on the side; two clients read S as the order's.
    """
    rows.check_name(member(item, "s"), instrument)
    if member(item, "S") not in ("Buy", "Sell"):
        raise BadPayload(f"{item['S']!r} is not the side of a position")
    usd = values.product(amount(member(item, "v")), price(member(item, "p")))
    return rows.liquidation(to_ms(member(item, "T")), usd, of_long=item["S"] == "Buy")


def subscribe(topics: Sequence[str], request_id: int) -> str:
    """Write a subscription; one topic that is unknown or already active voids all of them."""
    return orjson.dumps({"req_id": str(request_id), "op": "subscribe", "args": list(topics)}).decode()


def route(message: Json) -> Frame:
    """Sort a frame by its topic, else by its op: acks and pongs are passed over, refusals are faults.

    {"success": false, "ret_msg": "error:handler not found,topic:kline.1.NOPEUSDT", "req_id": "1", "op": "subscribe"}
    A refusal names its first bad topic, which goes with the fault; all topics of its request are void.
    """
    if isinstance(message, dict):
        if "topic" in message:
            data = member(message, "data")
            if isinstance(data, dict):
                data = data | {"ts": member(message, "ts")}
            return Frame(topic=values.text(message["topic"]), data=data, partial=member(message, "type") == "delta")
        if "op" in message and message.get("success") is not False:
            return Frame()
        said = str(message.get("ret_msg", message))[:200]
        return Frame(topic=said.partition(",topic:")[2] or None, fault=said)
    return Frame(fault=str(message)[:200])


def _is_timed(row: Json) -> bool:
    """Return whether a candle has a readable time."""
    try:
        to_ms(values.element(row, 0))
    except BadPayload:
        return False
    return True


def _one_side(item: Json, both: str, single: str, instrument: Instrument | None) -> str:
    """Read a member that counts both sides, and the member of one side where it is there; in coins of `instrument`."""
    sides = Decimal(amount(member(item, both)))
    one = item.get(single)
    value = amount(one) if one not in (None, "") else f"{EXACT.divide(sides, Decimal(2)):f}"
    return shift(value, power_of_ten(instrument.multiplier)) if instrument else value


def _instrument(item: Json) -> Instrument:
    """Make a contract; a closed one without a time of delisting was delisted before the answer."""
    symbol, multiplier = symbols.split_multiplier(values.text(member(item, "baseCoin")))
    times = (item.get("launchTime"), item.get("deliveryTime"))
    listed_ms, delisted_ms = (None if time in (None, "", "0") else to_ms(time) for time in times)
    return Instrument(
        exchange="bybit",
        code="byb",
        name=values.text(member(item, "symbol")),
        symbol=symbol.upper(),
        multiplier=multiplier,
        listed_ms=listed_ms,
        delisted_ms=delisted_ms or (item["answered"] if item["status"] == "Closed" else None),
    )


history = partial(RestFeed, budget="ip", items=own_items)
pages = partial(Paging, order=Order.NEWEST_FIRST)
bars = asks("start", "end", BARS, late=MINUTE_MS, interval="1")
candles = partial(history, paging=pages(costs=((BARS - 1, 1),)), params=bars, items=kline_items)
# a sample is asked for half a minute after the next one's time; they were seen there 42 s and 129 s after their own
samples = partial(history, interval="5m", interval_ms=STEP_MS, latency=Latency(settle_ms=30 * SECOND_MS))
channel = partial(StreamFeed, socket="linear")
ticker = partial(channel, topic=lambda instrument: f"tickers.{instrument.name}", reduce=Reduce.LAST, merged=True)

EXCHANGE = Exchange(
    name="bybit",
    title="Bybit linear",
    codes=("byb",),
    rest_url="https://api.bybit.com",
    stream_url="wss://stream.bybit.com",
    budgets=(Budget(name="ip", limit=MOST_REQUESTS, period_ms=5 * SECOND_MS, jitter_ms=25),),
    judge=judge,
    clock=ClockFeed(path="/v5/market/time", budget="ip", parse=lambda body: to_ms(member(body, "time"))),
    instruments=InstrumentsFeed(
        path="/v5/market/instruments-info",
        budget="ip",
        params={**LIST, "status": "Trading"},
        items=listed_contracts,
        parse=parse_instrument,
        next_page=next_page,
        source=DOCS + "Get Instruments Info",
    ),
    rest_feeds=(
        candles(metric="ohlcv", path="/v5/market/kline", parse=parse_kline, source=DOCS + "Get Kline"),
        candles(
            metric="pfr",
            path="/v5/market/premium-index-price-kline",
            parse=parse_premium,
            source=DOCS + "Get Premium Index Price Kline",
        ),
        history(
            metric="fr",
            path="/v5/market/funding/history",
            # intervals are whole hours, so 192 + 8 hours hold no more settlements than an answer; counted in steps of
            # 5 min so that a settlement is asked for minutes after it, not at the end of the next hour
            paging=pages(
                costs=(((SETTLEMENTS - 8) * HOUR_MS // STEP_MS, 1),), window_ms=25 * (SETTLEMENTS - 8) * HOUR_MS
            ),
            interval="settlement",
            interval_ms=STEP_MS,
            latency=Latency(
                settle_ms=5 * MINUTE_MS
            ),  # unconfirmed; nobody asks twice for a settlement that was not there yet
            sparse=True,
            params=asks("startTime", "endTime", SETTLEMENTS, early=8 * HOUR_MS + 1),  # the one before, too
            items=lambda body, page: rows.with_previous(own_items(body, page), "fundingRateTimestamp"),
            parse=parse_funding,
            source=DOCS + "Get Funding Rate History",
        ),
        samples(
            metric="oi",
            path="/v5/market/open-interest",
            paging=pages(costs=((INTERESTS, 1),), window_ms=50 * DAY_MS),
            params=asks("startTime", "endTime", INTERESTS, intervalTime="5min"),
            items=interest_items,
            parse=parse_open_interest,
            source=DOCS + "Get Open Interest",
        ),
        samples(
            metric="lsr",
            path="/v5/market/account-ratio",
            paging=pages(costs=((RATIOS, 1),), window_ms=50 * DAY_MS),
            params=asks("startTime", "endTime", RATIOS, early=1, period="5min"),
            parse=parse_ratio,
            source=DOCS + "Get Long Short Ratio",
        ),
    ),
    sockets=(
        Socket(
            name="linear",
            path="/v5/public/linear",
            subscribe=subscribe,
            route=route,
            topics_per_socket=500,  # 21,000 characters are allowed; the longest topics have 35, and quotes and a comma
            topics_per_request=10,
            request_pause_s=0.1,
            ping_text='{"op":"ping"}',
        ),
    ),
    stream_feeds=(
        channel(
            metric="ohlcv",
            topic=lambda instrument: f"kline.1.{instrument.name}",
            items=values.records,
            parse=parse_kline_event,
            source=DOCS + "Kline stream",
        ),
        ticker(metric="ppr", parse=parse_predicted_funding, source=DOCS + "Ticker stream"),
        ticker(metric="oi", parse=parse_ticker_interest, source=DOCS + "Ticker stream"),
        channel(
            metric="lq",
            topic=lambda instrument: f"allLiquidation.{instrument.name}",
            # an array of events in all captures, one event on the page
            items=lambda data: data if isinstance(data, list) else [data],
            parse=parse_liquidation,
            reduce=Reduce.SUM,
            continuous=False,  # not distinct either: events have no id, and equal ones in a frame are different events
            source=DOCS + "All Liquidation stream",
        ),
    ),
)
