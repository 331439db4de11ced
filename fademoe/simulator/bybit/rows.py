"""Encode Bybit's rows: candles, premium index, samples, settlements. All numbers are strings, times too."""

from collections.abc import Callable, Iterable, Sequence

from fademoe.simulator.clock import DAY_MS, HOUR_MS, MINUTE_MS
from fademoe.simulator.decimals import rescale, to_fixed, to_trimmed
from fademoe.simulator.market.candles import Bar, BarTuple
from fademoe.simulator.market.funding import RATE_DECIMALS, Settlement
from fademoe.simulator.market.gauges import PREMIUM_DECIMALS, RATIO_DECIMALS, PremiumBar, PremiumTuple
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.market import Market
from fademoe.simulator.market.marks import MarkTuple, find_mark_decimals
from fademoe.simulator.market.noise import draw_number
from fademoe.simulator.market.tiers import list_tiers

PERIODS_MS = {
    "5min": 5 * MINUTE_MS,
    "15min": 15 * MINUTE_MS,
    "30min": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "4h": 4 * HOUR_MS,
    "1d": DAY_MS,
}
PREMIUM_SAMPLES = 12  # samples of the premium index per minute
INTEREST_DECIMALS = 8  # decimals of both sides' open interest over REST
VALUE_DECIMALS = 2  # decimals of the open interest in quote currency


