"""OKX's endpoints of histories and of current values."""

from collections.abc import Sequence

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, floor_to
from fademoe.errors import BadPayload
from fademoe.feeds.columns import read_candles, read_marks, read_times, split_columns
from fademoe.feeds.history import Latency, Newest, Order, Page, Paging, RestFeed, Retention
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.poll import PollFeed
from fademoe.feeds.request import Params
from fademoe.feeds.rows import (
    LONGEST_FUNDING_HOURS,
    add_previous,
    check_name,
    count_hours_since,
    keep_newest_per_interval,
    link_settlement,
    make_candle,
    make_mark,
    to_coins,
)
from fademoe.feeds.values import (
    are_amounts,
    get_element,
    get_member,
    read_amount,
    read_number,
    read_optional_amount,
    read_rows_of,
    remove_noise,
    to_ms,
)
from fademoe.metrics import Candle, Funding, LongShortRatio, Mark, OpenInterest, PredictedFunding, Premium, Row

GUIDE = "OKX API guide, mirrored 2026-08-22: "
CANDLES = 300  # of a full answer, as are the three below
PREMIUMS = 100
SETTLEMENTS = 400
SAMPLES = 100
MARKS = 100
CONFIRM = 8  # index in a candle; rows before 2023 are shorter
CONFIRM_MARK = 5  # index in a bar of the mark price
SAMPLE_MS = 5 * MINUTE_MS
QUARTER_MS = 15 * MINUTE_MS


def make_candle_params(page: Page) -> Params:
    """Ask for the newest candles with ts < end; which ones of a range with both ends come is not documented."""
    return {"instId": page.instrument.name, "bar": "1m", "after": page.end_ms, "limit": page.limit}


def make_premium_params(page: Page) -> Params:
    """Ask for the newest samples with ts < end, a full answer: how many samples a minute has is not known."""
    return {"instId": page.instrument.name, "after": page.end_ms, "limit": PREMIUMS}


def make_funding_params(page: Page) -> Params:
    """Ask for the newest settlements with ts < end; the one before the page comes too, which shows an interval."""
    return {"instId": page.instrument.name, "after": page.end_ms, "limit": SETTLEMENTS}


def make_sample_params(page: Page) -> Params:
    """Ask for samples of every five minutes.

    Whether the ends are inclusive is unknown: rows lie on multiples of five minutes, so the ends lie beside them.
    """
    return {
        "instId": page.instrument.name,
        "begin": page.start_ms - 1,
        "end": page.end_ms - 1,
        "period": "5m",
        "limit": SAMPLES,
    }


def list_rows(answer: Json, page: Page) -> Sequence[Json]:
    """Return the rows of an answer."""
    return read_rows_of(answer, "data")


def list_premiums(answer: Json, page: Page) -> Sequence[Json]:
    """Return each minute's last sample; an answer that breaks off within a minute holds that minute's last."""
    return keep_newest_per_interval(list_rows(answer, page), "ts", MINUTE_MS)


def list_settlements(answer: Json, page: Page) -> Sequence[Json]:
    """Leave the oldest row to the next answer, which shows what was before it, unless it is all there is."""
    settlements = add_previous(list_rows(answer, page), "fundingTime")
    return (settlements[1:] or settlements)[::-1]


def parse_mark(item: Json, instrument: Instrument) -> Mark | None:
    """Read one bar of the mark price: ["1597026360000", "3.721", "3.743", "3.677", "3.708", "1"]; the open one is none.

    Open time, o, h, l, c, confirmed.
    """
    if is_confirmed(get_element(item, CONFIRM_MARK)):
        return make_mark(instrument, to_ms(item[0]), item[1:5])
    return None


def parse_marks(items: Sequence[Json], instrument: Instrument) -> list[Row]:
    """Read a page of confirmed bars of the mark price at once, as `parse_mark` reads one."""
    times, *prices, confirmed = split_columns(items, 6)
    if confirmed.count("1") < len(confirmed):
        raise BadPayload("not all bars are confirmed")
    return list(read_marks(instrument, read_times(times), prices))


