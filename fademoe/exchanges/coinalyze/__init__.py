"""Coinalyze: an aggregator's figures of the perpetuals of Binance, Bybit and OKX, each under a code of its own.

Facts: api.coinalyze.net/v1/doc, read in autumn 2026 from a stored copy, and other people's measurements of 2025-10 and
2026-08-25. Nobody has published a recorded answer, so samples below follow the documentation. Times are seconds, values
are JSON numbers, and what a figure's unit leaves open is said at its parser.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from fademoe.errors import BadPayload, Refused
from fademoe.feeds import answers
from fademoe.feeds.answers import Answer, Refusal
from fademoe.feeds.exchange import Exchange, InstrumentsFeed
from fademoe.feeds.history import Latency, Page, PageParams, Paging, RestFeed, Retention
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.limits import Budget
from fademoe.feeds.poll import PollFeed
from fademoe.feeds.rows import check_candle
from fademoe.feeds.symbols import power_of_ten, split_multiplier
from fademoe.feeds.values import (
    amount,
    count,
    exact,
    member,
    number,
    price,
    records,
    retry_after_s,
    rows_of,
    shift,
    text,
    to_ms,
)
from fademoe.metrics import Candle, Funding, Liquidations, LongShortRatio, OpenInterest, PredictedFunding, Row

CODES = {"A": "c-bin", "6": "c-byb", "3": "c-okx"}  # Coinalyze's code of an exchange -> ours
NO_COINS = "0"  # contract_value of a market whose sizes are quote currency, or of an unknown number of coins
KEPT_ROWS, MOST_ROWS = 1500, 2000  # of an intraday series after the daily trim, by the documentation
WINDOW_ROWS = 60 * KEPT_ROWS  # of which most are not kept: so that what is kept is mostly one window, and one call
SPARSE_REACH_MS = MOST_ROWS * DAY_MS  # where few minutes have rows, those that are kept reach back for years
SETTLE_MS = 2 * MINUTE_MS  # publication is unmeasured, and the clock is the host's, as Coinalyze tells no time
SPARSE_SETTLE_MS = 5 * MINUTE_MS  # a row that comes later than this is never asked for again
# Of some forty calls a minute so many go to current values, every contract being one call: open interest of a minute
# has no other source, predicted rates come by the history as well.
INTEREST_SHARE, RATE_SHARE = 12, 4
KEY_S = 60.0  # the period of the limit: the wait when an answer names none
FIREWALL_S = 300.0
HUNDREDTH = Decimal("0.01")  # r, l and s may have two digits behind the point only
UNITS_MS = {"1m": MINUTE_MS, "5m": 5 * MINUTE_MS, "1h": HOUR_MS}
DOCUMENTATION = "api.coinalyze.net/v1/doc, stored copy read in autumn 2026"

_KEY = re.compile(r"[!-~]{1,200}")
_THOUSANDS = re.compile(r"10{3,6}|\b1M(?=[A-Z]{3})")

Parse = Callable[[Json, Instrument], Row]


def judge(answer: Answer) -> Refusal | None:
    """Say what an answer means, by its status alone: no body of an error is known, and a text might repeat the key."""
    said = f"HTTP {answer.status}"
    if answer.status == 429:
        return answers.rate_limited(said, retry_after_s(answer.headers) or KEY_S)
    if answer.status == 401:
        return answers.refused(f"the key is not accepted, check FADEMOE_COINALYZE_KEY: {said}")
    if answer.status in (403, 418, 451):
        return answers.banned("this address is shut out", said, FIREWALL_S)
    if answer.status == 200 and not isinstance(answer.body, list):
        return answers.unexpected_payload("the answer is not JSON" if answer.body is None else "no list came")
    return answers.by_status(answer, said)


def headers(key: str) -> Mapping[str, str]:
    """Send the key as a header: in the query it would end up in logs and error texts.

    Raises Refused, without the key's text, for one that no header can carry.
    """
    if not _KEY.fullmatch(key):
        reason = "holds blanks or other characters that no key has" if key else "is not set"
        raise Refused(f"FADEMOE_COINALYZE_KEY {reason}", exchange="coinalyze")
    return {"api_key": key}


def parse_instrument(item: Json) -> Instrument | None:
    """Read a market of /future-markets: perpetuals of the three exchanges, quoted in USDT and margined in stablecoins.

    {"symbol": "BTCUSDT_PERP.A", "exchange": "A", "symbol_on_exchange": "BTCUSDT", "base_asset": "BTC",
     "quote_asset": "USDT", "is_perpetual": true, "margined": "STABLE", "expire_at": null,
     "oi_lq_vol_denominated_in": "BASE_ASSET", "has_long_short_ratio_data": true, "has_ohlcv_data": true,
     "has_buy_sell_data": true}

    What base_asset is for 1000PEPEUSDT is told nowhere. Taken: 1000PEPE, prices and sizes then are of 1000 coins, as on
    the exchange itself. Should it be PEPE while the exchange's symbol counts in thousands, the unit would be unknown:
    only metrics without coins are stored then. Whether a market is on crypto is not told either, and listing times are
    unknown.
    """
    return _instrument(item) if _is_followed(item) else None


def history_params(interval: str, **more: str) -> PageParams:
    """Make the parameters of a history route; both ends are inclusive seconds, milliseconds would get []."""

    def params(page: Page) -> Mapping[str, str | int]:
        span = {"from": -(-page.start_ms // SECOND_MS), "to": (page.end_ms - 1) // SECOND_MS}
        return {"symbols": page.instrument.name, "interval": interval, **span, **more}

    return params


def counts_coins(instrument: Instrument) -> bool:
    """Tell whether a market's prices and sizes are of a known number of coins."""
    return instrument.contract_value != NO_COINS