def encode_klines(instrument: Instrument, bars: Iterable[BarTuple]) -> list[str]:
    """Encode candles as JSON arrays of seven values without trailing zeros; this is the simulator's hot path."""
    places, lots, money = instrument.price_decimals, instrument.lot_decimals, instrument.quote_decimals
    price = f'"%d.%0{places}d~,' * 4
    volume = f'"%d.%0{lots}d~,' if lots else '"%d%.0s",'  # %.0s prints nothing: whole lots have no decimals
    row = f'["%d",{price}{volume}"%d.%0{money}d~]'
    p, k, m = 10**places, 10**lots, 10**money
    text = "\n".join(
        [
            row % (t, o // p, o % p, h // p, h % p, low // p, low % p, c // p, c % p, v // k, v % k, q // m, q % m)
            for t, o, h, low, c, v, q, _, _, _ in bars
        ]
    )
    for _ in range(max(places, lots, money)):  # ~ marks the end of a number with a point; a regex is slower
        text = text.replace("0~", "~")
    return text.replace(".~", '"').replace("~", '"').split("\n") if text else []


def encode_premiums(rows: Iterable[PremiumTuple]) -> list[str]:
    """Encode premium index candles as JSON arrays of five values with six decimals."""
    places = PREMIUM_DECIMALS["bybit"]
    return [
        f'["{t}","{to_fixed(o, places)}","{to_fixed(h, places)}","{to_fixed(low, places)}","{to_fixed(c, places)}"]'
        for t, o, h, low, c in rows
    ]


def encode_marks(instrument: Instrument, rows: Iterable[MarkTuple]) -> list[str]:
    """Encode candles of the mark price as JSON arrays of five values without trailing zeros."""
    places = find_mark_decimals(instrument)
    return [f'["{row[0]}","' + '","'.join(to_trimmed(value, places) for value in row[1:]) + '"]' for row in rows]


def chain_opens(rows: Sequence[PremiumTuple], before: PremiumBar | None) -> list[PremiumTuple]:
    """Set each row's open to the close of the previous row, so that it may lie outside [low, high]."""
    opens = [before.close if before else rows[0][1], *(row[4] for row in rows)] if rows else []
    return [(t, o, h, low, c) for o, (t, _, h, low, c) in zip(opens, rows, strict=False)]


def grow_premium(bar: PremiumBar, samples: int) -> PremiumTuple:
    """Return a minute of the premium index after `samples` of its twelve samples."""
    if samples >= PREMIUM_SAMPLES:
        return (bar.ts, bar.open, bar.high, bar.low, bar.close)
    close = bar.open + (bar.close - bar.open) * samples // PREMIUM_SAMPLES
    return (bar.ts, bar.open, max(bar.open, close), min(bar.open, close), close)


def sum_both_sides(market: Market, instrument: Instrument, at_ms: int) -> int:
    """Return the open interest of both sides in lots: twice the one side, or one lot less.

    Half of it, rounded half up, is the one side; the exact half is not always a whole number of lots.
    """
    interest = market.gauges.read_open_interest(instrument, at_ms)
    return 2 * interest - draw_number(market.seed, "odd", instrument.key, -(-at_ms // MINUTE_MS)) % 2


def sum_interest_values(market: Market, instrument: Instrument, at_ms: int) -> tuple[int, int]:
    """Return the open interest of both sides and of one side, in cents of the quote currency."""
    price = market.candles.read_price(instrument, -(-at_ms // MINUTE_MS) * MINUTE_MS)
    single = market.gauges.read_open_interest(instrument, at_ms) * price
    both = sum_both_sides(market, instrument, at_ms) * price
    decimals = instrument.quote_decimals
    return rescale(both, decimals, VALUE_DECIMALS), rescale(single, decimals, VALUE_DECIMALS)


def encode_interest(market: Market, instrument: Instrument, ts: int, *, has_single: bool) -> str:
    """Encode a row of open-interest."""
    lots = instrument.lot_decimals
    both = to_fixed(rescale(sum_both_sides(market, instrument, ts), lots, INTEREST_DECIMALS), INTEREST_DECIMALS)
    single = (
        f'"singleOpenInterest":"{to_fixed(market.gauges.read_open_interest(instrument, ts), lots)}",'
        if has_single
        else ""
    )
    return f'{{"openInterest":"{both}",{single}"timestamp":"{ts}"}}'


def encode_ratio(market: Market, instrument: Instrument, ts: int) -> str:
    """Encode a row of account-ratio."""
    longs = market.gauges.read_long_share(instrument, ts)
    shorts = 10**RATIO_DECIMALS - longs
    return (
        f'{{"symbol":"{instrument.name}","buyRatio":"{to_fixed(longs, RATIO_DECIMALS)}",'
        f'"sellRatio":"{to_fixed(shorts, RATIO_DECIMALS)}","timestamp":"{ts}"}}'
    )


def encode_risk_limits(market: Market, instrument: Instrument) -> str:
    """Encode the rows of risk-limit of one contract."""
    return ",".join(
        f'{{"id":{number},"symbol":"{instrument.name}","riskLimitValue":"{tier.notional}",'
        f'"maintenanceMargin":"{to_trimmed(tier.rate, 3)}","initialMargin":"{to_trimmed(tier.rate * 2, 3)}",'
        f'"isLowestRisk":{int(number == 1)},"maxLeverage":"{to_fixed(50_000 // tier.rate, 2)}","mmDeduction":""}}'
        for number, tier in enumerate(list_tiers(market.seed, instrument), 1)
    )


def encode_settlement(instrument: Instrument, settled: Settlement) -> str:
    """Encode a row of funding/history; the rate has as many decimals as it needs."""
    return (
        f'{{"symbol":"{instrument.name}","fundingRate":"{to_trimmed(settled.rate, RATE_DECIMALS)}",'
        f'"fundingRateTimestamp":"{settled.ts}"}}'
    )


def encode_kline(instrument: Instrument, bar: Bar, now_ms: int, *, is_closed: bool) -> str:
    """Encode one candle of a kline message."""
    places = instrument.price_decimals
    return (
        f'{{"start":{bar.ts},"end":{bar.ts + MINUTE_MS - 1},"interval":"1","open":"{to_trimmed(bar.open, places)}",'
        f'"close":"{to_trimmed(bar.close, places)}","high":"{to_trimmed(bar.high, places)}",'
        f'"low":"{to_trimmed(bar.low, places)}","volume":"{to_trimmed(bar.volume, instrument.lot_decimals)}",'
        f'"turnover":"{to_trimmed(bar.quote_volume, instrument.quote_decimals)}",'
        f'"confirm":{"true" if is_closed else "false"},"timestamp":{now_ms}}}'
    )


def encode_message(topic: str, data: str, now_ms: int) -> bytes:
    """Encode a message of a topic that sends whole objects."""
    return f'{{"topic":"{topic}","data":[{data}],"ts":{now_ms},"type":"snapshot"}}'.encode()


SampleRow = Callable[[Market, Instrument, int], str]
