"""Encode Binance's rows: klines, premium index klines, and the samples under /futures/data."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from fademoe.simulator.clock import DAY_MS, HOUR_MS, MINUTE_MS
from fademoe.simulator.decimals import rescale, to_fixed
from fademoe.simulator.market.candles import Bar, BarTuple
from fademoe.simulator.market.gauges import PREMIUM_DECIMALS, RATIO_DECIMALS, PremiumBar, PremiumTuple
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.market import Market
from fademoe.simulator.market.marks import MarkTuple
from fademoe.simulator.market.truth import compute_account_ratio

# The exchange has 3d, 1w and 1M too; the simulator does not, as no day of rows holds them.
INTERVALS_MS = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
}
PERIODS_MS = {name: ms for name, ms in INTERVALS_MS.items() if name not in ("1m", "3m", "8h")}
PREMIUM_SAMPLES = 12  # samples of the premium index per minute
MARK_SAMPLES = 60  # samples of the mark price per minute
_PREMIUM_DECIMALS = PREMIUM_DECIMALS["binance"]


def encode_klines(instrument: Instrument, bars: Iterable[BarTuple], interval_ms: int = MINUTE_MS) -> list[str]:
    """Encode klines as JSON arrays of twelve values; this is the simulator's hot path."""
    places, lots, money = instrument.price_decimals, instrument.lot_decimals, instrument.quote_decimals
    price = f'"%d.%0{places}d",' * 4
    volume = f'"%d.%0{lots}d",' if lots else '"%d%.0s",'  # %.0s prints nothing: whole lots have no decimals
    quote = f'"%d.%0{money}d",'
    row = f'[%d,{price}{volume}%d,{quote}%d,{volume}{quote}"0"]'
    p, k, m = 10**places, 10**lots, 10**money
    last = interval_ms - 1
    return [
        row
        % (
            t,
            o // p,
            o % p,
            h // p,
            h % p,
            low // p,
            low % p,
            c // p,
            c % p,
            v // k,
            v % k,
            t + last,
            q // m,
            q % m,
            n,
            b // k,
            b % k,
            a // m,
            a % m,
        )
        for t, o, h, low, c, v, q, n, b, a in bars
    ]


def encode_premiums(
    bars: Iterable[BarTuple], interval_ms: int = MINUTE_MS, places: int = _PREMIUM_DECIMALS
) -> list[str]:
    """Encode premium index klines, or those of the mark price, as JSON arrays of twelve values.

    `bars` come from `convert_premiums` or `convert_marks`; `places` are the decimals of their values.
    """
    return [
        f'[{t},"{to_fixed(o, places)}","{to_fixed(h, places)}","{to_fixed(low, places)}","{to_fixed(c, places)}",'
        f'"0",{t + interval_ms - 1},"0",{n},"0","0","0"]'
        for t, o, h, low, c, _, _, n, _, _ in bars
    ]


def convert_premiums(rows: Iterable[PremiumTuple]) -> list[BarTuple]:
    """Convert whole minutes of the premium index to the shape of candles, with the samples as trades."""
    return [(t, o, h, low, c, 0, 0, PREMIUM_SAMPLES, 0, 0) for t, o, h, low, c in rows]


def convert_marks(rows: Iterable[MarkTuple]) -> list[BarTuple]:
    """Convert whole minutes of the mark price to the shape of candles, with a sample a second as trades."""
    return [(t, o, h, low, c, 0, 0, MARK_SAMPLES, 0, 0) for t, o, h, low, c in rows]


def grow_premium(bar: PremiumBar, samples: int) -> BarTuple:
    """Return a minute of the premium index after `samples` of its twelve samples."""
    if samples >= PREMIUM_SAMPLES:
        return convert_premiums([bar])[0]
    close = bar.open + (bar.close - bar.open) * samples // PREMIUM_SAMPLES
    return (bar.ts, bar.open, max(bar.open, close), min(bar.open, close), close, 0, 0, samples, 0, 0)