def history(body: Json, page: Page) -> Sequence[Json]:
    """Return the rows of [{"symbol": "BTCUSDT_PERP.A", "history": [row, ...]}]; [] is a market without rows."""
    series = records(body)
    if len(series) > 1:
        raise BadPayload(f"{len(series)} markets were sent, one was asked for")
    if series and text(member(series[0], "symbol")) != page.instrument.name:
        raise BadPayload(f"rows of {series[0]['symbol']} instead of {page.instrument.name}")
    return rows_of(series[0], "history") if series else []


def parse_candle(item: Json, instrument: Instrument) -> Candle:
    """Read a row of /ohlcv-history; bv is the volume that takers bought, tx counts trades, btx those of buyers.

    {"t": 1791382920, "o": 83137.9, "h": 83155.7, "l": 83082.9, "c": 83084.9, "v": 102.437, "bv": 49.832, "tx": 4409,
     "btx": 2210}

    Volume without any trade means that the exchange gives no trades to count: its zeros then stand for "not known".
    """
    power = power_of_ten(instrument.multiplier)
    ts = _start_ms(item)
    opened, high, low, close = (shift(price(value), -power) for value in _ohlc(item))
    volume, bought = (amount(_number(item, name)) for name in ("v", "bv"))
    trades, _ = count(member(item, "tx")), count(member(item, "btx"))
    is_counted = trades > 0 or _is_zero(volume)
    return Candle(
        ts=ts,
        o=opened,
        h=high,
        l=low,
        c=close,
        v=shift(volume, power),
        n=trades if is_counted else None,
        tbv=shift(bought, power) if is_counted or not _is_zero(bought) else None,
    )


def parse_funding(item: Json, instrument: Instrument) -> Funding:
    """Read a row of /funding-rate-history, one an hour: the rate that was in force when the hour ended.

    {"t": 1791381600, "o": 0.0052, "h": 0.01, "l": 0.0052, "c": 0.01}

    Stored as it is sent: no source proves whether it is a fraction or a percentage. Settlements fall on full hours, and
    the first value behind one may still be the rate before, so the rate of the instant t is the close, not the open.
    Whether hours without a settlement have rows is not told: those that come are stored, others are no holes.
    """
    return Funding(ts=_start_ms(item), fr=number(_ohlc(item)[3]))


def parse_predicted_funding(item: Json, instrument: Instrument) -> PredictedFunding:
    """Read a row of /predicted-funding-rate-history: the estimate at the end of the minute.

    {"t": 1791382920, "o": 0.0091, "h": 0.0093, "l": 0.0091, "c": 0.0092}

    Stored as it is sent, a fraction or a percentage.
    """
    return PredictedFunding(ts=_start_ms(item), ppr=number(_ohlc(item)[3]))


