"""The rows that a collector must have stored, per metric, in FadeMoe's units.

Collectors are tested against these rows. They share no code with the collectors' parsers: they are computed from the
market's integers, not from payloads.
"""

from collections.abc import Callable

from fademoe.simulator.clock import DAY_MS, MINUTE_MS
from fademoe.simulator.decimals import to_fixed
from fademoe.simulator.market.funding import RATE_DECIMALS
from fademoe.simulator.market.gauges import PREMIUM_DECIMALS, RATIO_DECIMALS
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.market import LATEST_FINAL_MS, Market
from fademoe.simulator.market.marks import find_mark_decimals

Row = dict[str, int | str | None]  # "ts" an int, all other values exact decimals or None

MARK_COLUMNS = ("mark_o", "mark_h", "mark_l", "mark_c")
SAMPLE_STEP_MS = 5 * MINUTE_MS
SAMPLE_AGE_MS = 201_000  # age at which every exchange has published a sample
HAS_SETTLEMENT_PRICE = frozenset({"binance"})  # settlements with their mark price
SETTLEMENT_PRICE_SINCE_MS = 1_640_995_200_000  # the mark price of settlements before 2022 is blank
HAS_TRADES = frozenset({"binance"})  # candles with number of trades and taker volume
SHOWS_LARGEST_ONLY = frozenset({"binance"})  # liquidations: one per second, at the fill price


def list_truth(
    market: Market,
    instrument: Instrument,
    metric: str,
    window: tuple[int, int],
    *,
    now_ms: int,
    step_ms: int | None = None,
) -> list[Row]:
    """Return the rows of `metric` with window[0] <= ts < window[1] that are final at `now_ms`, oldest first.

    `step_ms` is the distance of open interest and ratio rows: five minutes by default; one minute gives the values that
    a
    poll in that minute gets. A minute without liquidations has no row. Raises LookupError for an unknown metric.
    """
    make = _METRICS.get(metric)
    if make is None:
        raise LookupError(f"no metric {metric}: there are {', '.join(_METRICS)}")
    start_ms = max(window[0], instrument.listed_ms)
    end_ms = window[1] if instrument.delisted_ms is None else min(window[1], instrument.delisted_ms)
    return make(market, instrument, start_ms, end_ms, now_ms, step_ms or SAMPLE_STEP_MS)


def _candles(
    market: Market, instrument: Instrument, start_ms: int, end_ms: int, now_ms: int, _step_ms: int
) -> list[Row]:
    """List closed one-minute candles."""
    price_decimals = instrument.price_decimals + instrument.price_shift
    coin_decimals = instrument.lot_decimals - instrument.unit_shift
    has_trades = instrument.exchange in HAS_TRADES
    rows: list[Row] = []
    end_ms = min(end_ms, market.find_final_end_ms(instrument, now_ms))
    for day in _days(start_ms, end_ms):
        for ts, o, h, low, c, v, q, n, buy, _ in market.candles.list_bars(instrument, day):
            if start_ms <= ts < end_ms:
                rows.append(
                    {
                        "ts": ts,
                        "o": to_fixed(o, price_decimals),
                        "h": to_fixed(h, price_decimals),
                        "l": to_fixed(low, price_decimals),
                        "c": to_fixed(c, price_decimals),
                        "v": to_fixed(v, coin_decimals),
                        "qv": to_fixed(q, instrument.quote_decimals),
                        "n": str(n) if has_trades else None,
                        "tbv": to_fixed(buy, coin_decimals) if has_trades else None,
                    }
                )
    return rows


def _premium(
    market: Market, instrument: Instrument, start_ms: int, end_ms: int, now_ms: int, _step_ms: int
) -> list[Row]:
    """List the premium index at the end of each minute."""
    decimals = PREMIUM_DECIMALS[instrument.exchange]
    end_ms = min(end_ms, market.find_final_end_ms(instrument, now_ms))
    return [
        {"ts": row[0], "pfr": to_fixed(row[4], decimals)}
        for day in _days(start_ms, end_ms)
        for row in market.gauges.list_premiums(instrument, day)
        if start_ms <= row[0] < end_ms
    ]


def _marks(market: Market, instrument: Instrument, start_ms: int, end_ms: int, now_ms: int, _step_ms: int) -> list[Row]:
    """List closed minutes of the mark price."""
    decimals = find_mark_decimals(instrument) + instrument.price_shift
    end_ms = min(end_ms, market.find_final_end_ms(instrument, now_ms))
    return [
        {"ts": row[0], **dict(zip(MARK_COLUMNS, (to_fixed(value, decimals) for value in row[1:]), strict=True))}
        for day in _days(start_ms, end_ms)
        for row in market.marks.list_marks(instrument, day)
        if start_ms <= row[0] < end_ms
    ]


