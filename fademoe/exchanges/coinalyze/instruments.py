"""Coinalyze's list of markets; it tells no time."""

import re

from fademoe.errors import BadPayload
from fademoe.feeds.exchange import InstrumentsFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.symbols import split_multiplier
from fademoe.feeds.values import get_member, read_records, read_text

CODES = {"A": "c-bin", "6": "c-byb", "3": "c-okx"}  # Coinalyze's code of an exchange -> ours
NO_COINS = "0"  # contract_value of a market whose sizes are quote currency, or of an unknown number of coins
THOUSANDS = re.compile(r"10{3,9}|\b1M(?=[A-Z]{3})")


def parse_instrument(item: Json) -> Instrument | None:
    """Read a market of /future-markets: perpetuals of the three exchanges, in USDT and margined in stablecoins.

    {"symbol": "BTCUSDT_PERP.A", "exchange": "A", "symbol_on_exchange": "BTCUSDT", "base_asset": "BTC",
     "quote_asset": "USDT", "is_perpetual": true, "margined": "STABLE", "expire_at": null,
     "oi_lq_vol_denominated_in": "BASE_ASSET", "has_long_short_ratio_data": true, "has_ohlcv_data": true,
     "has_buy_sell_data": true}

    What base_asset is for 1000PEPEUSDT is documented nowhere. Taken: 1000PEPE, prices and sizes then are of 1000 coins,
    as on the exchange itself. Should it be PEPE while the exchange's symbol counts in thousands, the unit would be
    unknown: only metrics without coins are stored then. Whether a market is on crypto is not documented either, and
    listing times are unknown.
    """
    if not _is_followed(item):
        return None
    base, unit = read_text(get_member(item, "base_asset")), get_member(item, "oi_lq_vol_denominated_in")
    if unit not in ("BASE_ASSET", "QUOTE_ASSET"):
        raise BadPayload(f"market {item['symbol']}: sizes in {unit!r}")
    symbol, multiplier = split_multiplier(base)
    thousands = THOUSANDS.search(read_text(get_member(item, "symbol_on_exchange")))
    is_clear = thousands is None or thousands[0] in base
    return Instrument(
        exchange="coinalyze",
        code=CODES[item["exchange"]],
        name=item["symbol"],
        symbol=symbol.upper(),
        multiplier=multiplier,
        contract_value="1" if unit == "BASE_ASSET" and is_clear else NO_COINS,
    )


def is_in_coins(instrument: Instrument) -> bool:
    """Return whether a market's prices and sizes are of a known number of coins."""
    return instrument.contract_value != NO_COINS


def _is_followed(item: Json) -> bool:
    """Return whether a market is a USDT perpetual of one of the three exchanges."""
    exchange, suffix = read_text(get_member(item, "exchange")), read_text(get_member(item, "symbol")).rpartition(".")[2]
    if exchange != suffix and (exchange in CODES or suffix in CODES):
        raise BadPayload(f"market {item['symbol']} claims to be of exchange {exchange}")
    is_perpetual = get_member(item, "is_perpetual")
    if not isinstance(is_perpetual, bool):
        raise BadPayload(f"market {item['symbol']}: is_perpetual is {is_perpetual!r}")
    kind = (is_perpetual, read_text(get_member(item, "quote_asset")), read_text(get_member(item, "margined")))
    return exchange in CODES and kind == (True, "USDT", "STABLE")


INSTRUMENTS = InstrumentsFeed(
    path="/v1/future-markets",
    budget="key",
    items=read_records,
    parse=parse_instrument,
    source="api.coinalyze.net/v1/doc, stored copy read in autumn 2026: /future-markets",
)
