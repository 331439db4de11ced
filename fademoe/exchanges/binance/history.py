"""Binance's endpoints of histories and of current values."""

from collections.abc import Sequence

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Window, floor_to
from fademoe.errors import BadPayload
from fademoe.feeds.columns import read_candles, read_marks, read_times, split_columns
from fademoe.feeds.history import Latency, Newest, Page, Paging, RestFeed, Retention, Together
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.poll import PollFeed
from fademoe.feeds.request import Params
from fademoe.feeds.rows import (
    LONGEST_FUNDING_HOURS,
    add_previous,
    check_name,
    count_hours_since,
    link_settlement,
    make_candle,
    make_mark,
    to_coin_price,
    to_coins,
)
from fademoe.feeds.values import (
    are_amounts,
    get_element,
    get_member,
    read_amount,
    read_count,
    read_number,
    read_optional_amount,
    read_optional_price,
    read_records,
    to_ms,
)
from fademoe.metrics import Candle, Funding, LongShortRatio, Mark, OpenInterest, Premium, Row

DOCS = "developers.binance.com, read 2026-05-28: "
FUNDING_ROWS = 1000  # of a full answer
EARLIER_MS = LONGEST_FUNDING_HOURS * HOUR_MS
FUNDING_GRID_MS = 5 * MINUTE_MS  # far finer than settlements come, so that one is requested minutes after it
# Intervals are whole hours, so this and the 8 hours before hold no more settlements than an answer.
FUNDING_SPAN_MS = (FUNDING_ROWS - LONGEST_FUNDING_HOURS) * HOUR_MS


def make_span_params(page: Page) -> Params:
    """Ask for the rows of a page. Both ends are inclusive, and always sent: with one alone the newest rows come.

    A page holds no more rows than the limit, so it does not matter which ones would win: sources differ.
    """
    return {
        "symbol": page.instrument.name,
        "startTime": page.start_ms,
        "endTime": page.end_ms - 1,
        "limit": page.limit,
    }


def make_kline_params(page: Page) -> Params:
    """Ask for candles of one minute."""
    return {**make_span_params(page), "interval": "1m"}


def make_statistics_params(page: Page) -> Params:
    """Ask for samples of every five minutes."""
    return {**make_span_params(page), "period": "5m"}


def make_funding_params(page: Page) -> Params:
    """Begin 8 hours early, to have the settlement before the page; the oldest rows win, so all room is requested.

    Contracts settle once an hour at most: a page and the 8 hours before are no more rows than the limit.
    """
    return {**make_span_params(page), "startTime": page.start_ms - EARLIER_MS, "limit": FUNDING_ROWS}


def make_all_funding_params(window: Window) -> Params:
    """Ask for the settlements of all contracts: the symbol is optional."""
    return {"startTime": window.start_ms, "endTime": window.end_ms - 1, "limit": FUNDING_ROWS}


def parse_kline(item: Json, instrument: Instrument) -> Candle:
    """Read one kline of a minute.

    [1791382920000, "83137.90", "83155.70", "83082.90", "83084.90", "102.437", 1791382979999, "8514292.61220", 4409,
     "49.832", "4141805.93340", "0"]: open time, o, h, l, c, base volume, close time, quote volume, trades, taker-buy
    base volume, taker-buy quote volume, unused.
    """
    ts = read_open_time(item)
    return make_candle(instrument, ts, [*item[1:6], item[7], item[9]], trades=read_count(item[8]))


def parse_klines(items: Sequence[Json], instrument: Instrument) -> list[Row]:
    """Read a page of klines at once, as `parse_kline` reads one."""
    times, *values, closes, quotes, trades, takers, taker_quotes, _ = split_columns(items, 12)
    opens_ms = read_times(times)
    if list(closes) != [ts + MINUTE_MS - 1 for ts in opens_ms] or not are_amounts(taker_quotes):
        raise BadPayload("not all klines are of a minute, with an amount of taker-buy quote volume")
    return list(read_candles(instrument, opens_ms, [*values, quotes, takers], trades))


def parse_premium(item: Json, instrument: Instrument) -> Premium:
    """Read one premium index kline; its close is the premium at the minute's end. All but prices and samples is "0".

    [1691603820000, "-0.00042931", "-0.00023641", "-0.00059406", "-0.00043659", "0", 1691603879999, "0", 12, "0", …]
    The row is the documented one; there is no recording. The open may lie outside low..high.
    """
    ts = read_open_time(item)
    _, _, _, close = (read_number(value) for value in item[1:5])
    return Premium(ts, close)


