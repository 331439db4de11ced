"""An exchange's contract on a coin."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fademoe.clock import Window
from fademoe.metrics import Row

Json = Any  # a decoded JSON value of an exchange: checked by the parser that reads it


@dataclass(frozen=True, kw_only=True)
class Tiers:
    """Maintenance margin by size of a position: marginal slices, each up to a bound in quote currency or in coins.

    `steps`: (upper bound, rate), ascending, as decimals in plain notation without trailing zeros.
    """

    unit: str  # "quote" or "coins"
    steps: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What may change in a contract's life beside its unit; None: not told.

    `tick` is quote per coin, `lot` is in coins, `min_notional` is the least order in quote currency.
    """

    tick: str | None = None
    lot: str | None = None
    min_notional: str | None = None
    funding_hours: int | None = None
    tiers: Tiers | None = None


NO_TERMS = Terms()


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """An exchange's contract on a coin.

    `multiplier`: coins in one unit of the quoted price (1000 for 1000PEPEUSDT). `contract_value`: coins in one contract
    where sizes are counted in contracts, "0" where they are in no known number of coins. Times are ms; `delisted_ms` is
    None while it trades. `life` counts the listings of this name; `is_other_coin` says of a new one that its coin is
    not that of the life before, nor of any contract of its symbol. `terms` are those that the list of contracts tells,
    blank in a stored contract.
    """

    exchange: str
    code: str  # first part of its perpspecs
    name: str  # the exchange's own name
    symbol: str  # our name of the coin
    multiplier: int = 1
    contract_value: str = "1"
    listed_ms: int | None = None
    delisted_ms: int | None = None
    life: int = 1
    is_other_coin: bool = False
    terms: Terms = NO_TERMS


ParseItem = Callable[[Json, Instrument], Row | None]  # reads one item of an answer, None where it is no row


def clip_to_listing(instrument: Instrument, window: Window) -> Window:
    """Cut a window to the life of an instrument; the result may be empty (start >= end)."""
    start_ms = max(window.start_ms, instrument.listed_ms or window.start_ms)
    end_ms = min(window.end_ms, instrument.delisted_ms or window.end_ms)
    return Window(start_ms, end_ms)
