"""Encode OKX's rows: candles, premium samples, funding, open interest with float noise, ratios."""

from collections.abc import Iterable

from fademoe.simulator.clock import DAY_MINUTES, HOUR_MS, MINUTE_MS
from fademoe.simulator.decimals import to_fixed, to_trimmed
from fademoe.simulator.market.candles import BarTuple
from fademoe.simulator.market.funding import RATE_DECIMALS, Settlement
from fademoe.simulator.market.gauges import PREMIUM_DECIMALS, RATIO_DECIMALS
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.market import Market
from fademoe.simulator.market.marks import MarkTuple, find_mark_decimals
from fademoe.simulator.market.noise import draw_number, draw_words
from fademoe.simulator.market.tiers import Tier
from fademoe.simulator.market.truth import compute_account_ratio

RATE_TEXT_DECIMALS = 16
EXACT_DIGITS = 12  # digits of a sum in USD that are exact; OKX sums floats, so further digits are noise
NOISE_DECIMALS = 11
LATEST_STAMP_MS = 3_000  # latest stamp of open interest within its minute
PROVISIONAL_PERMILLE = 3  # largest error of the newest row of a statistic
OLD_METHOD, BLANK_REALIZED = 8, 40  # 1 settlement in 8 uses the old method, 1 in 40 has no realized rate


def encode_candles(instrument: Instrument, bars: Iterable[BarTuple], confirm: str = "1") -> list[str]:
    """Encode candles as JSON arrays of nine strings; this is the simulator's hot path."""
    places, lots, money = instrument.price_decimals, instrument.lot_decimals, instrument.quote_decimals
    coin_places = max(0, lots - instrument.unit_shift)
    coin_scale, k = 10 ** max(0, instrument.unit_shift - lots), 10**coin_places
    price = f'"%d.%0{places}d",' * 4
    coins = f'"%d.%0{coin_places}d",' if coin_places else '"%d%.0s",'  # %.0s prints nothing
    row = f'["%d",{price}"%d.%0{lots}d",{coins}"%d.%0{money}d","{confirm}"]'
    flat = f'["%d",{price}"0","0","0","{confirm}"]'
    p, lot, m = 10**places, 10**lots, 10**money
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
            v // lot,
            v % lot,
            v * coin_scale // k,
            v * coin_scale % k,
            q // m,
            q % m,
        )
        if v
        else flat % (t, o // p, o % p, h // p, h % p, low // p, low % p, c // p, c % p)
        for t, o, h, low, c, v, q, _, _, _ in bars
    ]


def encode_marks(instrument: Instrument, rows: Iterable[MarkTuple], confirm: str = "1") -> list[str]:
    """Encode candles of the mark price as JSON arrays of six strings."""
    places = find_mark_decimals(instrument)
    return [
        f'["{row[0]}","' + '","'.join(to_fixed(value, places) for value in row[1:]) + f'","{confirm}"]' for row in rows
    ]


