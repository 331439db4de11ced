"""Coinalyze's list of markets: the contracts of the other simulated exchanges under its own names, and some others."""

from collections.abc import Iterable
from typing import NamedTuple

import orjson

from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.noise import draw_number
from fademoe.simulator.market.world import World

VENUES = {"binance": ("A", "c-bin"), "bybit": ("6", "c-byb"), "okx": ("3", "c-okx")}
EXCHANGES = {
    "Binance": "A",
    "Bybit": "6",
    "OKX": "3",
    "BitMEX": "0",
    "Deribit": "2",
    "Gate.io": "Y",
    "Hyperliquid": "H",
}
# Contracts with sizes in quote currency, as 20 of Binance's 764 perpetuals had in August 2026: one coin per exchange,
# and one in 38 of the synthetic coins.
IN_QUOTE = {"binance": "GALA", "bybit": "VET", "okx": "SAND"}
IN_QUOTE_RARITY = 38
# name, exchange, its symbol, base, quote, margin: markets that no collector of USDT perpetuals may take
FOREIGN = (
    ("BTCUSD_PERP.A", "A", "BTCUSD_PERP", "BTC", "USD", "COIN"),
    ("BTCUSD.6", "6", "BTCUSD", "BTC", "USD", "COIN"),
    ("BTCUSD_PERP.3", "3", "BTC-USD-SWAP", "BTC", "USD", "COIN"),
    ("BTCUSD_PERP.0", "0", "XBTUSD", "BTC", "USD", "COIN"),
    ("BTCUSDT_PERP.Y", "Y", "BTC_USDT", "BTC", "USDT", "STABLE"),
    ("BTC.H", "H", "BTC", "BTC", "USD", "STABLE"),
)


class Market(NamedTuple):
    """A contract of another exchange as Coinalyze lists it; `base` is its unit of size unless `in_quote`."""

    name: str
    venue: str  # Coinalyze's code of the exchange
    code: str  # FadeMoe's
    instrument: Instrument
    base: str
    in_quote: bool

    @property
    def size_decimals(self) -> int:
        """The decimals of a size in base units: 1000PEPE counts thousands, OKX's contracts become coins."""
        return self.instrument.lot_decimals - self.instrument.unit_shift + self.instrument.price_shift


def list_markets(world: World, now_ms: int, bybit_suffix: str) -> dict[str, Market]:
    """Return the markets that trade now, by name: crypto perpetuals and dated contracts."""
    markets = {}
    for exchange, (venue, code) in VENUES.items():
        for instrument in world.list_instruments(exchange):
            if instrument.kind == "tradfi" or not instrument.is_trading(now_ms):
                continue
            base = find_base_asset(instrument)
            name = build_name(instrument, base, venue, bybit_suffix)
            markets[name] = Market(name, venue, code, instrument, base, _is_in_quote(world.seed, instrument))
    return markets


def find_base_asset(instrument: Instrument) -> str:
    """Return the base asset as the exchange writes it: 1000PEPE, SHIB1000, PEPE on OKX."""
    if instrument.exchange == "okx":
        return instrument.name.split("-")[0]
    if instrument.exchange == "bybit" and instrument.quote == "USDC":
        return instrument.name.split("-")[0].removesuffix("PERP")
    return instrument.name.replace("-", "_").split("_")[0].removesuffix(instrument.quote)


def build_name(instrument: Instrument, base: str, venue: str, bybit_suffix: str) -> str:
    """Return Coinalyze's name: BTCUSDT_PERP.A, BTCUSDT.6, BTCUSDT_PERP.3; a dated contract keeps its exchange's ending.

    Sources differ on Bybit's perpetuals: BTCUSDT.6, or with the suffix of other exchanges.
    """
    pair = base + instrument.quote
    if instrument.kind == "dated":
        return f"{pair}_{instrument.name.replace('-', '_').rpartition('_')[2]}.{venue}"
    return f"{pair}{bybit_suffix if instrument.exchange == 'bybit' else '_PERP'}.{venue}"


def encode_markets(markets: Iterable[Market]) -> bytes:
    """Encode the body of /future-markets."""
    rows = [
        _row(
            (market.name, market.venue, market.instrument.name, market.base, market.instrument.quote, "STABLE"),
            expire_ms=market.instrument.delisted_ms if market.instrument.kind == "dated" else None,
            in_quote=market.in_quote,
        )
        for market in markets
    ]
    return orjson.dumps(rows + [_row(members) for members in FOREIGN])


def encode_exchanges() -> bytes:
    """Encode the body of /exchanges."""
    return orjson.dumps([{"name": name, "code": code} for name, code in EXCHANGES.items()])


def _row(
    members: tuple[str, str, str, str, str, str], *, expire_ms: int | None = None, in_quote: bool = False
) -> dict[str, object]:
    """Build one market; an expiry is in seconds."""
    name, venue, symbol_on_exchange, base, quote, margin = members
    return {
        "symbol": name,
        "exchange": venue,
        "symbol_on_exchange": symbol_on_exchange,
        "base_asset": base,
        "quote_asset": quote,
        "is_perpetual": expire_ms is None,
        "margined": margin,
        "expire_at": None if expire_ms is None else expire_ms // 1000,
        "oi_lq_vol_denominated_in": "QUOTE_ASSET" if in_quote or margin == "COIN" else "BASE_ASSET",
        "has_long_short_ratio_data": expire_ms is None,
        "has_ohlcv_data": True,
        "has_buy_sell_data": True,
    }


def _is_in_quote(seed: int, instrument: Instrument) -> bool:
    """Tell whether sizes are in quote currency: one fixed coin per exchange, and some of the synthetic ones."""
    if not instrument.is_perpetual or instrument.quote != "USDT":
        return False
    if instrument.coin.name.startswith("SIM"):
        return draw_number(seed, "in quote", instrument.key) % IN_QUOTE_RARITY == 0
    return instrument.coin.name == IN_QUOTE[instrument.exchange]