def is_confirmed(confirmed: Json) -> bool:
    """Return whether a bar is final, by its member "confirm"."""
    if confirmed not in ("0", "1"):
        raise BadPayload(f"a bar that is confirmed or not was expected, not {confirmed!r}")
    return bool(confirmed == "1")


def parse_candle(item: Json, instrument: Instrument) -> Candle | None:
    """Read one bar, of REST or of a push; the open bar is no row yet.

    ["1747094040000", "102806.1", "102820.4", "102806.1", "102820.4", "1040.37", "10.4037", "1069603.34883", "1"]:
    open time, o, h, l, c, contracts, coins, USDT, confirmed. A quiet minute has three volumes of 0.
    """
    if not is_confirmed(get_element(item, CONFIRM)):
        return None
    read_amount(item[5])
    return make_candle(instrument, to_ms(item[0]), [*item[1:5], *item[6:8]])


def parse_candles(items: Sequence[Json], instrument: Instrument) -> list[Row]:
    """Read a page of confirmed bars at once, as `parse_candle` reads one."""
    times, *prices, contracts, coins, quotes, confirmed = split_columns(items, 9)
    if confirmed.count("1") < len(confirmed) or not are_amounts(contracts):
        raise BadPayload("not all bars are confirmed, with an amount of contracts")
    return list(read_candles(instrument, read_times(times), [*prices, coins, quotes]))


def parse_premium(item: Json, instrument: Instrument) -> Premium:
    """Read one sample for its minute; its second is arbitrary, how many a minute has is not documented.

    {"instId": "BTC-USDT-SWAP", "premium": "0.0000578896878167", "ts": "1713925924000"}
    """
    check_name(get_member(item, "instId"), instrument)
    return Premium(floor_to(to_ms(get_member(item, "ts")), MINUTE_MS), read_number(get_member(item, "premium")))


def parse_funding(item: Json, instrument: Instrument) -> Funding:
    """Read one settlement: the rate that was charged, where that is blank the rate that stood.

    {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "method": "current_period", "formulaType": "withRate",
     "fundingRate": "0.0000418741079605", "realizedRate": "0.0000418741079605", "fundingTime": "1788480000000"}

    The interval is the distance to "previous", as no row says how long it was; unknown for the first that is kept.
    """
    check_name(get_member(item, "instId"), instrument)
    ts = to_ms(get_member(item, "fundingTime"))
    stood, charged = read_number(get_member(item, "fundingRate")), get_member(item, "realizedRate")
    hours = count_hours_since(item.get("previous", ts), ts)
    return Funding(ts, stood if charged == "" else read_number(charged), hours)


def parse_open_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read one row of open interest, in coins and USD without the noise of floats; a blank USD value is unknown.

    ["1789239600000", "2752527.40000001374", "27523.9951000001359", "2121056862.79572047273939"]: time, contracts,
    coins, USD. Contracts times their size are 0.005 % off the coins there; the coins are taken.
    """
    usd = get_element(item, 3)
    read_amount(item[1])
    return make_open_interest(item[0], item[2], usd, instrument)


def parse_ratio(item: Json, instrument: Instrument) -> LongShortRatio:
    """Read one row of long / short accounts: ["1790322000000", "1.24"]. The guide's field note says positions."""
    return LongShortRatio(to_ms(get_element(item, 0)), read_amount(get_element(item, 1)))


