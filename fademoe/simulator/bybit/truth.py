"""The rows that a collector of Bybit must have stored, where they differ from the rows of `market.truth`.

With --bybit-no-quiet-candles, quiet minutes have no candle. Settlements have no interval. The ratio is not sent, so it
is the quotient of the shares, rounded half up to 8 decimals. The history of open interest has no USD; with
--bybit-no-single-side it is half of both sides, exactly. A step of one minute stands for the ticker stream, which
continues during the history's holes and has USD in cents.
"""

from fademoe.simulator.bybit.rows import VALUE_DECIMALS, sum_both_sides, sum_interest_values
from fademoe.simulator.clock import MINUTE_MS
from fademoe.simulator.decimals import to_fixed
from fademoe.simulator.exchange import Exchange
from fademoe.simulator.market.gauges import RATIO_DECIMALS
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.truth import Row

STORED_RATIO_DECIMALS = 8


def adapt_truth(
    exchange: Exchange,
    instrument: Instrument,
    metric: str,
    rows: list[Row],
    window: tuple[int, int],
    step_ms: int | None,
) -> list[Row]:
    """Convert rows of the common truth to what Bybit publishes."""
    if metric == "ohlcv" and exchange.options.bybit_no_quiet_candles:
        return [row for row in rows if str(row["v"]).strip("0.")]
    if metric == "lsr":
        return [row | {"lsr": _ratio(exchange, instrument, row)} for row in rows]
    if metric == "oi" and step_ms == MINUTE_MS:
        first_ms = max(window[0], instrument.listed_ms)
        last_ms = min(window[1], exchange.clock.now_ms() - MINUTE_MS, instrument.delisted_ms or window[1])
        minutes = range(-(-first_ms // MINUTE_MS) * MINUTE_MS, last_ms, MINUTE_MS)
        return [_interest(exchange, instrument, ts, has_value=True) for ts in minutes]
    if metric == "oi":
        return [_interest(exchange, instrument, _ts(row), has_value=False) for row in rows]
    return rows


def _ts(row: Row) -> int:
    """Return the row's time."""
    ts = row["ts"]
    assert isinstance(ts, int)
    return ts


def _ratio(exchange: Exchange, instrument: Instrument, row: Row) -> str:
    """Return long / short with eight decimals."""
    longs = exchange.market.gauges.read_long_share(instrument, _ts(row))
    shorts = 10**RATIO_DECIMALS - longs
    return to_fixed((2 * longs * 10**STORED_RATIO_DECIMALS + shorts) // (2 * shorts), STORED_RATIO_DECIMALS)


def _interest(exchange: Exchange, instrument: Instrument, ts: int, *, has_value: bool) -> Row:
    """Build a row of one side's open interest in coins, and in USD where it is published."""
    market = exchange.market
    decimals = instrument.lot_decimals - instrument.unit_shift
    both_value, value = sum_interest_values(market, instrument, ts)
    if exchange.options.bybit_no_single_side:
        interest = to_fixed(sum_both_sides(market, instrument, ts) * 5, decimals + 1)
        usd = to_fixed(both_value * 5, VALUE_DECIMALS + 1)
    else:
        interest = to_fixed(market.gauges.read_open_interest(instrument, ts), decimals)
        usd = to_fixed(value, VALUE_DECIMALS)
    return {"ts": ts, "oi": interest, "oi_usd": usd if has_value else None}