def aggregate(bars: Sequence[BarTuple], interval_ms: int) -> list[BarTuple]:
    """Join one-minute candles to longer ones; a longer candle exists as soon as one of its minutes does."""
    if interval_ms == MINUTE_MS:
        return list(bars)
    joined: list[BarTuple] = []
    for start_ms, group in groupby(bars, key=lambda bar: bar[0] - bar[0] % interval_ms):
        minutes = list(group)
        high, low = max(bar[2] for bar in minutes), min(bar[3] for bar in minutes)
        v, q, n, b, a = (sum(bar[index] for bar in minutes) for index in range(5, 10))
        joined.append((start_ms, minutes[0][1], high, low, minutes[-1][4], v, q, n, b, a))
    return joined


def encode_kline_event(instrument: Instrument, bar: Bar, event_ms: int, *, is_closed: bool) -> bytes:
    """Encode a kline event of the stream; a minute without trades has -1 as first and last trade id."""
    places, lots, money = instrument.price_decimals, instrument.lot_decimals, instrument.quote_decimals
    first = bar.ts // MINUTE_MS * 100_000 if bar.trades else -1
    last = first + bar.trades - 1 if bar.trades else -1
    return (
        f'{{"e":"kline","E":{event_ms},"s":"{instrument.name}","k":{{"t":{bar.ts},"T":{bar.ts + MINUTE_MS - 1},'
        f'"s":"{instrument.name}","i":"1m","f":{first},"L":{last},"o":"{to_fixed(bar.open, places)}",'
        f'"c":"{to_fixed(bar.close, places)}","h":"{to_fixed(bar.high, places)}","l":"{to_fixed(bar.low, places)}",'
        f'"v":"{to_fixed(bar.volume, lots)}","n":{bar.trades},"x":{"true" if is_closed else "false"},'
        f'"q":"{to_fixed(bar.quote_volume, money)}","V":"{to_fixed(bar.buy_volume, lots)}",'
        f'"Q":"{to_fixed(bar.buy_quote_volume, money)}","B":"0"}}}}'
    ).encode()


def encode_open_interest(market: Market, instrument: Instrument, ts: int, _period_ms: int) -> str:
    """Encode a row of openInterestHist."""
    interest = market.gauges.read_open_interest(instrument, ts)
    value = market.gauges.read_open_interest_value(instrument, ts)
    supply = 19_000_000 + len(instrument.coin.name) * 1_000_000
    return (
        f'{{"symbol":"{instrument.name}","sumOpenInterest":"{_eight(interest, instrument.lot_decimals)}",'
        f'"sumOpenInterestValue":"{_eight(value, instrument.quote_decimals)}",'
        f'"CMCCirculatingSupply":"{supply}.00000000","timestamp":{ts}}}'
    )


def encode_account_ratio(market: Market, instrument: Instrument, ts: int, _period_ms: int) -> str:
    """Encode a row of globalLongShortAccountRatio."""
    long_share = market.gauges.read_long_share(instrument, ts)
    return (
        f'{{"symbol":"{instrument.name}","longAccount":"{to_fixed(long_share, RATIO_DECIMALS)}",'
        f'"longShortRatio":"{to_fixed(compute_account_ratio(long_share), RATIO_DECIMALS)}",'
        f'"shortAccount":"{to_fixed(10_000 - long_share, RATIO_DECIMALS)}","timestamp":{ts}}}'
    )


def encode_taker_ratio(market: Market, instrument: Instrument, ts: int, period_ms: int) -> str:
    """Encode a row of takerlongshortRatio: sums over the bucket that starts at `ts`, without a symbol."""
    bought, sold = market.sum_taker_volumes(instrument, ts, period_ms // MINUTE_MS)
    lots = instrument.lot_decimals
    ratio = bought * 10**RATIO_DECIMALS // sold if sold else 0
    return (
        f'{{"buySellRatio":"{to_fixed(ratio, RATIO_DECIMALS)}","sellVol":"{to_fixed(sold * 10, lots + 1)}",'
        f'"buyVol":"{to_fixed(bought * 10, lots + 1)}","timestamp":{ts}}}'
    )


def _eight(value: int, decimals: int) -> str:
    """Write a value with exactly eight decimals."""
    return to_fixed(rescale(value, decimals, 8), 8)


SampleRow = Callable[[Market, Instrument, int, int], str]
