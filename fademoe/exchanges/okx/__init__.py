"""OKX v5, swaps margined in USDT.

Facts: the OKX API guide (docs-v5) as mirrored on 2026-08-22, and what clients report of the live service in 2026. What
neither settles is said where it matters. Prices are per one coin; sizes are contracts and mostly come in coins too.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial

import orjson

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, floor_to
from fademoe.errors import BadPayload
from fademoe.feeds import answers, rows, symbols, values
from fademoe.feeds.answers import Answer, Refusal
from fademoe.feeds.exchange import ClockFeed, Exchange, InstrumentsFeed
from fademoe.feeds.history import Latency, Order, Page, Paging, RestFeed, Retention
from fademoe.feeds.instrument import Instrument, Json, ParseItem
from fademoe.feeds.limits import Budget
from fademoe.feeds.poll import PollFeed
from fademoe.feeds.rows import check_name
from fademoe.feeds.stream import Frame, Reduce, Socket, StreamFeed
from fademoe.feeds.values import amount, element, member, number, price, to_ms
from fademoe.metrics import Candle, Funding, Liquidations, LongShortRatio, OpenInterest, PredictedFunding, Premium

GUIDE = "OKX API guide, mirrored 2026-08-22: "
LIMIT_CODES, TRANSIENT_CODES = ("50011", "50013", "50040", "50061"), ("50001", "50004", "50026")
REFUSED_CODES = (
    *("50005", "50014", "50015", "50016", "50024", "50025", "50030", "50039", "50047", "50051", "50103", "50119"),
    *("51000", "51001", "51014", "51015", "51027", "51155"),
)
LIMIT_S, FIREWALL_S = 2.0, 60.0  # every limit counts in two seconds
LIMITS = {  # requests in two seconds
    "candles": 40, "history-candles": 20, "premium-history": 20, "instruments": 20, "open-interest": 20, "time": 10,
    # The others count by address and contract, here by address all the same: right under both readings.
    "funding-rate-history": 10, "open-interest-history": 10, "long-short-ratio": 5, "funding-rate": 10,
}  # fmt: skip
CANDLES, PREMIUMS, SETTLEMENTS, SAMPLES = 300, 100, 400, 100  # rows of a full answer
CONFIRM = 8  # index in a candle; rows before 2023 are shorter
STEP_MS, QUARTER_MS = 5 * MINUTE_MS, 15 * MINUTE_MS
KIND = "SWAP"
NAMED = re.compile(r"channel:\s*([^\s,]+),\s*inst(?:Id|Type):\s*([^\s,]+?)\.?(?=[\s,]|$)")  # a topic in a text
FIVE: dict[str, str | int] = {"period": "5m", "limit": SAMPLES}


def judge(answer: Answer) -> Refusal | None:
    """Say what an answer means: its code decides, whatever the HTTP status; what is not JSON is a page of the CDN."""
    told = answer.body if isinstance(answer.body, Mapping) else {}
    code, said = told.get("code"), f"HTTP {answer.status}, code {told.get('code')}: {told.get('msg')}"
    if answer.status == 429 or code in LIMIT_CODES:
        return answers.rate_limited(said, LIMIT_S)
    if code in REFUSED_CODES:
        return answers.refused(said)
    if answer.status in (403, 451):
        return answers.banned("this address is shut out", said, FIREWALL_S)
    if code in TRANSIENT_CODES or (answer.body is None and answer.text.lstrip().startswith("<")):
        return answers.server_error(said)
    if code == "0" and answer.status == 200:
        return None
    return answers.by_status(answer, said) or answers.unexpected_payload(f"an error inside HTTP 200: {said}")


def parse_instrument(item: Json) -> Instrument | None:
    """Read a contract of the list of swaps: linear ones in USDT on crypto.

    {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "instFamily": "BTC-USDT", "uly": "BTC-USDT", "ctType": "linear",
     "ctVal": "0.01", "ctMult": "1", "ctValCcy": "BTC", "settleCcy": "USDT", "baseCcy": "", "instCategory": "1",
     "state": "live", "listTime": "1573557408000", "expTime": ""}

    An announced contract is nearly blank until minutes before its listing. instCategory (1 is crypto) came in 2026,
    instFamily after 2022. A delisted contract vanishes, or is expired as on the channel; expTime tells it before.
    """
    is_followed = (
        (member(item, "instType"), member(item, "ctType"), member(item, "settleCcy")) == (KIND, "linear", "USDT")
        and item.get("instCategory", "1") == "1"
        and member(item, "state") not in ("test", "expired")
        and "" not in (member(item, "ctVal"), member(item, "ctMult"), member(item, "listTime"))
    )
    return _instrument(item) if is_followed else None


def _instrument(item: Json) -> Instrument:
    family = values.text(item.get("instFamily") or member(item, "uly"))
    symbol, multiplier = symbols.split_multiplier(values.text(family.partition("-")[0]))
    return Instrument(
        exchange="okx",
        code="okx",
        name=values.text(member(item, "instId")),
        symbol=symbol.upper(),
        multiplier=multiplier,
        contract_value=values.product(price(item["ctVal"]), price(item["ctMult"]), str(multiplier)),
        listed_ms=to_ms(item["listTime"]),
        delisted_ms=None if member(item, "expTime") == "" else to_ms(item["expTime"]),
    )


def older(page: Page, **more: str | int) -> Mapping[str, str | int]:
    """Ask for the newest rows with ts < end; which rows of a range with both ends come is not documented."""
    return {"instId": page.instrument.name, "after": page.end_ms, **more}


def parse_candle(item: Json, instrument: Instrument) -> Candle | None:
    """Read one bar, of REST or of a push; the open bar is no row yet.

    ["1747094040000", "102806.1", "102820.4", "102806.1", "102820.4", "1040.37", "10.4037", "1069603.34883", "1"]:
    open time, o, h, l, c, contracts, coins, USDT, confirmed. A quiet minute has three volumes of 0.
    """
    if element(item, CONFIRM) == "0":
        return None
    if item[CONFIRM] != "1":
        raise BadPayload(f"a confirmed bar was expected, not {item[CONFIRM]!r}")
    amount(item[5])
    return rows.candle(instrument, to_ms(item[0]), [*item[1:5], *item[6:8]])


def parse_premium(item: Json, instrument: Instrument) -> Premium:
    """Read one sample for its minute; its second is arbitrary, how many a minute has is not documented.

    {"instId": "BTC-USDT-SWAP", "premium": "0.0000578896878167", "ts": "1713925924000"}
    """
    check_name(member(item, "instId"), instrument)
    return Premium(floor_to(to_ms(member(item, "ts")), MINUTE_MS), number(member(item, "premium")))


def funding_items(body: Json, page: Page) -> list[Json]:
    """Leave the oldest row to the next answer, which shows what was before it, unless it is all there is."""
    found = rows.with_previous(data(body), "fundingTime")
    return (found[1:] or found)[::-1]


def parse_funding(item: Json, instrument: Instrument) -> Funding:
    """Read one settlement: the rate that was charged, where that is blank the rate that stood.

    {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "method": "current_period", "formulaType": "withRate",
     "fundingRate": "0.0000418741079605", "realizedRate": "0.0000418741079605", "fundingTime": "1788480000000"}

    The interval is the distance to "previous", as no row says how long it was; unknown for the first that is kept.
    """
    check_name(member(item, "instId"), instrument)
    ts = to_ms(member(item, "fundingTime"))
    stood, charged = number(member(item, "fundingRate")), member(item, "realizedRate")
    hours = rows.hours_since(item.get("previous", ts), ts)
    return Funding(ts, stood if charged == "" else number(charged), hours)


def parse_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read one row of open interest, in coins and USD without the noise of floats.

    ["1789239600000", "2752527.40000001374", "27523.9951000001359", "2121056862.79572047273939"]: time, contracts,
    coins, USD. Contracts times their size are 0.005 % off the coins there; the coins are taken.
    """
    element(item, 3)  # all that is read below is there
    amount(item[1])
    return _interest(item[0], item[2], amount(item[3]), instrument)


