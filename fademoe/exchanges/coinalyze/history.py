"""Coinalyze's endpoints of histories and of current values.

One call answers all that is kept of an intraday series, whatever its interval. What is kept is counted in rows and
trimmed once a day, so a dense series reaches no further than its most rows and a day.
"""

from collections.abc import Collection, Sequence
from decimal import Decimal
from math import gcd

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from fademoe.errors import BadPayload
from fademoe.exchanges.coinalyze.instruments import is_in_coins
from fademoe.feeds.history import Latency, Page, Paging, RestFeed, Retention
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.poll import PollFeed
from fademoe.feeds.request import Params
from fademoe.feeds.rows import check_candle, to_coin_price, to_coins
from fademoe.feeds.values import (
    get_member,
    read_amount,
    read_count,
    read_number,
    read_records,
    read_rows_of,
    read_text,
    shift,
    to_integer,
    to_ms,
)
from fademoe.metrics import Candle, Funding, Liquidations, LongShortRatio, OpenInterest, PredictedFunding

DOCS = "api.coinalyze.net/v1/doc, stored copy read in autumn 2026, and measurements of 2026-08-25: "
KEPT_ROWS = 1500  # of an intraday series after the daily trim, by the documentation
MOST_ROWS = 2000  # before it
WINDOW_ROWS = 60 * KEPT_ROWS  # of which most are not kept: so that what is kept is mostly one window, and one call
SAMPLE_MS = 5 * MINUTE_MS
EVIDENCE_MS = 2 * DAY_MS  # in which a contract with an interval below eight hours changes its rate between them
CHANGES_OF_LONGER = 3  # so many, all in hours of a longer interval: the contract has that interval now
LONGEST_INTERVAL_MS = 8 * HOUR_MS
HUNDREDTH = Decimal("0.01")  # r, l and s may have two digits behind the point only