def parse_current_open_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read one element of open-interest, of the channel or of REST; oiUsd came in 2025, what is not known is blank.

    {"instId": "ETH-USDT-SWAP", "instType": "SWAP", "oi": "6385848.98", "oiCcy": "638584.898",
     "oiUsd": "1737793854.62", "ts": "1790165111452"}
    """
    check_name(get_member(item, "instId"), instrument)
    return make_open_interest(get_member(item, "ts"), get_member(item, "oiCcy"), item.get("oiUsd"), instrument)


def make_open_interest(ts: Json, coins: Json, usd: Json, instrument: Instrument) -> OpenInterest:
    """Make a row of a time, coins and USD as they were sent, without the noise of floats."""
    usd_text = read_optional_amount(usd)
    return OpenInterest(
        to_ms(ts),
        remove_noise(to_coins(coins, instrument)),
        None if usd_text is None else remove_noise(usd_text),
    )


def parse_current_premium(item: Json, instrument: Instrument) -> Premium | None:
    """Read the premium of an element of funding-rate (see `parse_predicted_funding`)."""
    ts, value = read_current_funding(item, "premium", instrument)
    return None if value is None else Premium(ts, value)


def parse_predicted_funding(item: Json, instrument: Instrument) -> PredictedFunding | None:
    """Read the fundingRate of an element of funding-rate, which forms for the next settlement.

    {"instId": "LTC-USDT-SWAP", "instType": "SWAP", "fundingRate": "0.0001000000000000", "premium":
     "-0.0004021053670636", "fundingTime": "1765209600000", "nextFundingTime": "1765238400000", "ts": "1765201461438"}
    """
    ts, value = read_current_funding(item, "fundingRate", instrument)
    return None if value is None else PredictedFunding(ts, value)


def read_current_funding(item: Json, name: str, instrument: Instrument) -> tuple[int, str | None]:
    """Return the time of an element of funding-rate and one of its members, None where that is blank or missing.

    A new contract may lack the member (seen in 2021). Messages of 2022 have no ts: BadPayload.
    """
    check_name(get_member(item, "instId"), instrument)
    ts, value = to_ms(get_member(item, "ts")), item.get(name, "")
    return ts, None if value == "" else read_number(value)


CONFIRMED_AT_S = 2.0  # of a minute: the stream's candles of the one before were seen by then

# Inexact pages: older sources say that an answer holds 100 rows, whatever is requested.
CANDLE_PAGING = Paging(costs=((CANDLES, 1),), order=Order.NEWEST_FIRST, exact=False)
MARK_PAGING = Paging(costs=((MARKS, 1),), order=Order.NEWEST_FIRST, exact=False)
SAMPLE_PAGING = Paging(costs=((SAMPLES, 1),), order=Order.NEWEST_FIRST)
# The newest row may still change, and the one after it was seen 66 to 100 s after its stamp: a row is requested when
# the next one must be there.
SAMPLE_LATENCY = Latency(settle_ms=3 * MINUTE_MS)
SAMPLE_RETENTION = Retention(certain_ms=1440 * SAMPLE_MS)

RECENT_CANDLES = RestFeed(
    metric="ohlcv",
    path="/api/v5/market/candles",
    budget="candles",
    params=make_candle_params,
    items=list_rows,
    parse=parse_candle,
    parse_all=parse_candles,
    paging=CANDLE_PAGING,
    source=GUIDE + "GET / Candlesticks",
)

RECENT_MARKS = RestFeed(
    metric="mark",
    path="/api/v5/market/mark-price-candles",
    budget="mark-price-candles",
    params=make_candle_params,
    items=list_rows,
    parse=parse_mark,
    parse_all=parse_marks,
    paging=MARK_PAGING,
    source=GUIDE + "Get mark price candlesticks",
)

REST_FEEDS = (
    RestFeed(
        metric="ohlcv",
        path="/api/v5/market/history-candles",
        budget="history-candles",
        params=make_candle_params,
        items=list_rows,
        parse=parse_candle,
        parse_all=parse_candles,
        paging=CANDLE_PAGING,
        # of the 24 hours that it reaches back: it has a budget of its own, and the other lags by an unknown time
        recent=RECENT_CANDLES,
        recent_ms=23 * HOUR_MS,
        # the stream is silent for a minute without trades; "confirm" tells which candle is final
        newest=Newest(rows=10, at_s=CONFIRMED_AT_S, settle_ms=SECOND_MS),
        source=GUIDE + "GET / Candlesticks history",
    ),
    RestFeed(
        metric="pfr",
        path="/api/v5/public/premium-history",
        budget="premium-history",
        params=make_premium_params,
        items=list_premiums,
        parse=parse_premium,
        paging=Paging(costs=((PREMIUMS, 1),), order=Order.NEWEST_FIRST, exact=False),
        # a minute's last sample must be there: its row is never requested again
        latency=Latency(settle_ms=5 * MINUTE_MS),
        retention=Retention(certain_ms=180 * DAY_MS, possible_ms=184 * DAY_MS),  # six months at their longest
        source=GUIDE + "Get premium history",
    ),
    RestFeed(
        metric="mark",
        path="/api/v5/market/history-mark-price-candles",
        budget="history-mark-price-candles",
        params=make_candle_params,
        items=list_rows,
        parse=parse_mark,
        parse_all=parse_marks,
        paging=MARK_PAGING,
        recent=RECENT_MARKS,
        recent_ms=23 * HOUR_MS,  # as for candles
        newest=Newest(rows=MARKS),
        # the guide says recent years, one client's documentation three months: all is requested, any answer is accepted
        source=GUIDE + "Get mark price candlesticks history",
    ),
    RestFeed(
        metric="fr",
        path="/api/v5/public/funding-rate-history",
        budget="funding-rate-history",
        params=make_funding_params,
        items=list_settlements,
        parse=parse_funding,
        link=link_settlement,
        interval="settlement",
        interval_ms=QUARTER_MS,  # so that a settlement is requested soon after it
        sparse=True,
        due_every_ms=8 * HOUR_MS,
        paging=Paging(
            costs=((100 * DAY_MS // QUARTER_MS, 1),), order=Order.NEWEST_FIRST, exact=False, window_ms=100 * DAY_MS
        ),
        # of a settlement that comes later a window is asked for twice
        latency=Latency(settle_ms=5 * MINUTE_MS),
        retention=Retention(certain_ms=90 * DAY_MS, possible_ms=100 * DAY_MS),  # seen 94 days back, none at 120
        newest=Newest(rows=LONGEST_FUNDING_HOURS, grid_ms=HOUR_MS),
        source=GUIDE + "Get funding rate history",
    ),
    RestFeed(
        metric="oi",
        path="/api/v5/rubik/stat/contracts/open-interest-history",
        budget="open-interest-history",
        params=make_sample_params,
        items=list_rows,
        parse=parse_open_interest,
        interval="5m",
        interval_ms=SAMPLE_MS,
        paging=SAMPLE_PAGING,
        latency=SAMPLE_LATENCY,
        retention=SAMPLE_RETENTION,
        source=GUIDE + "Get contract open interest history",
    ),
    RestFeed(
        metric="lsr",
        path="/api/v5/rubik/stat/contracts/long-short-account-ratio-contract",
        budget="long-short-ratio",
        params=make_sample_params,
        items=list_rows,
        parse=parse_ratio,
        interval="5m",
        interval_ms=SAMPLE_MS,
        paging=SAMPLE_PAGING,
        latency=SAMPLE_LATENCY,
        retention=SAMPLE_RETENTION,
        source=GUIDE + "Get contract long/short ratio",
    ),
)

# When a channel sends within a minute is up to it, so once a minute all contracts are polled as well.
POLL_FEEDS = (
    PollFeed(
        metric="ppr",
        path="/api/v5/public/funding-rate",
        budget="funding-rate",
        params=lambda instruments: {"instId": "ANY"},
        items=lambda answer: read_rows_of(answer, "data"),
        name="instId",
        parse=parse_predicted_funding,
        source=GUIDE + "Get funding rate",
    ),
    PollFeed(
        metric="oi",
        path="/api/v5/public/open-interest",
        budget="open-interest",
        params=lambda instruments: {"instType": "SWAP"},
        items=lambda answer: read_rows_of(answer, "data"),
        name="instId",
        parse=parse_current_open_interest,
        source=GUIDE + "Get open interest",
    ),
)
