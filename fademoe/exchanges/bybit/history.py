"""Bybit's endpoints of histories."""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Context, Decimal

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from fademoe.errors import BadPayload
from fademoe.feeds.columns import read_candles, read_marks, read_times, split_columns
from fademoe.feeds.history import Latency, Newest, Order, Page, Paging, RestFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.request import Params
from fademoe.feeds.rows import (
    LONGEST_FUNDING_HOURS,
    add_previous,
    check_candle,
    check_name,
    count_hours_since,
    link_settlement,
    make_candle,
    make_mark,
    read_row_times,
)
from fademoe.feeds.symbols import find_power_of_ten
from fademoe.feeds.values import (
    get_element,
    get_member,
    read_amount,
    read_number,
    read_optional_amount,
    read_rows_of,
    shift,
    to_ms,
)
from fademoe.metrics import Candle, Funding, LongShortRatio, Mark, OpenInterest, Premium, Row

DOCS = "bybit-exchange.github.io/docs/v5, read 2026-07-24: "
CANDLES = 1000  # of a full answer, as are the three below
SETTLEMENTS = 200
INTEREST_SAMPLES = 200
RATIO_SAMPLES = 500
EARLIER_MS = LONGEST_FUNDING_HOURS * HOUR_MS
SAMPLE_MS = 5 * MINUTE_MS
DIVISION = Context(prec=80)  # halves and ratios of what the exchange sends have far fewer digits
SHARES_ERROR = Decimal("0.001")  # two shares of four decimals make one, give or take their rounding


def make_candle_params(page: Page) -> Params:
    """Ask for the candles of a page and the one after it, which shows that the last one is final."""
    return {
        "category": "linear",
        "symbol": page.instrument.name,
        "interval": "1",
        "start": page.start_ms,
        "end": page.end_ms - 1 + MINUTE_MS,
        "limit": CANDLES,
    }


def make_span_params(page: Page, limit: int, earlier_ms: int = 0) -> Params:
    """Ask for the rows of a page and of `earlier_ms` before it: both times always, never more than an answer holds.

    So it does not matter which rows win when there are too many, and that a start alone is an error of one endpoint and
    ignored by another. Both ends are inclusive.
    """
    return {
        "category": "linear",
        "symbol": page.instrument.name,
        "startTime": page.start_ms - earlier_ms,
        "endTime": page.end_ms - 1,
        "limit": limit,
    }


def make_funding_params(page: Page) -> Params:
    """Ask for the settlements of a page and the one before it."""
    return make_span_params(page, SETTLEMENTS, earlier_ms=EARLIER_MS + 1)


def make_interest_params(page: Page) -> Params:
    """Ask for samples of every five minutes."""
    return {**make_span_params(page, INTEREST_SAMPLES), "intervalTime": "5min"}


def make_ratio_params(page: Page) -> Params:
    """Ask for samples of every five minutes; whether the start is inclusive is unknown, so it lies beside the grid."""
    return {**make_span_params(page, RATIO_SAMPLES, earlier_ms=1), "period": "5min"}


def list_rows(answer: Json, page: Page) -> Sequence[Json]:
    """Return the rows of an answer; it names its contract once for all, or in each row, or both."""
    result = get_member(answer, "result")
    listed = read_rows_of(result, "list")
    check_name(result.get("symbol", page.instrument.name), page.instrument)
    if result.get("category", "linear") != "linear":
        raise BadPayload(f"category linear was requested, not {result['category']!r}")
    return listed


def list_final_candles(answer: Json, page: Page) -> Sequence[Json]:
    """Return the candles that are final: the open one has no mark, and Bybit warns that REST may answer with old data.

    Final is what is over for two seconds by the answer's own time, and has a newer candle in the answer: the one after
    the page is requested, too. As a minute without trades may have none, what was over two minutes ago needs no such
    witness.
    """
    now_ms = to_ms(get_member(answer, "time"))
    rows = list_rows(answer, page)
    times = read_row_times(rows, 0)
    newest_ms = max(now_ms - 2 * MINUTE_MS, max(filter(None, times), default=0))
    final_ms = min(now_ms - 2 * SECOND_MS, newest_ms) - MINUTE_MS
    return [
        row
        for ts, row in zip(times, rows, strict=True)
        if ts is None or (ts <= final_ms and not page.end_ms <= ts < page.end_ms + MINUTE_MS)
    ]


