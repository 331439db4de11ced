"""The contracts that each exchange lists on a coin: names, multipliers, decimals, contract sizes."""

import datetime
from collections.abc import Callable, Iterable

from fademoe.simulator.clock import DAY_MS
from fademoe.simulator.market.instrument import Coin, Instrument
from fademoe.simulator.market.noise import draw_number

# A contract on 10 ** n coins: exchange -> coin -> (name without quote, n).
# Bybit writes SHIB's multiplier after the name.
MULTIPLIED = {
    "binance": {coin: (f"1000{coin}", 3) for coin in ("PEPE", "SHIB", "BONK", "CAT", "SATS")},
    "bybit": {
        "PEPE": ("1000PEPE", 3),
        "SHIB": ("SHIB1000", 3),
        "BONK": ("1000BONK", 3),
        "CAT": ("1000CAT", 3),
        "SATS": ("10000SATS", 4),
    },
    "okx": {},
}
# Coins in one OKX contract as a power of ten, where the rule of `_okx` does not give the real size.
OKX_CONTRACTS = {"BTC": -2, "ETH": -1, "DOGE": 3, "SHIB": 6, "PEPE": 7, "SOL": 0, "XRP": 2}
# Eight hours is the default; the share of one and four hours is that of August 2026.
ONE_HOUR_COINS = frozenset({"SEI", "C98"})
MOST_DECIMALS = 7  # largest number of decimals of a price on Binance and Bybit
QUARTER_MONTHS = (3, 6, 9, 12)


def list_instruments(exchange: str, coins: Iterable[Coin], now_ms: int, seed: int) -> list[Instrument]:
    """Return the contracts of one exchange: a USDT perpetual per coin, BTC in USDC, and two dated BTC contracts."""
    make = _MAKERS[exchange]
    instruments = []
    for coin in coins:
        instruments.append(make(coin, "USDT", None, _funding_hours(seed, exchange, coin)))
        if coin.name == "BTC":
            instruments.append(make(coin, "USDC", None, 8))
            instruments += [make(coin, "USDT", day, 8) for day in list_next_quarters(now_ms)]
    return instruments


def list_next_quarters(now_ms: int) -> list[datetime.date]:
    """Return the next two delivery days after `now_ms`: the last Friday of a quarter, 08:00 UTC."""
    today = datetime.datetime.fromtimestamp(now_ms // 1000, datetime.UTC)
    days = []
    for offset in range(12):
        year, month = divmod(today.year * 12 + today.month - 1 + offset, 12)
        if month + 1 in QUARTER_MONTHS:
            after = datetime.date(year + (month + 1) // 12, (month + 1) % 12 + 1, 1)
            last = after - datetime.timedelta(days=1)
            friday = last - datetime.timedelta(days=(last.weekday() - 4) % 7)
            if find_delivery_ms(friday) > now_ms:
                days.append(friday)
    return days[:2]


def find_delivery_ms(day: datetime.date) -> int:
    """Return 08:00 UTC of a delivery day, in ms."""
    return (day - datetime.date(1970, 1, 1)).days * DAY_MS + 8 * 3_600_000


def _funding_hours(seed: int, exchange: str, coin: Coin) -> int:
    """Return the usual funding interval in hours: 4 for most coins, 8 for the majors, 1 for few (see funding.py)."""
    if coin.name in ONE_HOUR_COINS:
        return 1
    if coin.usd_per_minute >= 300_000:
        return 8
    return (4, 4, 4, 8)[draw_number(seed, "interval", exchange, coin.name) % 4]


def _digits_before_point(coin: Coin, price_shift: int) -> int:
    """Return the digits before the decimal point; 0 or less counts the zeros after it: 0.05 has -1."""
    return coin.price.adjusted() + 1 + price_shift


def _build(coin: Coin, exchange: str, name: str, quote: str, day: datetime.date | None, **units: int) -> Instrument:
    """Build a contract; a dated one is listed half a year before its delivery."""
    kind = "dated" if day else "tradfi" if coin.kind == "tradfi" else "perpetual"
    end_ms = find_delivery_ms(day) if day else coin.delisted_ms
    listed_ms = find_delivery_ms(day) - 182 * DAY_MS if day else coin.listed_ms
    return Instrument(
        exchange=exchange,
        name=name,
        coin=coin,
        quote=quote,
        kind=kind,
        listed_ms=listed_ms,
        delisted_ms=end_ms,
        **units,
    )


def _binance(coin: Coin, quote: str, day: datetime.date | None, hours: int) -> Instrument:
    """List a coin on Binance: BTCUSDT, BTCUSDC, BTCUSDT_261225, 1000PEPEUSDT."""
    base, shift = MULTIPLIED["binance"].get(coin.name, (coin.name, 0))
    digits = _digits_before_point(coin, shift)
    is_wide = digits >= 5
    units = {
        "price_decimals": 2 if is_wide else min(MOST_DECIMALS, max(2, 5 - digits)),
        "tick": 10 if is_wide else 1,
        "lot_decimals": max(0, min(3, digits)),
        "price_shift": shift,
        "unit_shift": shift,
        "funding_hours": hours,
    }
    if day:
        units |= {"price_decimals": 1, "tick": 1}
    return _build(coin, "binance", f"{base}{quote}{day:_%y%m%d}" if day else f"{base}{quote}", quote, day, **units)


def _bybit(coin: Coin, quote: str, day: datetime.date | None, hours: int) -> Instrument:
    """List a coin on Bybit: BTCUSDT, BTCPERP (USDC), BTCUSDT-25DEC26, SHIB1000USDT."""
    base, shift = MULTIPLIED["bybit"].get(coin.name, (coin.name, 0))
    digits = _digits_before_point(coin, shift)
    name = f"{base}PERP" if quote == "USDC" else f"{base}{quote}"
    if day:
        name += f"-{day:%d%b%y}".upper()
    return _build(
        coin,
        "bybit",
        name,
        quote,
        day,
        price_decimals=min(MOST_DECIMALS, max(1, 5 - digits)),
        tick=1,
        lot_decimals=max(0, min(3, digits - 1)),
        price_shift=shift,
        unit_shift=shift,
        funding_hours=hours,
    )


def _okx(coin: Coin, quote: str, day: datetime.date | None, hours: int) -> Instrument:
    """List a coin on OKX: BTC-USDT-SWAP, BTC-USDC-SWAP, BTC-USDT-261225; prices per coin, volumes in contracts."""
    digits = _digits_before_point(coin, 0)
    name = f"{coin.name}-{quote}-{day:%y%m%d}" if day else f"{coin.name}-{quote}-SWAP"
    return _build(
        coin,
        "okx",
        name,
        quote,
        day,
        price_decimals=max(1, 5 - digits),
        tick=1,
        lot_decimals=2,
        unit_shift=OKX_CONTRACTS.get(coin.name, 2 - digits),
        funding_hours=hours,
    )


_MAKERS: dict[str, Callable[[Coin, str, datetime.date | None, int], Instrument]] = {
    "binance": _binance,
    "bybit": _bybit,
    "okx": _okx,
}