def parse_mark(item: Json, instrument: Instrument) -> Mark:
    """Read one mark price kline: open time, o, h, l, c; all but prices, times and the number of samples is "0".

    [1591256460000, "9653.29201333", "9654.56401333", "9653.07367333", "9653.07367333", "0", 1591256519999, "0", 60,
     "0", "0", "0"]
    """
    return make_mark(instrument, read_open_time(item), item[1:5])


def parse_marks(items: Sequence[Json], instrument: Instrument) -> list[Row]:
    """Read a page of mark price klines at once, as `parse_mark` reads one."""
    times, *prices, _, closes, _, _, _, _, _ = split_columns(items, 12)
    opens_ms = read_times(times)
    if list(closes) != [ts + MINUTE_MS - 1 for ts in opens_ms]:
        raise BadPayload("not all klines are of a minute")
    return list(read_marks(instrument, opens_ms, prices))


def read_open_time(item: Json) -> int:
    """Return the open time of a kline of one minute; raise BadPayload for one of another interval."""
    get_element(item, 11)  # all members that are read of it exist
    ts = to_ms(item[0])
    if item[6] != ts + MINUTE_MS - 1:
        raise BadPayload(f"kline of {ts}: it closes at {item[6]!r}, not a minute after its open time")
    return ts


def parse_funding(item: Json, instrument: Instrument) -> Funding:
    """Read one settlement; its time comes 0 to 20 ms late and is floored to the minute.

    {"symbol": "BTCUSDT", "fundingTime": 1791331200002, "fundingRate": "-0.00000743", "markPrice": "85516.50151449",
     "rateType": "Regular"}

    Other rateTypes were never seen; a row with one is a settlement as well. The interval is the distance to the
    settlement before: fundingInfo has only today's, and settlements drift within days. The mark price of settlements
    before 2022 is blank.
    """
    check_name(get_member(item, "symbol"), instrument)
    ts = floor_to(to_ms(get_member(item, "fundingTime")), MINUTE_MS)
    mark = read_optional_price(item.get("markPrice"))
    return Funding(
        ts,
        read_number(get_member(item, "fundingRate")),
        count_hours_since(item.get("previous", ts), ts),
        None if mark is None else to_coin_price(mark, instrument),
    )


def parse_open_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read one point sample of open interest, one side, in base asset and USD; a blank USD value is unknown.

    {"symbol": "LTCUSDT", "sumOpenInterest": "286060.67400000", "sumOpenInterestValue": "13151177.54493120",
     "timestamp": 1602028800000}
    """
    check_name(get_member(item, "symbol"), instrument)
    coins = to_coins(get_member(item, "sumOpenInterest"), instrument)
    return OpenInterest(
        to_ms(get_member(item, "timestamp")), coins, read_optional_amount(item.get("sumOpenInterestValue"))
    )


def parse_ratio(item: Json, instrument: Instrument) -> LongShortRatio:
    """Read one point sample of the ratio of all accounts.

    {"symbol": "BTCUSDT", "longAccount": "0.5799", "longShortRatio": "1.3804", "shortAccount": "0.4201",
     "timestamp": 1602989400000}
    """
    check_name(get_member(item, "symbol"), instrument)
    for share in ("longAccount", "shortAccount"):
        read_amount(get_member(item, share))
    return LongShortRatio(to_ms(get_member(item, "timestamp")), read_amount(get_member(item, "longShortRatio")))


def parse_current_open_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read the current open interest; it comes without a value in USD.

    {"symbol": "BTCUSDT", "openInterest": "95744.938", "time": 1791382984119}
    """
    check_name(get_member(item, "symbol"), instrument)
    return OpenInterest(to_ms(get_member(item, "time")), to_coins(get_member(item, "openInterest"), instrument))


# Measured bands end at 100, 500, 1000, 1500, documented ones one row earlier: cheap under both readings.
KLINE_PAGING = Paging(costs=((99, 1), (499, 2), (1000, 5), (1500, 10)))
STATISTICS_PAGING = Paging(costs=((500, 1),))
# A sample is public 201 s after its time at most, and requested 330 s after it.
STATISTICS_LATENCY = Latency(settle_ms=30 * SECOND_MS, live_edge_ms=5 * MINUTE_MS)
STATISTICS_RETENTION = Retention(certain_ms=30 * DAY_MS)
STATISTICS_LAG_MS = 201 * SECOND_MS
STATISTICS_LAG_WHY = "a statistic of five minutes is public 68 to 201 s after its time (measured)"

