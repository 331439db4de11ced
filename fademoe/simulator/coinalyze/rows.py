"""Encode Coinalyze's history rows as JSON: numbers as JavaScript prints a double, buckets that may be incomplete."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from fademoe.simulator.clock import DAY_MS, HOUR_MS, MINUTE_MS
from fademoe.simulator.coinalyze.listing import Market
from fademoe.simulator.decimals import rescale, to_trimmed
from fademoe.simulator.market.candles import BarTuple
from fademoe.simulator.market.funding import RATE_DECIMALS
from fademoe.simulator.market.gauges import RATIO_DECIMALS
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.liquidations import Liquidation
from fademoe.simulator.market.market import Market as Truth
from fademoe.simulator.market.truth import compute_account_ratio

INTERVALS_MS = {
    "1min": MINUTE_MS,
    "5min": 5 * MINUTE_MS,
    "15min": 15 * MINUTE_MS,
    "30min": 30 * MINUTE_MS,
    "1hour": HOUR_MS,
    "2hour": 2 * HOUR_MS,
    "4hour": 4 * HOUR_MS,
    "6hour": 6 * HOUR_MS,
    "12hour": 12 * HOUR_MS,
    "daily": DAY_MS,
}
DOUBLE_DIGITS = 15  # digits that a double keeps exactly
USD_DECIMALS = 2
PERCENT_DECIMALS = RATE_DECIMALS - 2  # rates are sent in percent
SHARE_DECIMALS = 2  # decimals of a percentage of accounts
MOST_SAMPLES = 12  # largest number of samples of a bucket
LONGEST_FUNDING_MS = 8 * HOUR_MS


class Span(NamedTuple):
    """The requested rows: buckets of `step_ms` that open in [start_ms, end_ms), as they are at `as_of_ms`."""

    start_ms: int
    end_ms: int
    step_ms: int
    as_of_ms: int
    in_usd: bool

    def list_buckets(self, instrument: Instrument) -> Iterator[int]:
        """Yield the opening times within the contract's life, none after `as_of_ms`."""
        last_ms = min(self.end_ms, self.as_of_ms + 1)
        for ts in range(-(-self.start_ms // self.step_ms) * self.step_ms, last_ms, self.step_ms):
            if instrument.is_trading(ts):
                yield ts

    def list_samples(self, ts: int) -> Sequence[int]:
        """Return some minutes of the bucket that opens at `ts`, the first always, none after `as_of_ms`."""
        step_ms = max(MINUTE_MS, self.step_ms // MOST_SAMPLES)
        return range(ts, min(ts + self.step_ms, self.as_of_ms + 1), step_ms)


RowMaker = Callable[[Truth, Market, Span], list[tuple[int, str]]]


def format_number(value: int, decimals: int) -> str:
    """Write `value` units of 10 ** -decimals as JavaScript does: no trailing zeros, 1e-7 below a millionth."""
    if value and abs(value) * 10**6 < 10**decimals:
        digits = str(abs(value))
        fraction = digits[1:].rstrip("0")
        mantissa = f"{digits[0]}.{fraction}" if fraction else digits[0]
        return f"{'-' if value < 0 else ''}{mantissa}e{len(digits) - 1 - decimals}"
    return to_trimmed(value, decimals)


def round_to_double(value: int) -> int:
    """Replace the digits that a double may lose by zeros."""
    excess = len(str(abs(value))) - DOUBLE_DIGITS
    return value // 10**excess * 10**excess if excess > 0 else value


def list_candles(truth: Truth, market: Market, span: Span) -> list[tuple[int, str]]:
    """List candles; volumes are in base units, or in quote currency if the market counts in it."""
    instrument = market.instrument
    places = instrument.price_decimals
    lots = instrument.quote_decimals if market.in_quote else market.size_decimals
    rows = []
    for ts, minutes in groupby(_minutes(truth, instrument, span), key=lambda bar: bar[0] // span.step_ms):
        bars = list(minutes)
        volume, bought = (sum(bar[at] for bar in bars) for at in ((6, 9) if market.in_quote else (5, 8)))
        prices = [
            format_number(value, places)
            for value in (bars[0][1], max(bar[2] for bar in bars), min(bar[3] for bar in bars), bars[-1][4])
        ]
        values = _members("ohlc", prices)
        tx, btx = sum(bar[7] for bar in bars), sum(bar[7] * bar[8] // bar[5] for bar in bars if bar[5])
        v, bv = (format_number(round_to_double(value), lots) for value in (volume, bought))
        opens_ms = ts * span.step_ms
        rows.append((opens_ms, f'{{"t":{opens_ms // 1000},{values},"v":{v},"bv":{bv},"tx":{tx},"btx":{btx}}}'))
    return rows


def list_open_interest(truth: Truth, market: Market, span: Span) -> list[tuple[int, str]]:
    """List open interest: first, highest, lowest and last sample of each bucket."""
    rows = []
    for ts in span.list_buckets(market.instrument):
        if truth.gauges.has_sample(market.instrument, ts):
            values = [read_open_interest(truth, market, at_ms, in_usd=span.in_usd) for at_ms in span.list_samples(ts)]
            rows.append((ts, _bucket(ts, [value for value, _ in values], values[0][1])))
    return rows


def read_open_interest(truth: Truth, market: Market, at_ms: int, *, in_usd: bool) -> tuple[int, int]:
    """Return the open interest of one side in Coinalyze's unit: value and decimals."""
    instrument = market.instrument
    if in_usd or market.in_quote:
        value = truth.gauges.read_open_interest_value(instrument, at_ms)
        return rescale(value, instrument.quote_decimals, USD_DECIMALS), USD_DECIMALS
    return round_to_double(truth.gauges.read_open_interest(instrument, at_ms)), market.size_decimals


def list_funding(truth: Truth, market: Market, span: Span) -> list[tuple[int, str]]:
    """List the rate in force, in percent; a bucket opens with the previous rate, as no trade changes it."""
    settled = truth.funding.list_settlements(market.instrument, span.start_ms - 2 * LONGEST_FUNDING_MS, span.end_ms)
    times = [settlement.ts for settlement in settled]
    rows = []
    for ts in span.list_buckets(market.instrument):
        before = bisect_right(times, ts - 1) - 1
        last = bisect_right(times, min(ts + span.step_ms - 1, span.as_of_ms)) - 1
        if last >= 0:
            rates = [settlement.rate for settlement in settled[max(before, 0) : last + 1]]
            rows.append((ts, _bucket(ts, rates, PERCENT_DECIMALS)))
    return rows


def list_predicted_funding(truth: Truth, market: Market, span: Span) -> list[tuple[int, str]]:
    """List the estimate, in percent; a bucket opens with the estimate of the previous minute."""
    instrument = market.instrument
    if instrument.kind == "dated":
        return []
    rows = []
    last_ms, last = -1, 0
    for ts in span.list_buckets(instrument):
        before = last if last_ms == ts - MINUTE_MS else truth.funding.estimate(instrument, ts - MINUTE_MS)
        last_ms = min(ts + span.step_ms, span.as_of_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS) - MINUTE_MS
        last = truth.funding.estimate(instrument, last_ms)
        between = [truth.funding.estimate(instrument, at_ms) for at_ms in span.list_samples(ts) if at_ms < last_ms]
        rows.append((ts, _bucket(ts, [before, *between, last], PERCENT_DECIMALS)))
    return rows


def list_ratios(truth: Truth, market: Market, span: Span) -> list[tuple[int, str]]:
    """List the ratio of accounts at the opening of each bucket, and both shares in percent."""
    rows = []
    for ts in span.list_buckets(market.instrument):
        if truth.gauges.has_sample(market.instrument, ts):
            long_share = truth.gauges.read_long_share(market.instrument, ts)
            ratio = format_number(compute_account_ratio(long_share), RATIO_DECIMALS)
            shares = (format_number(share, SHARE_DECIMALS) for share in (long_share, 10_000 - long_share))
            rows.append((ts, f'{{"t":{ts // 1000},"r":{ratio},{_members("ls", shares)}}}'))
    return rows


def list_liquidations(truth: Truth, market: Market, span: Span) -> list[tuple[int, str]]:
    """List the liquidated amounts by side; buckets without a liquidation have no row."""
    rows = []
    for ts in span.list_buckets(market.instrument):
        minutes = range(ts, min(ts + span.step_ms, span.as_of_ms + 1), MINUTE_MS)
        events = [
            event
            for minute_ms in minutes
            for event in list_shown_liquidations(truth, market, minute_ms)
            if event.ts <= span.as_of_ms
        ]
        if events:
            sums = (_liquidated(market, events, side, in_usd=span.in_usd) for side in ("long", "short"))
            rows.append((ts, f'{{"t":{ts // 1000},{_members("ls", sums)}}}'))
    return rows


def list_shown_liquidations(truth: Truth, market: Market, minute_ms: int) -> list[Liquidation]:
    """Return the liquidations of a minute that Coinalyze knows: of Binance only those of its throttled stream."""
    if market.instrument.exchange == "binance":
        return truth.liquidations.list_largest_per_second(market.instrument, minute_ms)
    return truth.liquidations.list_in_minute(market.instrument, minute_ms)


def sum_liquidated_usd(market: Market, events: Iterable[Liquidation], side: str) -> int:
    """Return the liquidated USD of one side, in cents."""
    value = sum(event.size * event.price for event in events if event.side == side)
    return rescale(value, market.instrument.quote_decimals, USD_DECIMALS)


def _liquidated(market: Market, events: list[Liquidation], side: str, *, in_usd: bool) -> str:
    """Write the sum of one side in USD or in the market's unit."""
    if in_usd or market.in_quote:
        return format_number(sum_liquidated_usd(market, events, side), USD_DECIMALS)
    return format_number(
        round_to_double(sum(event.size for event in events if event.side == side)), market.size_decimals
    )


def _minutes(truth: Truth, instrument: Instrument, span: Span) -> Iterator[BarTuple]:
    """Yield the candles of the minutes in a span; those that are not final as they are at `as_of_ms`."""
    final_ms = truth.find_final_end_ms(instrument, span.as_of_ms)
    last_ms = min(span.end_ms, final_ms)
    for day in range(span.start_ms // DAY_MS, -(-last_ms // DAY_MS)):
        yield from (bar for bar in truth.candles.list_bars(instrument, day) if span.start_ms <= bar[0] < last_ms)
    for ts in range(max(span.start_ms, final_ms), min(span.end_ms, span.as_of_ms + 1), MINUTE_MS):
        bar = truth.read_visible_bar(instrument, ts, span.as_of_ms)
        if bar is not None:
            yield bar


def _bucket(ts: int, values: Sequence[int], decimals: int) -> str:
    """Encode a row of four values: first, highest, lowest, last."""
    four = (format_number(value, decimals) for value in (values[0], max(values), min(values), values[-1]))
    return f'{{"t":{ts // 1000},{_members("ohlc", four)}}}'


def _members(names: str, values: Iterable[str]) -> str:
    """Write members of an object; each name is one letter."""
    return ",".join(f'"{name}":{value}' for name, value in zip(names, values, strict=True))