def make_span_params(page: Page, interval: str) -> Params:
    """Ask for the rows of a page; both ends are inclusive seconds, milliseconds would get []."""
    return {
        "symbols": page.instrument.name,
        "interval": interval,
        "from": -(-page.start_ms // SECOND_MS),
        "to": (page.end_ms - 1) // SECOND_MS,
    }


def make_minute_params(page: Page) -> Params:
    """Ask for the buckets of one minute."""
    return make_span_params(page, "1min")


def make_sample_params(page: Page) -> Params:
    """Ask for the buckets of five minutes."""
    return make_span_params(page, "5min")


def make_funding_params(page: Page) -> Params:
    """Ask for the buckets of one hour, the longest inside which no funding interval ends, and for those of days before.

    The rows before the page show in which hours the contract settles.
    """
    params = make_span_params(page, "1hour")
    return {**params, "from": -(-(page.start_ms - EVIDENCE_MS) // SECOND_MS)}


def make_interest_params(page: Page) -> Params:
    """Ask for open interest in coins."""
    return {**make_sample_params(page), "convert_to_usd": "false"}


def make_liquidation_params(page: Page) -> Params:
    """Ask for liquidations in USD."""
    return {**make_minute_params(page), "convert_to_usd": "true"}


def list_rows(answer: Json, page: Page) -> Sequence[Json]:
    """Return the rows of [{"symbol": "BTCUSDT_PERP.A", "history": [row, ...]}]; [] is a market without rows."""
    series = read_records(answer)
    if len(series) > 1:
        raise BadPayload(f"{len(series)} markets were sent, one was requested")
    if series and read_text(get_member(series[0], "symbol")) != page.instrument.name:
        raise BadPayload(f"rows of {series[0]['symbol']} instead of {page.instrument.name}")
    return read_rows_of(series[0], "history") if series else []


def list_settlements(answer: Json, page: Page) -> Sequence[Json]:
    """Return the hourly rows of the hours in which a rate was settled, and the rows whose time is unreadable.

    A row says which rate was in force, not whether it was settled in its hour, and no route tells the interval of a
    contract. Every contract settles at multiples of eight hours, whatever its interval of 1, 2, 4 or 8 hours. In
    between, an hour is a settlement when the rate changed in it; and when it did not, if other hours of the same kind
    (such as 4, 12 and 20 o'clock) before it and after it had a change: a rate may be settled again at its old value.
    While it is not known what comes after, changes before it are enough, until several have come in the hours of a
    longer interval only.
    """
    timed = [(_read_start(row), row) for row in list_rows(answer, page)]
    rows = {ts: row for ts, row in timed if ts is not None}
    changes = {ts for ts, row in rows.items() if _has_change(row, rows.get(ts - HOUR_MS))}
    newest_ms = max(rows, default=0)
    return [row for ts, row in timed if ts is None or ts in changes or _is_settlement(ts, changes, newest_ms)]


def _read_start(row: Json) -> int | None:
    try:
        return read_start_ms(row)
    except BadPayload:
        return None


def _has_change(row: Json, before: Json) -> bool:
    """Return whether the rate changed in the hour of `row`; `before`: the row of the hour before, None without one."""
    opened, close = row.get("o"), row.get("c")
    return bool(opened != close or (isinstance(before, dict) and before.get("c") != close))


def _is_settlement(ts: int, changes: Collection[int], newest_ms: int) -> bool:
    """Return whether an hour without a change is a settlement, by the changes in hours of its kind around it."""
    step_ms = gcd(ts, LONGEST_INTERVAL_MS)  # the longest interval that would settle in this hour
    if step_ms == LONGEST_INTERVAL_MS:
        return True

    def is_change_of_kind(hour_ms: int) -> bool:
        return hour_ms in changes and gcd(hour_ms, LONGEST_INTERVAL_MS) <= step_ms

    around = range(HOUR_MS, EVIDENCE_MS + HOUR_MS, HOUR_MS)
    last_ms = next((ts - ms for ms in around if is_change_of_kind(ts - ms)), None)
    if last_ms is None:
        return False
    if any(is_change_of_kind(ts + ms) for ms in around):
        return True
    return newest_ms - ts < EVIDENCE_MS and sum(hour_ms > last_ms for hour_ms in changes) < CHANGES_OF_LONGER


def parse_candle(item: Json, instrument: Instrument) -> Candle:
    """Read a row of /ohlcv-history; bv is the volume that takers bought, tx counts trades, btx those of buyers.

    {"t": 1791382920, "o": 83137.9, "h": 83155.7, "l": 83082.9, "c": 83084.9, "v": 102.437, "bv": 49.832, "tx": 4409,
     "btx": 2210}

    Volume without any trade means that the exchange gives no trades to count: its zeros then stand for "not known".
    """
    ts = read_start_ms(item)
    opened, high, low, close = (to_coin_price(value, instrument) for value in read_bucket(item))
    volume, bought = (to_coins(get_member(item, name), instrument) for name in ("v", "bv"))
    trades, _ = read_count(get_member(item, "tx")), read_count(get_member(item, "btx"))
    is_counted = trades > 0 or _is_zero(volume)
    return Candle(
        ts=ts,
        o=opened,
        h=high,
        l=low,
        c=close,
        v=volume,
        n=trades if is_counted else None,
        tbv=bought if is_counted or not _is_zero(bought) else None,
    )


def parse_funding(item: Json, instrument: Instrument) -> Funding:
    """Read a row of /funding-rate-history in whose hour a rate was settled (see `list_settlements`), in percent.

    {"t": 1791381600, "o": 0.0052, "h": 0.01, "l": 0.0052, "c": 0.01}

    Two independent clients compared values with those of the exchanges: 0.0027 is 0.0027 %. Settlements fall on full
    hours, and the first value behind one may still be the rate before, so the rate settled at t is the close, not the
    open. The interval is not sent, and not stored: hours without a change do not prove it.
    """
    return Funding(ts=read_start_ms(item), fr=to_fraction(read_bucket(item)[3]))


def parse_predicted_funding(item: Json, instrument: Instrument) -> PredictedFunding:
    """Read a row of /predicted-funding-rate-history: the estimate at the end of the minute.

    {"t": 1791382920, "o": 0.0091, "h": 0.0093, "l": 0.0091, "c": 0.0092}: percent
    """
    return PredictedFunding(ts=read_start_ms(item), ppr=to_fraction(read_bucket(item)[3]))


def parse_open_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read a row of /open-interest-history in coins: four values of the five minutes from t on.

    {"t": 1791382800, "o": 78621.542, "h": 78640.11, "l": 78598.2, "c": 78633.906}

    A sample's ts is the instant it stands for: the open is the value at t, whether it is made of the first sample of
    the bucket or of the last one before. The close belongs to the bucket's other end. That all exchanges are counted
    on one side is not documented; taken as sent.
    """
    for value in read_bucket(item):
        read_amount(value)
    return OpenInterest(ts=read_start_ms(item), oi=to_coins(item["o"], instrument))


def parse_ratio(item: Json, instrument: Instrument) -> LongShortRatio:
    """Read a row of /long-short-ratio-history; l and s are shares of accounts, as percentages or fractions.

    {"t": 1791382800, "r": 1.1796, "l": 54.12, "s": 45.88}

    Raises BadPayload where r is not l / s, within what rounding may do.
    """
    ratio, longs, shorts = (Decimal(read_amount(get_member(item, name))) for name in "rls")
    if not shorts or abs(ratio * shorts - longs) > HUNDREDTH * (2 * longs + shorts + ratio + 1):
        raise BadPayload(f"ratio {ratio} is not {longs} / {shorts}")
    return LongShortRatio(ts=read_start_ms(item), lsr=f"{ratio:f}")


def parse_liquidations(item: Json, instrument: Instrument) -> Liquidations:
    """Read a row of /liquidation-history in USD: l of longs, s of shorts; minutes without liquidations have none.

    {"t": 1791382920, "l": 15230.44, "s": 0}
    """
    longs, shorts = (read_amount(get_member(item, name)) for name in "ls")
    return Liquidations(ts=read_start_ms(item), lql=longs, lqs=shorts)


def make_current_params(instruments: Sequence[Instrument]) -> Params:
    """Ask for the current values of some markets."""
    return {"symbols": ",".join(instrument.name for instrument in instruments)}


def make_current_interest_params(instruments: Sequence[Instrument]) -> Params:
    """Ask for the current open interest of some markets, in coins."""
    return {**make_current_params(instruments), "convert_to_usd": "false"}


def parse_current_open_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read the current open interest; `update` is in ms, unlike all other times.

    {"symbol": "BTCUSDT_PERP.A", "value": 78621.542, "update": 1791382934764}
    """
    return OpenInterest(ts=to_ms(get_member(item, "update")), oi=to_coins(get_member(item, "value"), instrument))


def parse_current_predicted_funding(item: Json, instrument: Instrument) -> PredictedFunding:
    """Read the current estimate, in percent.

    {"symbol": "BTCUSDT_PERP.A", "value": 0.0092, "update": 1791382934764}
    """
    return PredictedFunding(
        ts=to_ms(get_member(item, "update")), ppr=to_fraction(read_number(get_member(item, "value")))
    )


def read_start_ms(item: Json) -> int:
    """Return the start of a row's bucket in ms; that t is its start, not its end, all clients say but no document."""
    seconds = to_integer(get_member(item, "t"))
    if type(seconds) is not int:
        raise BadPayload(f"{seconds!r} is not a time in s")
    return to_ms(seconds * SECOND_MS)


def to_fraction(percent: str) -> str:
    """Return a percentage as a fraction, exactly."""
    return shift(percent, -2)


def read_bucket(item: Json) -> tuple[str, str, str, str]:
    """Return open, high, low and close of a bucket."""
    opened, high, low, close = (read_number(get_member(item, name)) for name in "ohlc")
    check_candle(opened, high, low, close)
    return opened, high, low, close


def _is_zero(value: str) -> bool:
    return not value.strip("0.")


# Polls leave gaps, and a call costs the same whatever its span: a call an hour for each series, of some forty a minute
# for all.
MINUTE_PAGING = Paging(costs=((WINDOW_ROWS, 1),), window_ms=WINDOW_ROWS * MINUTE_MS, coalesce_ms=HOUR_MS)
SAMPLE_PAGING = Paging(costs=((WINDOW_ROWS, 1),), window_ms=WINDOW_ROWS * SAMPLE_MS, coalesce_ms=HOUR_MS)
HOUR_PAGING = Paging(costs=((WINDOW_ROWS, 1),), window_ms=WINDOW_ROWS * HOUR_MS, coalesce_ms=HOUR_MS)
# The delay of publication is not measured, and the clock is the host's, as Coinalyze tells no time.
LATENCY = Latency(settle_ms=2 * MINUTE_MS, live_edge_ms=HOUR_MS)
SPARSE_LATENCY = Latency(settle_ms=5 * MINUTE_MS, live_edge_ms=HOUR_MS)
MINUTE_RETENTION = Retention(certain_ms=KEPT_ROWS * MINUTE_MS, possible_ms=MOST_ROWS * MINUTE_MS + DAY_MS)
SAMPLE_RETENTION = Retention(certain_ms=KEPT_ROWS * SAMPLE_MS, possible_ms=MOST_ROWS * SAMPLE_MS + DAY_MS)
HOUR_RETENTION = Retention(certain_ms=KEPT_ROWS * HOUR_MS, possible_ms=MOST_ROWS * HOUR_MS + DAY_MS)

REST_FEEDS = (
    RestFeed(
        metric="ohlcv",
        path="/v1/ohlcv-history",
        budget="key",
        params=make_minute_params,
        items=list_rows,
        parse=parse_candle,
        serves=is_in_coins,
        paging=MINUTE_PAGING,
        latency=LATENCY,
        retention=MINUTE_RETENTION,
        source=DOCS + "/ohlcv-history",
    ),
    RestFeed(
        metric="fr",
        path="/v1/funding-rate-history",
        budget="key",
        params=make_funding_params,
        items=list_settlements,
        parse=parse_funding,
        interval="settlement",
        interval_ms=HOUR_MS,
        sparse=True,
        due_every_ms=LONGEST_INTERVAL_MS,
        paging=HOUR_PAGING,
        latency=SPARSE_LATENCY,
        retention=HOUR_RETENTION,
        source=DOCS + "/funding-rate-history",
    ),
    RestFeed(
        metric="ppr",
        path="/v1/predicted-funding-rate-history",
        budget="key",
        params=make_minute_params,
        items=list_rows,
        parse=parse_predicted_funding,
        paging=MINUTE_PAGING,
        latency=LATENCY,
        retention=MINUTE_RETENTION,
        source=DOCS + "/predicted-funding-rate-history",
    ),
    RestFeed(
        metric="oi",
        path="/v1/open-interest-history",
        budget="key",
        params=make_interest_params,
        items=list_rows,
        parse=parse_open_interest,
        serves=is_in_coins,
        interval="5m",
        interval_ms=SAMPLE_MS,
        paging=SAMPLE_PAGING,
        latency=LATENCY,
        retention=SAMPLE_RETENTION,
        source=DOCS + "/open-interest-history",
    ),
    RestFeed(
        metric="lsr",
        path="/v1/long-short-ratio-history",
        budget="key",
        params=make_sample_params,
        items=list_rows,
        parse=parse_ratio,
        interval="5m",
        interval_ms=SAMPLE_MS,
        paging=SAMPLE_PAGING,
        latency=LATENCY,
        retention=SAMPLE_RETENTION,
        source=DOCS + "/long-short-ratio-history",
    ),
    RestFeed(
        metric="lq",
        path="/v1/liquidation-history",
        budget="key",
        params=make_liquidation_params,
        items=list_rows,
        parse=parse_liquidations,
        sparse=True,
        paging=MINUTE_PAGING,
        latency=SPARSE_LATENCY,
        # where few minutes have rows, those that are kept reach back for years
        retention=Retention(certain_ms=KEPT_ROWS * MINUTE_MS, possible_ms=MOST_ROWS * DAY_MS),
        source=DOCS + "/liquidation-history",
    ),
)

# Twenty markets are allowed in a request, and none is cheaper for it. Of some forty calls a minute twelve go to current
# open interest, which has no other source of minutes, and four to predicted rates, which the history brings as well.
POLL_FEEDS = (
    PollFeed(
        metric="oi",
        path="/v1/open-interest",
        budget="key",
        batch=2,
        share=12,
        params=make_current_interest_params,
        items=read_records,
        name="symbol",
        parse=parse_current_open_interest,
        serves=is_in_coins,
        source=DOCS + "/open-interest",
    ),
    PollFeed(
        metric="ppr",
        path="/v1/predicted-funding-rate",
        budget="key",
        batch=2,
        share=4,
        params=make_current_params,
        items=read_records,
        name="symbol",
        parse=parse_current_predicted_funding,
        source=DOCS + "/predicted-funding-rate",
    ),
)