def parse_open_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read a row of /open-interest-history in coins: four values of the five minutes from t on.

    {"t": 1791382800, "o": 78621.542, "h": 78640.11, "l": 78598.2, "c": 78633.906}

    A sample's ts is the instant it stands for: the open is the value at t, whether it is made of the first sample of
    the bucket or of the last one before. The close belongs to the bucket's other end. That all exchanges are counted
    on one side is not told; taken as sent.
    """
    values = [amount(value) for value in _ohlc(item)]
    return OpenInterest(ts=_start_ms(item), oi=shift(values[0], power_of_ten(instrument.multiplier)))


def parse_long_short_ratio(item: Json, instrument: Instrument) -> LongShortRatio:
    """Read a row of /long-short-ratio-history; l and s are shares of accounts, as percentages or fractions.

    {"t": 1791382800, "r": 1.1796, "l": 54.12, "s": 45.88}

    Raises BadPayload where r is not l / s, within what rounding may do.
    """
    ratio, longs, shorts = (Decimal(amount(_number(item, name))) for name in "rls")
    if not shorts or abs(ratio * shorts - longs) > HUNDREDTH * (2 * longs + shorts + ratio + 1):
        raise BadPayload(f"ratio {ratio} is not {longs} / {shorts}")
    return LongShortRatio(ts=_start_ms(item), lsr=f"{ratio:f}")


def parse_liquidations(item: Json, instrument: Instrument) -> Liquidations:
    """Read a row of /liquidation-history in USD: l of longs, s of shorts; minutes without liquidations have none.

    {"t": 1791382920, "l": 15230.44, "s": 0}
    """
    longs, shorts = (amount(_number(item, name)) for name in "ls")
    return Liquidations(ts=_start_ms(item), lql=longs, lqs=shorts)


def current_params(instruments: Sequence[Instrument], **more: str) -> Mapping[str, str | int]:
    """Ask for the current values of some markets."""
    return {"symbols": ",".join(instrument.name for instrument in instruments), **more}


def parse_current_open_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read the open interest of now; `update` is in ms, unlike all other times.

    {"symbol": "BTCUSDT_PERP.A", "value": 78621.542, "update": 1791382934764}
    """
    value = amount(_number(item, "value"))
    return OpenInterest(ts=to_ms(member(item, "update")), oi=shift(value, power_of_ten(instrument.multiplier)))


def parse_current_predicted_funding(item: Json, instrument: Instrument) -> PredictedFunding:
    """Read the estimate of now, in the unit of its history.

    {"symbol": "BTCUSDT_PERP.A", "value": 0.0092, "update": 1791382934764}
    """
    return PredictedFunding(ts=to_ms(member(item, "update")), ppr=number(_number(item, "value")))


def _number(item: Json, name: str) -> str:
    return exact(member(item, name))


def _is_zero(value: str) -> bool:
    return not value.strip("0.")


def _start_ms(item: Json) -> int:
    """Read the start of a row's bucket, in ms; that t is its start, not its end, all clients say but no document."""
    seconds = member(item, "t")
    if type(seconds) is not int:
        raise BadPayload(f"{seconds!r} is not a time in s")
    return to_ms(seconds * SECOND_MS)


def _ohlc(item: Json) -> tuple[str, str, str, str]:
    """Read the four values of a bucket."""
    opened, high, low, close = (number(_number(item, name)) for name in "ohlc")
    check_candle(opened, high, low, close)
    return opened, high, low, close


def _is_followed(item: Json) -> bool:
    """Tell whether a market is a USDT perpetual of one of the three exchanges."""
    exchange, suffix = text(member(item, "exchange")), text(member(item, "symbol")).rpartition(".")[2]
    if exchange != suffix and (exchange in CODES or suffix in CODES):
        raise BadPayload(f"market {item['symbol']} is said to be of exchange {exchange}")
    kind = (member(item, "is_perpetual"), text(member(item, "quote_asset")), text(member(item, "margined")))
    return exchange in CODES and kind == (True, "USDT", "STABLE")