def encode_premiums(market: Market, instrument: Instrument, day: int) -> tuple[list[int], list[str]]:
    """Return the times and the rows of a day of premium-history: one to three samples at odd seconds of each minute.

    The last sample of a minute is its premium; a missing minute has no sample.
    """
    words = draw_words(market.seed, "samples", instrument.key, day, count=DAY_MINUTES, code="Q")
    decimals = PREMIUM_DECIMALS["okx"]
    times: list[int] = []
    rows: list[str] = []
    for ts, opened, high, _, close in market.gauges.list_premiums(instrument, day):
        word = words[ts // MINUTE_MS % DAY_MINUTES]
        moments = [(31 + (word >> 4) % 28, close)]
        if word & 1:
            moments.append((14 + (word >> 12) % 16, high))
        if word & 2:
            moments.append(((word >> 20) % 13, opened))
        for second, value in reversed(moments):
            times.append(ts + second * 1_000)
            rows.append(
                f'{{"instId":"{instrument.name}","premium":"{to_fixed(value, decimals)}","ts":"{ts + second * 1_000}"}}'
            )
    return times, rows


def format_rate(rate: int) -> str:
    """Write a rate with the sixteen decimals that OKX prints."""
    return to_fixed(rate * 10 ** (RATE_TEXT_DECIMALS - RATE_DECIMALS), RATE_TEXT_DECIMALS)


def build_tier(family: str, number: int, before: Tier | None, tier: Tier) -> dict[str, str]:
    """Build a row of position-tiers."""
    return {
        "baseMaxLoan": "",
        "imr": to_trimmed(tier.rate * 2, 3),
        "instFamily": family,
        "instId": "",
        "maxLever": str(500 // tier.rate),
        "maxSz": str(tier.contracts),
        "minSz": str(before.contracts + 1 if before else 0),
        "mmr": to_trimmed(tier.rate, 3),
        "optMgnFactor": "0",
        "quoteMaxLoan": "",
        "tier": str(number),
        "uly": family,
    }


def build_settlement(market: Market, instrument: Instrument, settled: Settlement) -> dict[str, str]:
    """Build a row of funding-rate-history; some use the old method, with a predicted rate that differs."""
    dice = draw_number(market.seed, "settlement", instrument.key, settled.ts)
    is_old = dice % OLD_METHOD == 0
    is_blank = not is_old and dice % BLANK_REALIZED == 1
    return {
        "fundingRate": format_rate(settled.rate + (1 + dice % 700 if is_old else 0)),
        "fundingTime": str(settled.ts),
        "realizedRate": "" if is_blank else format_rate(settled.rate),
        "method": "next_period" if is_old else "current_period",
        "formulaType": "noRate" if is_old else "withRate",
        "instId": instrument.name,
        "instType": "SWAP",
    }


def build_funding(market: Market, instrument: Instrument, now_ms: int, premium: int) -> dict[str, str]:
    """Build the current funding, for REST and the channel, with a member that the documentation lacks."""
    next_ms = market.funding.find_next_ms(instrument, now_ms)
    hours_ms = market.funding.find_hours(instrument, now_ms) * HOUR_MS
    after_ms = market.funding.find_next_ms(instrument, next_ms)
    last = market.funding.list_last_settlements(instrument, now_ms, 1)
    return {
        "formulaType": "withRate",
        "fundingRate": format_rate(market.funding.estimate(instrument, now_ms)),
        "fundingTime": str(next_ms),
        "impactValue": "20000.0000000000000000",
        "instId": instrument.name,
        "instType": "SWAP",
        "interestRate": "0.0001000000000000",
        "maxFundingRate": "0.00375",
        "method": "current_period",
        "minFundingRate": "-0.00375",
        "nextFundingRate": "",
        "nextFundingTime": str(after_ms),
        "premium": to_fixed(premium, PREMIUM_DECIMALS["okx"]),
        "prevFundingTime": str(last[0].ts if last else next_ms - hours_ms),
        "settFundingRate": format_rate(last[0].rate) if last else "",
        "settState": "settled",
        "ts": str(now_ms),
    }


def format_interest(market: Market, instrument: Instrument, ts: int, *, is_provisional: bool = False) -> list[str]:
    """Return open interest in contracts, in coins and in USD as OKX prints them."""
    lots = market.gauges.read_open_interest(instrument, ts)
    usd = round_usd(market.gauges.read_open_interest_value(instrument, ts))
    dice = draw_number(market.seed, "noise", instrument.key, ts)
    if is_provisional:
        off = 1 + (dice >> 40) % PROVISIONAL_PERMILLE
        lots, usd = lots + lots * off // 1_000 + 1, usd + usd * off // 1_000 + 1
    coin_decimals = instrument.lot_decimals - instrument.unit_shift
    return [
        add_float_noise(lots, instrument.lot_decimals, dice),
        add_float_noise(lots, coin_decimals, dice >> 12),
        add_float_noise(usd, instrument.quote_decimals, dice >> 24),
    ]


def find_interest_stamp_ms(market: Market, instrument: Instrument, minute_ms: int) -> int:
    """Return when a contract's open interest was counted in the minute that starts at `minute_ms`."""
    return minute_ms + 1 + draw_number(market.seed, "interest", instrument.key, minute_ms) % LATEST_STAMP_MS


def build_interest(market: Market, instrument: Instrument, now_ms: int) -> dict[str, str]:
    """Build the last counted open interest, for REST and the channel: each contract has its own stamp."""
    minute_ms = now_ms // MINUTE_MS * MINUTE_MS
    stamp_ms = find_interest_stamp_ms(market, instrument, minute_ms)
    if stamp_ms > now_ms:
        minute_ms -= MINUTE_MS
        stamp_ms = find_interest_stamp_ms(market, instrument, minute_ms)
    contracts, coins, usd = format_interest(market, instrument, minute_ms + MINUTE_MS)
    values = {"oi": contracts, "oiCcy": coins, "oiUsd": usd, "ts": str(stamp_ms)}
    return {"instId": instrument.name, "instType": "SWAP", **values}


def encode_interest(market: Market, instrument: Instrument, ts: int, *, is_provisional: bool) -> str:
    """Encode a row of open-interest-history."""
    values = format_interest(market, instrument, ts, is_provisional=is_provisional)
    return '["' + '","'.join([str(ts), *values]) + '"]'


def encode_ratio(market: Market, instrument: Instrument, ts: int, *, is_provisional: bool) -> str:
    """Encode a row of the long/short account ratio."""
    ratio = compute_account_ratio(market.gauges.read_long_share(instrument, ts))
    if is_provisional:
        ratio += 1 + draw_number(market.seed, "provisional", instrument.key, ts) % 90
    return f'["{ts}","{to_fixed(ratio, RATIO_DECIMALS)}"]'


def round_usd(value: int) -> int:
    """Round an amount of USD to its twelve exact digits, half to even."""
    unit: int = 10 ** max(0, len(str(value)) - EXACT_DIGITS)
    whole, rest = divmod(value, unit)
    return (whole + (2 * rest > unit or (2 * rest == unit and whole % 2 == 1))) * unit


def add_float_noise(value: int, decimals: int, dice: int) -> str:
    """Write a value with an error of at most four parts in 10 ** 15, as sums of floats have."""
    scaled = value * 10**NOISE_DECIMALS
    return to_fixed(scaled + scaled * (dice % 9 - 4) // 10**15, decimals + NOISE_DECIMALS)