def _funding(
    market: Market, instrument: Instrument, start_ms: int, end_ms: int, now_ms: int, _step_ms: int
) -> list[Row]:
    """List settled funding rates at the exact time of settlement; the interval of a life's first one is unknown."""
    has_price = instrument.exchange in HAS_SETTLEMENT_PRICE
    decimals = instrument.price_decimals + instrument.price_shift
    begins = [instrument.listed_ms, *([instrument.halted_until_ms] if instrument.halted_until_ms else [])]
    first = {each.ts for at_ms in begins for each in market.funding.list_settlements(instrument, at_ms, end_ms, 1)}
    return [
        {
            "ts": settled.ts,
            "fr": to_fixed(settled.rate, RATE_DECIMALS),
            "fr_hours": None if settled.ts in first else str(settled.hours),
            "fr_mark": to_fixed(settled.price, decimals)
            if has_price and settled.ts >= SETTLEMENT_PRICE_SINCE_MS
            else None,
        }
        for settled in market.funding.list_settlements(instrument, start_ms, min(end_ms, now_ms))
    ]


def _estimates(
    market: Market, instrument: Instrument, start_ms: int, end_ms: int, now_ms: int, _step_ms: int
) -> list[Row]:
    """List the funding estimate within each minute."""
    if instrument.kind == "dated":
        return []
    return [
        {"ts": ts, "ppr": to_fixed(market.funding.estimate(instrument, ts), RATE_DECIMALS)}
        for ts in _grid(start_ms, min(end_ms, now_ms - MINUTE_MS), MINUTE_MS)
        if not instrument.is_halted(ts)
    ]


def _open_interest(
    market: Market, instrument: Instrument, start_ms: int, end_ms: int, now_ms: int, step_ms: int
) -> list[Row]:
    """List the open interest of one side, in coins and in quote currency."""
    decimals = instrument.lot_decimals - instrument.unit_shift
    gauges = market.gauges
    return [
        {
            "ts": ts,
            "oi": to_fixed(gauges.read_open_interest(instrument, ts), decimals),
            "oi_usd": to_fixed(gauges.read_open_interest_value(instrument, ts), instrument.quote_decimals),
        }
        for ts in _samples(market, instrument, start_ms, end_ms, now_ms, step_ms)
    ]


def _ratio(market: Market, instrument: Instrument, start_ms: int, end_ms: int, now_ms: int, step_ms: int) -> list[Row]:
    """List the ratio of long to short accounts, four decimals."""
    return [
        {
            "ts": ts,
            "lsr": to_fixed(compute_account_ratio(market.gauges.read_long_share(instrument, ts)), RATIO_DECIMALS),
        }
        for ts in _samples(market, instrument, start_ms, end_ms, now_ms, step_ms)
    ]


def _liquidations(
    market: Market, instrument: Instrument, start_ms: int, end_ms: int, now_ms: int, _step_ms: int
) -> list[Row]:
    """List the USD liquidated in each minute with a liquidation, as far as the exchange publishes them."""
    is_largest_only = instrument.exchange in SHOWS_LARGEST_ONLY
    show = market.liquidations.list_largest_per_second if is_largest_only else market.liquidations.list_in_minute
    rows: list[Row] = []
    for ts in _grid(start_ms, min(end_ms, now_ms - MINUTE_MS - LATEST_FINAL_MS), MINUTE_MS):
        sums = {"long": 0, "short": 0}
        for event in show(instrument, ts):
            sums[event.side] += event.size * (event.price if is_largest_only else event.limit_price)
        if sums["long"] or sums["short"]:
            decimals = instrument.quote_decimals
            rows.append({"ts": ts, "lqs": to_fixed(sums["short"], decimals), "lql": to_fixed(sums["long"], decimals)})
    return rows


def compute_account_ratio(long_share: int) -> int:
    """Return long / short in ten thousandths, rounded half up, from the long share in ten thousandths."""
    short_share = 10_000 - long_share
    return (long_share * 20_000 + short_share) // (2 * short_share)


def _days(start_ms: int, end_ms: int) -> range:
    """Return the days since the epoch that a window touches."""
    return range(start_ms // DAY_MS, -(-end_ms // DAY_MS)) if start_ms < end_ms else range(0)


def _grid(start_ms: int, end_ms: int, step_ms: int) -> range:
    """Return the multiples of `step_ms` in a window."""
    return range(-(-start_ms // step_ms) * step_ms, end_ms, step_ms)


def _samples(
    market: Market, instrument: Instrument, start_ms: int, end_ms: int, now_ms: int, step_ms: int
) -> list[int]:
    """Return the instants in a window of which the exchange has published samples, or which a poll may have got."""
    if step_ms < SAMPLE_STEP_MS:
        return list(_grid(start_ms, min(end_ms, now_ms - step_ms), step_ms))
    grid = _grid(start_ms, min(end_ms, now_ms - SAMPLE_AGE_MS), step_ms)
    return [ts for ts in grid if market.gauges.has_sample(instrument, ts)]


_METRICS: dict[str, Callable[[Market, Instrument, int, int, int, int], list[Row]]] = {
    "ohlcv": _candles,
    "pfr": _premium,
    "fr": _funding,
    "ppr": _estimates,
    "mark": _marks,
    "oi": _open_interest,
    "lsr": _ratio,
    "lq": _liquidations,
}