def _instrument(item: Json) -> Instrument:
    """Read one market."""
    base, unit = text(member(item, "base_asset")), member(item, "oi_lq_vol_denominated_in")
    if unit not in ("BASE_ASSET", "QUOTE_ASSET"):
        raise BadPayload(f"market {item['symbol']}: sizes in {unit!r}")
    symbol, multiplier = split_multiplier(base)
    thousands = _THOUSANDS.search(text(member(item, "symbol_on_exchange")))
    is_clear = thousands is None or thousands[0] in base
    return Instrument(
        exchange="coinalyze",
        code=CODES[item["exchange"]],
        name=item["symbol"],
        symbol=symbol.upper(),
        multiplier=multiplier,
        contract_value="1" if unit == "BASE_ASSET" and is_clear else NO_COINS,
    )


def _feed(
    metric: str, route: str, parse: Parse, params: PageParams, unit: str = "1m", *, sparse: bool = False
) -> RestFeed:
    """Describe a history route: one call answers all that is kept of an intraday series, whatever its interval.

    What is kept is counted in rows and trimmed once a day, so a dense series reaches no further than its most rows and
    a day. How far a sparse one reaches depends on what happened.
    """
    interval_ms = UNITS_MS[unit]
    return RestFeed(
        metric=metric,
        path=f"/v1/{route}-history",
        budget="key",
        paging=Paging(
            costs=((WINDOW_ROWS, 1),),
            window_ms=WINDOW_ROWS * interval_ms,
            coalesce_ms=HOUR_MS,  # polls leave gaps between the calls of an hour
        ),
        params=params,
        items=history,
        parse=parse,
        interval=unit,
        interval_ms=interval_ms,
        # a call an hour for each series: there are some forty a minute for all
        latency=Latency(settle_ms=SPARSE_SETTLE_MS if sparse else SETTLE_MS, live_edge_ms=HOUR_MS),
        retention=Retention(certain_ms=KEPT_ROWS * interval_ms, possible_ms=MOST_ROWS * interval_ms + DAY_MS),
        source=f"{DOCUMENTATION}, /{route}-history; measurements of 2026-08-25",
        sparse=sparse,
    )


EXCHANGE = Exchange(
    name="coinalyze",
    title="Coinalyze",
    codes=tuple(CODES.values()),
    rest_url="https://api.coinalyze.net",
    needs_key=True,
    headers=headers,
    # every market of a request is one call
    budgets=(Budget(name="key", limit=40, period_ms=MINUTE_MS, jitter_ms=500, per_key=True),),
    judge=judge,
    clock=None,
    instruments=InstrumentsFeed(
        path="/v1/future-markets",
        budget="key",
        cost=1,
        params={},
        items=records,
        parse=parse_instrument,
        source=f"{DOCUMENTATION}, /future-markets",
    ),
    rest_feeds=(
        replace(_feed("ohlcv", "ohlcv", parse_candle, history_params("1min")), serves=counts_coins),
        # the longest buckets inside which no funding interval ends
        _feed("fr", "funding-rate", parse_funding, history_params("1hour"), "1h", sparse=True),
        _feed("ppr", "predicted-funding-rate", parse_predicted_funding, history_params("1min")),
        replace(
            _feed("oi", "open-interest", parse_open_interest, history_params("5min", convert_to_usd="false"), "5m"),
            serves=counts_coins,
        ),
        _feed("lsr", "long-short-ratio", parse_long_short_ratio, history_params("5min"), "5m"),
        replace(
            _feed("lq", "liquidation", parse_liquidations, history_params("1min", convert_to_usd="true"), sparse=True),
            retention=Retention(certain_ms=KEPT_ROWS * MINUTE_MS, possible_ms=SPARSE_REACH_MS),
        ),
    ),
    poll_feeds=(
        PollFeed(
            metric="oi",
            path="/v1/open-interest",
            budget="key",
            batch=2,  # twenty are allowed, and none is cheaper for it
            share=INTEREST_SHARE,
            params=lambda instruments: current_params(instruments, convert_to_usd="false"),
            items=records,
            name="symbol",
            parse=parse_current_open_interest,
            serves=counts_coins,
            source=f"{DOCUMENTATION}, /open-interest",
        ),
        PollFeed(
            metric="ppr",
            path="/v1/predicted-funding-rate",
            budget="key",
            batch=2,
            share=RATE_SHARE,
            params=current_params,
            items=records,
            name="symbol",
            parse=parse_current_predicted_funding,
            source=f"{DOCUMENTATION}, /predicted-funding-rate",
        ),
    ),
)