def parse_ratio(item: Json, instrument: Instrument) -> LongShortRatio:
    """Read one row of long / short accounts: ["1790322000000", "1.24"]. The guide's field note says positions."""
    return LongShortRatio(to_ms(element(item, 0)), amount(element(item, 1)))


def parse_current_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read one element of open-interest, of the channel or of REST; oiUsd came in 2025, what is not known is blank.

    {"instId": "ETH-USDT-SWAP", "instType": "SWAP", "oi": "6385848.98", "oiCcy": "638584.898",
     "oiUsd": "1737793854.62", "ts": "1790165111452"}
    """
    check_name(member(item, "instId"), instrument)
    usd = item.get("oiUsd", "")
    return _interest(member(item, "ts"), member(item, "oiCcy"), None if usd == "" else amount(usd), instrument)


def current_funding(name: str, row_type: type[Premium] | type[PredictedFunding]) -> ParseItem:
    """Return a parser of one member of funding-rate: premium, or fundingRate, which forms for the next settlement.

    {"instId": "LTC-USDT-SWAP", "instType": "SWAP", "fundingRate": "0.0001000000000000", "premium":
     "-0.0004021053670636", "fundingTime": "1765209600000", "nextFundingTime": "1765238400000", "ts": "1765201461438"}

    A blank is no sample, and a new contract may lack the member (seen in 2021). Messages of 2022 have no ts: refused.
    """

    def parse_one(item: Json, instrument: Instrument) -> Premium | PredictedFunding | None:
        check_name(member(item, "instId"), instrument)
        ts, value = to_ms(member(item, "ts")), item.get(name, "")
        return None if value == "" else row_type(ts, number(value))

    return parse_one


def liquidation_details(data: Json) -> list[Json]:
    """Return the liquidations of a message, each with the name of its contract; what has no details stays as it is."""
    return [
        {**detail, "instId": contract.get("instId")} if isinstance(detail, dict) else detail
        for contract in values.records(data)
        for detail in _details(contract)
    ]


def _details(contract: Json) -> Sequence[Json]:
    details = contract.get("details") if isinstance(contract, dict) else None
    return details if isinstance(details, list) else [contract]


def parse_liquidation(item: Json, instrument: Instrument) -> Liquidations:
    """Read one of the details of a contract's liquidations: contracts x their size x price, in USDT.

    {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "instFamily": "BTC-USDT", "uly": "BTC-USDT", "details": [{"bkPx":
     "82655.7", "side": "sell", "posSide": "long", "sz": "8.55", "bkLoss": "0", "ccy": "", "ts": "1791565600771"}]}:
    side is that of the closing order, so sell means a long; posSide is net where a position has no side of its own.
    """
    position, order = member(item, "posSide"), member(item, "side")
    if order not in ("buy", "sell") or position not in ("long", "short", "net", ""):
        raise BadPayload(f"a liquidation with side {order!r} and posSide {position!r}")
    was_long = position == "long" if position in ("long", "short") else order == "sell"
    each = rows.coin_price(member(item, "bkPx"), instrument)
    usd = values.product(amount(member(item, "sz")), instrument.contract_value, each)
    return rows.liquidation(to_ms(member(item, "ts")), usd, of_long=was_long)


def subscribe(topics: Sequence[str], request_id: int) -> str:
    """Write a request."""
    pairs = [name.split(":", 1) for name in topics]
    arguments = [{"channel": channel, "instType" if what == KIND else "instId": what} for channel, what in pairs]
    return orjson.dumps({"id": str(request_id), "op": "subscribe", "args": arguments}).decode()


def route(message: Json) -> Frame:
    """Sort a frame: {"arg", "data"} is data, {"event"} an ack, an error, or the notice of a service upgrade.

    {"event": "error", "code": "60018", "msg": "Wrong URL or channel:index-tickers, instId:NEAR-USDT-SWAP doesn't
     exist. …"}: the text alone names the topic. Whether the rest of its request is served is not documented: acks tell.
    """
    told = message if isinstance(message, dict) else {}
    event = told.get("event")
    if event == "subscribe":
        return Frame(acked=[_topic(member(told, "arg"))])
    if event == "notice" and told.get("code") == "64008":
        return Frame(renew=True)  # a service upgrade: closed in 60 s
    if event is None and "arg" in told and "data" in told:
        return Frame(topic=_topic(told["arg"]), data=told["data"])
    named = NAMED.search(str(told.get("msg")))
    return Frame(topic=named and ":".join(named.groups()), fault=str(message)[:200])


def _topic(argument: Json) -> str:
    channel = values.text(member(argument, "channel"))
    return f"{channel}:{values.text(argument.get('instId') or member(argument, 'instType'))}"


def _interest(ts: Json, coins: Json, usd: str | None, instrument: Instrument) -> OpenInterest:
    """Make a row of open interest; one of before 2025 has no USD."""
    meant = None if usd is None else values.without_noise(usd)
    return OpenInterest(to_ms(ts), values.without_noise(rows.coins(coins, instrument)), meant)


predicted = current_funding("fundingRate", PredictedFunding)
data = partial(values.rows_of, name="data")
current = partial(PollFeed, items=data, name="instId")

pages = partial(Paging, order=Order.NEWEST_FIRST, exact=False)
candles = partial(
    RestFeed,  # with inexact pages: older sources say that an answer holds 100 rows, whatever is asked for
    metric="ohlcv",
    paging=pages(costs=((CANDLES, 1),)),
    params=lambda page: older(page, bar="1m", limit=page.limit),
    items=lambda body, page: data(body),
    parse=parse_candle,
)
# The newest row may still change, and the one after it was seen 66 to 100 s after its stamp: a row is asked for when
# the next one must be there.
samples = partial(
    RestFeed,
    # Whether the ends are inclusive is unknown: rows lie on multiples of five minutes, so the ends lie beside them.
    params=lambda page: {"instId": page.instrument.name, "begin": page.start_ms - 1, "end": page.end_ms - 1, **FIVE},
    items=lambda body, page: data(body),
    interval="5m",
    interval_ms=STEP_MS,
    paging=pages(costs=((SAMPLES, 1),), exact=True),
    latency=Latency(settle_ms=3 * MINUTE_MS),
    retention=Retention(certain_ms=1440 * STEP_MS),
)
socket = partial(
    Socket,
    subscribe=subscribe,
    route=route,
    topics_per_socket=480,  # no limit is documented, 483 have worked
    topics_per_request=100,  # 64 KB are allowed, and 480 requests an hour
    request_pause_s=0.35,
    ping_text="ping",
    acks=True,
)
channel = partial(StreamFeed, socket="public", reduce=Reduce.LAST, items=values.records)
funding = partial(channel, topic=lambda of: f"funding-rate:{of.name}", source=GUIDE + "Funding rate channel")

EXCHANGE = Exchange(
    name="okx",
    title="OKX swaps",
    codes=("okx",),
    rest_url="https://www.okx.com",
    stream_url="wss://ws.okx.com:8443",
    budgets=tuple(Budget(name=n, limit=most, period_ms=2_000, jitter_ms=30) for n, most in LIMITS.items()),
    judge=judge,
    clock=ClockFeed(  # {"data": [{"ts": "1597026383085"}]}
        path="/api/v5/public/time", budget="time", parse=lambda body: to_ms(member(element(data(body), 0), "ts"))
    ),
    instruments=InstrumentsFeed(
        path="/api/v5/public/instruments",
        budget="instruments",
        params={"instType": KIND},
        items=data,
        parse=parse_instrument,
        source=GUIDE + "Get instruments",
    ),
    rest_feeds=(
        candles(
            path="/api/v5/market/history-candles",
            budget="history-candles",
            source=GUIDE + "GET / Candlesticks history",
            recent=candles(path="/api/v5/market/candles", budget="candles", source=GUIDE + "GET / Candlesticks"),
            # of the 24 that it reaches back: a budget of its own, and the other one lags behind by an unknown time
            recent_ms=23 * HOUR_MS,
        ),
        RestFeed(
            metric="pfr",
            path="/api/v5/public/premium-history",
            budget="premium-history",
            paging=pages(costs=((PREMIUMS, 1),)),
            params=lambda page: older(page, limit=PREMIUMS),  # how many samples a minute has is not known
            # where an answer breaks off within a minute, it holds that minute's last
            items=lambda body, page: rows.newest_per_interval(data(body), "ts", MINUTE_MS),
            parse=parse_premium,
            # a minute's last sample must be there: its row is never requested again
            latency=Latency(settle_ms=5 * MINUTE_MS),
            retention=Retention(certain_ms=180 * DAY_MS, possible_ms=184 * DAY_MS),  # six months at their longest
            source=GUIDE + "Get premium history",
        ),
        RestFeed(
            metric="fr",
            path="/api/v5/public/funding-rate-history",
            budget="funding-rate-history",
            # in steps of a quarter of an hour, so that a settlement is asked for soon after it, a span of 100 days
            paging=pages(costs=((100 * DAY_MS // QUARTER_MS, 1),), window_ms=100 * DAY_MS),
            # the end is exclusive; without a start the settlement in front of the page comes too: it tells an interval
            params=lambda page: older(page, limit=SETTLEMENTS),
            items=funding_items,
            parse=parse_funding,
            interval="settlement",
            interval_ms=QUARTER_MS,
            latency=Latency(settle_ms=5 * MINUTE_MS),  # a settlement that was not there yet is not requested again
            # rows were seen 94 days back, none at 120
            retention=Retention(certain_ms=90 * DAY_MS, possible_ms=100 * DAY_MS),
            sparse=True,
            source=GUIDE + "Get funding rate history",
        ),
        samples(
            metric="oi",
            path="/api/v5/rubik/stat/contracts/open-interest-history",
            budget="open-interest-history",
            parse=parse_interest,
            source=GUIDE + "Get contract open interest history",
        ),
        samples(
            metric="lsr",
            path="/api/v5/rubik/stat/contracts/long-short-account-ratio-contract",
            budget="long-short-ratio",
            parse=parse_ratio,
            source=GUIDE + "Get contract long/short ratio",
        ),
    ),
    # What a channel sends within a minute is up to it, so once a minute all contracts are asked for as well.
    poll_feeds=(
        current(
            metric="ppr",
            path="/api/v5/public/funding-rate",
            budget="funding-rate",
            params=lambda instruments: {"instId": "ANY"},
            parse=predicted,
            source=GUIDE + "Get funding rate",
        ),
        current(
            metric="oi",
            path="/api/v5/public/open-interest",
            budget="open-interest",
            params=lambda instruments: {"instType": KIND},
            parse=parse_current_interest,
            source=GUIDE + "Get open interest",
        ),
    ),
    sockets=(socket(name="public", path="/ws/v5/public"), socket(name="business", path="/ws/v5/business")),
    stream_feeds=(
        StreamFeed(
            metric="ohlcv",
            socket="business",
            topic=lambda instrument: f"candle1m:{instrument.name}",
            items=values.records,
            parse=parse_candle,
            continuous=False,  # a minute without trades may have no message
            source=GUIDE + "Candlesticks channel",
        ),
        funding(metric="pfr", parse=current_funding("premium", Premium)),
        funding(metric="ppr", parse=predicted),
        channel(
            metric="oi",
            topic=lambda instrument: f"open-interest:{instrument.name}",
            parse=parse_current_interest,
            continuous=False,  # sent when it has changed
            source=GUIDE + "Open interest channel",
        ),
        StreamFeed(
            metric="lq",
            socket="public",
            topic=lambda instrument: f"liquidation-orders:{KIND}",
            items=liquidation_details,
            parse=parse_liquidation,
            reduce=Reduce.SUM,
            name="instId",
            distinct=True,
            continuous=False,
            source=GUIDE + "Liquidation orders channel",
        ),
    ),
)
