"""The rows that a collector of Coinalyze must have stored, computed from the market's integers, not from payloads."""

from collections.abc import Callable

from fademoe.simulator.clock import DAY_MS, HOUR_MS, MINUTE_MS
from fademoe.simulator.coinalyze.listing import Market
from fademoe.simulator.coinalyze.rows import (
    USD_DECIMALS,
    list_shown_liquidations,
    round_to_double,
    sum_liquidated_usd,
)
from fademoe.simulator.decimals import to_fixed
from fademoe.simulator.market.funding import RATE_DECIMALS
from fademoe.simulator.market.gauges import RATIO_DECIMALS
from fademoe.simulator.market.market import Market as Truth
from fademoe.simulator.market.truth import Row, compute_account_ratio

SAMPLE_MS = 5 * MINUTE_MS


def list_truth(
    truth: Truth, market: Market, metric: str, window: tuple[int, int], *, as_of_ms: int, step_ms: int | None
) -> list[Row]:
    """Return the rows of `metric` with window[0] <= ts < window[1] whose bucket is over at `as_of_ms`, oldest first.

    `step_ms` is the distance of open interest and ratio rows, five minutes by default. Rows that Coinalyze has trimmed
    are
    included: a collector in time has them. Markets in quote currency have no candles and no open interest in coins.
    Raises LookupError for an unknown metric.
    """
    if metric not in _METRICS:
        raise LookupError(f"no metric {metric}: there are {', '.join(_METRICS)}")
    make, usual_ms, in_coins = _METRICS[metric]
    if in_coins and market.in_quote:
        return []
    step = step_ms or usual_ms if usual_ms == SAMPLE_MS else usual_ms
    start_ms, end_ms = max(window[0], market.instrument.listed_ms), window[1]
    if market.instrument.delisted_ms is not None:
        end_ms = min(end_ms, market.instrument.delisted_ms)
    grid = range(-(-start_ms // step) * step, min(end_ms, as_of_ms - step + 1), step)
    return make(truth, market, grid, as_of_ms)


def _candles(truth: Truth, market: Market, grid: range, as_of_ms: int) -> list[Row]:
    """List closed one-minute candles per one coin."""
    instrument = market.instrument
    price_decimals = instrument.price_decimals + instrument.price_shift
    coin_decimals = instrument.lot_decimals - instrument.unit_shift
    final_ms = truth.find_final_end_ms(instrument, as_of_ms)
    rows: list[Row] = []
    for day in range(grid.start // DAY_MS, -(-grid.stop // DAY_MS)):
        for ts, o, h, low, c, v, _, n, buy, _ in truth.candles.list_bars(instrument, day):
            if ts in grid and ts < final_ms:
                prices = {
                    name: to_fixed(value, price_decimals) for name, value in zip("ohlc", (o, h, low, c), strict=True)
                }
                volumes = {
                    "v": to_fixed(round_to_double(v), coin_decimals),
                    "tbv": to_fixed(round_to_double(buy), coin_decimals),
                }
                rows.append({"ts": ts, **prices, **volumes, "qv": None, "n": str(n)})
    return rows


def _funding(truth: Truth, market: Market, grid: range, as_of_ms: int) -> list[Row]:
    """List the settled rates as fractions; their intervals are not sent."""
    settled = truth.funding.list_settlements(market.instrument, grid.start, grid.stop)
    return [
        {"ts": item.ts, "fr": to_fixed(item.rate, RATE_DECIMALS), "fr_hours": None, "fr_mark": None} for item in settled
    ]


def _estimates(truth: Truth, market: Market, grid: range, as_of_ms: int) -> list[Row]:
    """List the estimate within each minute."""
    if market.instrument.kind == "dated":
        return []
    return [{"ts": ts, "ppr": to_fixed(truth.funding.estimate(market.instrument, ts), RATE_DECIMALS)} for ts in grid]


def _open_interest(truth: Truth, market: Market, grid: range, as_of_ms: int) -> list[Row]:
    """List the open interest of one side in coins."""
    instrument = market.instrument
    decimals = instrument.lot_decimals - instrument.unit_shift
    return [
        {
            "ts": ts,
            "oi": to_fixed(round_to_double(truth.gauges.read_open_interest(instrument, ts)), decimals),
            "oi_usd": None,
        }
        for ts in grid
        if truth.gauges.has_sample(instrument, ts)
    ]


def _ratio(truth: Truth, market: Market, grid: range, as_of_ms: int) -> list[Row]:
    """List the ratio of long to short accounts."""
    gauges, instrument = truth.gauges, market.instrument
    return [
        {"ts": ts, "lsr": to_fixed(compute_account_ratio(gauges.read_long_share(instrument, ts)), RATIO_DECIMALS)}
        for ts in grid
        if gauges.has_sample(instrument, ts)
    ]


def _liquidations(truth: Truth, market: Market, grid: range, as_of_ms: int) -> list[Row]:
    """List the USD liquidated in each minute with a liquidation."""
    rows: list[Row] = []
    for ts in grid:
        events = list_shown_liquidations(truth, market, ts)
        if events:
            longs, shorts = (
                to_fixed(sum_liquidated_usd(market, events, side), USD_DECIMALS) for side in ("long", "short")
            )
            rows.append({"ts": ts, "lql": longs, "lqs": shorts})
    return rows


# metric -> maker, distance of rows, whether its unit is coins
_METRICS: dict[str, tuple[Callable[[Truth, Market, range, int], list[Row]], int, bool]] = {
    "ohlcv": (_candles, MINUTE_MS, True),
    "fr": (_funding, HOUR_MS, False),
    "ppr": (_estimates, MINUTE_MS, False),
    "oi": (_open_interest, SAMPLE_MS, True),
    "lsr": (_ratio, SAMPLE_MS, False),
    "lq": (_liquidations, MINUTE_MS, False),
}