def parse_kline(item: Json, instrument: Instrument) -> Candle:
    """Read one candle: open time, o, h, l, c, base volume, turnover. Trades and taker volume are not sent.

    ["1687589580000", "30707.9", "30710", "30704.7", "30709.9", "21.984", "675041.8648"]
    Whether a minute without trades has a flat candle or none is unconfirmed: both are accepted.
    """
    get_element(item, 6)  # all members that are read below exist
    return make_candle(instrument, to_ms(item[0]), item[1:7])


def parse_klines(items: Sequence[Json], instrument: Instrument) -> list[Row]:
    """Read a page of candles at once, as `parse_kline` reads one."""
    times, *values = split_columns(items, 7)
    return list(read_candles(instrument, read_times(times), values))


def parse_premium(item: Json, instrument: Instrument) -> Premium:
    """Read one minute of the premium index: open time, open, high, low, close, fractions.

    ["1677024000000", "0.000000", "0.000045", "0.000000", "0.000000"]
    The open repeats the close before and lies outside low..high in half of the rows, the close in none.
    """
    if not isinstance(item, list) or len(item) != 5:
        raise BadPayload(f"five values of the premium index were expected, not {item!r}")
    _, high, low, close = (read_number(value) for value in item[1:])
    check_candle(close, high, low, close)
    return Premium(to_ms(item[0]), close)


def parse_mark(item: Json, instrument: Instrument) -> Mark:
    """Read one minute of the mark price: open time, open, high, low, close.

    ["1676851200000", "24279.66", "24978", "23851.48", "24881.63"]
    """
    if not isinstance(item, list) or len(item) != 5:
        raise BadPayload(f"five values of the mark price were expected, not {item!r}")
    return make_mark(instrument, to_ms(item[0]), item[1:])


def parse_marks(items: Sequence[Json], instrument: Instrument) -> list[Row]:
    """Read a page of the mark price at once, as `parse_mark` reads one minute."""
    times, *prices = split_columns(items, 5)
    return list(read_marks(instrument, read_times(times), prices))


def parse_funding(item: Json, instrument: Instrument) -> Funding:
    """Read one settled rate.

    {"symbol": "XTZUSDT", "fundingRate": "-0.00249093", "fundingRateTimestamp": "1752940800000"}
    """
    check_name(get_member(item, "symbol"), instrument)
    ts = to_ms(get_member(item, "fundingRateTimestamp"))
    return Funding(ts, read_number(get_member(item, "fundingRate")), count_hours_since(item.get("previous", ts), ts))


def list_interest_samples(answer: Json, page: Page) -> Sequence[Json]:
    """Return the rows; of the oldest one source shows ten-digit seconds: read, but alone only if within the page."""
    samples = list(list_rows(answer, page))
    oldest = samples[-1] if samples else None
    stamp = oldest.get("timestamp") if isinstance(oldest, dict) else None
    if isinstance(stamp, str) and len(stamp) == 10 and stamp.isdecimal():
        in_ms = f"{stamp}000"
        if len(samples) > 1 or page.start_ms <= int(in_ms) < page.end_ms:
            samples[-1] = {**samples[-1], "timestamp": in_ms}
    return samples