REST_FEEDS = (
    RestFeed(
        metric="ohlcv",
        path="/fapi/v1/klines",
        budget="weight",
        params=make_kline_params,
        items=lambda answer, page: read_records(answer),
        parse=parse_kline,
        parse_all=parse_klines,
        paging=KLINE_PAGING,
        newest=Newest(rows=10, at_s=12.0),  # settled by then; a stream's closed candle may be lost
        source=DOCS + "Kline/Candlestick Data",
    ),
    RestFeed(
        metric="pfr",
        path="/fapi/v1/premiumIndexKlines",
        budget="weight",
        params=make_kline_params,
        items=lambda answer, page: read_records(answer),
        parse=parse_premium,
        paging=KLINE_PAGING,
        latency=Latency(live_edge_ms=MINUTE_MS),  # no stream brings it
        source=DOCS + "Premium index Kline Data; its costs are not measured, those of klines are documented for it",
    ),
    RestFeed(
        metric="mark",
        path="/fapi/v1/markPriceKlines",
        budget="weight",
        params=make_kline_params,
        items=lambda answer, page: read_records(answer),
        parse=parse_mark,
        parse_all=parse_marks,
        paging=KLINE_PAGING,
        newest=Newest(rows=99),  # as cheap as one
        source=DOCS + "Mark Price Kline/Candlestick Data; its costs are not measured, those of klines are documented",
    ),
    RestFeed(
        metric="fr",
        path="/fapi/v1/fundingRate",
        budget="funding",
        params=make_funding_params,
        items=lambda answer, page: add_previous(answer, "fundingTime"),
        parse=parse_funding,
        link=link_settlement,
        interval="settlement",
        interval_ms=FUNDING_GRID_MS,
        sparse=True,
        due_every_ms=8 * HOUR_MS,
        paging=Paging(costs=((FUNDING_SPAN_MS // FUNDING_GRID_MS, 1),), window_ms=10 * FUNDING_SPAN_MS),
        # of a settlement that comes later a window is asked for twice
        latency=Latency(settle_ms=5 * MINUTE_MS, live_edge_ms=15 * MINUTE_MS),
        newest=Newest(
            rows=LONGEST_FUNDING_HOURS,
            grid_ms=HOUR_MS,
            together=Together(params=make_all_funding_params, name="symbol", time="fundingTime", rows=FUNDING_ROWS),
        ),
        source=DOCS + "Get Funding Rate History",
    ),
    RestFeed(
        metric="oi",
        path="/futures/data/openInterestHist",
        budget="futures-data",
        params=make_statistics_params,
        items=lambda answer, page: read_records(answer),
        parse=parse_open_interest,
        interval="5m",
        interval_ms=5 * MINUTE_MS,
        paging=STATISTICS_PAGING,
        latency=STATISTICS_LATENCY,
        retention=STATISTICS_RETENTION,
        lag_ms=STATISTICS_LAG_MS,
        lag_why=STATISTICS_LAG_WHY,
        source=DOCS + "Open Interest Statistics",
    ),
    RestFeed(
        metric="lsr",
        path="/futures/data/globalLongShortAccountRatio",
        budget="futures-data",
        params=make_statistics_params,
        items=lambda answer, page: read_records(answer),
        parse=parse_ratio,
        interval="5m",
        interval_ms=5 * MINUTE_MS,
        paging=STATISTICS_PAGING,
        latency=STATISTICS_LATENCY,
        retention=STATISTICS_RETENTION,
        lag_ms=STATISTICS_LAG_MS,
        lag_why=STATISTICS_LAG_WHY,
        source=DOCS + "Long/Short Ratio",
    ),
)

POLL_FEEDS = (
    PollFeed(
        metric="oi",
        path="/fapi/v1/openInterest",
        budget="weight",
        batch=1,
        params=lambda instruments: {"symbol": instruments[0].name},
        items=lambda answer: [answer],
        name="symbol",
        parse=parse_current_open_interest,
        source=DOCS + "Open Interest",
    ),
)
