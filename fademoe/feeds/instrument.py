"""An exchange's contract on a coin."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fademoe.clock import Window
from fademoe.metrics import Row

Json = Any  # a decoded JSON value of an exchange: checked by the parser that reads it


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """An exchange's contract on a coin.

    `multiplier`: coins in one unit of the quoted price (1000 for 1000PEPEUSDT). `contract_value`: coins in one contract
    where sizes are counted in contracts. Times are ms; `delisted_ms` is None while it trades.
    """

    exchange: str
    code: str  # first part of its perpspecs
    name: str  # the exchange's own name
    symbol: str  # our name of the coin
    multiplier: int = 1
    contract_value: str = "1"
    listed_ms: int | None = None
    delisted_ms: int | None = None


ParseItem = Callable[[Json, Instrument], Row | None]  # reads one item of an answer, None where it is no row


def clip_to_listing(instrument: Instrument, window: Window) -> Window:
    """Cut a window to the life of an instrument; the result may be empty (start >= end)."""
    start_ms = max(window.start_ms, instrument.listed_ms or window.start_ms)
    end_ms = min(window.end_ms, instrument.delisted_ms or window.end_ms)
    return Window(start_ms, end_ms)