def parse_open_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read one sample of the open interest: one side as sent since 2026-06-11, else half of both sides, exactly.

    {"openInterest": "52673.34300000", "singleOpenInterest": "26336.672", "timestamp": "1789458300000"}
    USD are not sent.
    """
    ts = to_ms(get_member(item, "timestamp"))
    check_name(item.get("symbol", instrument.name), instrument)
    contracts = read_amount(read_one_side(item, both="openInterest", single="singleOpenInterest"))
    return OpenInterest(ts, shift(contracts, find_power_of_ten(instrument.multiplier)))


def read_one_side(item: Json, *, both: str, single: str) -> str | None:
    """Return the member `single`, which counts one side, else half of the member `both`, None where both are blank."""
    sides, one_side = read_optional_amount(item.get(both)), read_optional_amount(item.get(single))
    if one_side is None and sides is not None:
        return f"{DIVISION.divide(Decimal(sides), Decimal(2)):f}"
    return one_side


def parse_ratio(item: Json, instrument: Instrument) -> LongShortRatio | None:
    """Read the shares of accounts that are long and short, and divide them: rounded to 8 decimals, half up.

    {"symbol": "ETHUSDT", "buyRatio": "0.6784", "sellRatio": "0.3216", "timestamp": "1789460400000"}
    Without any account on the short side there is no ratio. It is the only value of this exchange that is rounded.
    """
    check_name(get_member(item, "symbol"), instrument)
    longs, shorts = (Decimal(read_amount(get_member(item, name))) for name in ("buyRatio", "sellRatio"))
    if not shorts:
        return None
    if abs(longs + shorts - 1) > SHARES_ERROR:
        raise BadPayload(f"{longs} and {shorts} are not the two shares of all accounts")
    ratio = DIVISION.divide(longs, shorts).quantize(Decimal("1E-8"), ROUND_HALF_UP, DIVISION)
    return LongShortRatio(to_ms(get_member(item, "timestamp")), f"{ratio:f}")


# One candle less than an answer holds: the one after the page is requested, too.
CANDLE_PAGING = Paging(costs=((CANDLES - 1, 1),), order=Order.NEWEST_FIRST)
# A sample is requested half a minute after the next one's time; they were seen there 42 s and 129 s after their own.
SAMPLE_LATENCY = Latency(settle_ms=30 * SECOND_MS)
# Intervals are whole hours, so this and the 8 hours before hold no more settlements than an answer.
FUNDING_SPAN_MS = (SETTLEMENTS - 8) * HOUR_MS

REST_FEEDS = (
    RestFeed(
        metric="ohlcv",
        path="/v5/market/kline",
        budget="ip",
        params=make_candle_params,
        items=list_final_candles,
        parse=parse_kline,
        parse_all=parse_klines,
        paging=CANDLE_PAGING,
        newest=Newest(rows=10, at_s=12.0),  # settled by then; a stream's closed candle may be lost
        source=DOCS + "Get Kline",
    ),
    RestFeed(
        metric="pfr",
        path="/v5/market/premium-index-price-kline",
        budget="ip",
        params=make_candle_params,
        items=list_final_candles,
        parse=parse_premium,
        paging=CANDLE_PAGING,
        source=DOCS + "Get Premium Index Price Kline",
    ),
    RestFeed(
        metric="mark",
        path="/v5/market/mark-price-kline",
        budget="ip",
        params=make_candle_params,
        items=list_final_candles,
        parse=parse_mark,
        parse_all=parse_marks,
        paging=CANDLE_PAGING,
        newest=Newest(rows=CANDLES - 1),
        source=DOCS + "Get Mark Price Kline",
    ),
    RestFeed(
        metric="fr",
        path="/v5/market/funding/history",
        budget="ip",
        params=make_funding_params,
        items=lambda answer, page: add_previous(list_rows(answer, page), "fundingRateTimestamp"),
        parse=parse_funding,
        link=link_settlement,
        interval="settlement",
        interval_ms=SAMPLE_MS,  # so that a settlement is requested minutes after it, not at the end of the next hour
        sparse=True,
        due_every_ms=8 * HOUR_MS,
        paging=Paging(
            costs=((FUNDING_SPAN_MS // SAMPLE_MS, 1),), order=Order.NEWEST_FIRST, window_ms=25 * FUNDING_SPAN_MS
        ),
        # unconfirmed; of a settlement that comes later a window is asked for twice
        latency=Latency(settle_ms=5 * MINUTE_MS),
        newest=Newest(rows=LONGEST_FUNDING_HOURS, grid_ms=HOUR_MS),
        source=DOCS + "Get Funding Rate History",
    ),
    RestFeed(
        metric="oi",
        path="/v5/market/open-interest",
        budget="ip",
        params=make_interest_params,
        items=list_interest_samples,
        parse=parse_open_interest,
        interval="5m",
        interval_ms=SAMPLE_MS,
        paging=Paging(costs=((INTEREST_SAMPLES, 1),), order=Order.NEWEST_FIRST, window_ms=50 * DAY_MS),
        latency=SAMPLE_LATENCY,
        source=DOCS + "Get Open Interest",
    ),
    RestFeed(
        metric="lsr",
        path="/v5/market/account-ratio",
        budget="ip",
        params=make_ratio_params,
        items=list_rows,
        parse=parse_ratio,
        interval="5m",
        interval_ms=SAMPLE_MS,
        paging=Paging(costs=((RATIO_SAMPLES, 1),), order=Order.NEWEST_FIRST, window_ms=50 * DAY_MS),
        latency=SAMPLE_LATENCY,
        source=DOCS + "Get Long Short Ratio",
    ),
)
