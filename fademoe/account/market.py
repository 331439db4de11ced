"""What an account is told of a minute: candles, marks, settlements, terms of contracts."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, Protocol

from fademoe.account.numbers import ZERO

DEFAULT_LOT = Decimal("0.00000001")
DEFAULT_MAINTENANCE = Decimal("0.005")


class Candle(NamedTuple):
    """A closed minute of trading; quote per coin, volume in coins."""

    o: Decimal
    h: Decimal
    l: Decimal  # noqa: E741 - the column's name
    c: Decimal
    v: Decimal


class Mark(NamedTuple):
    """The mark price within a minute."""

    o: Decimal
    h: Decimal
    l: Decimal  # noqa: E741 - the column's name
    c: Decimal


class Settlement(NamedTuple):
    """A settled funding rate, a fraction, and the mark price it was settled at where that is known."""

    ts: int
    rate: Decimal
    mark: Decimal | None = None


class Tier(NamedTuple):
    """The maintenance rate of the slice of a position up to `bound`; None: without an end."""

    bound: Decimal | None
    rate: Decimal


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The terms of a contract: lot in coins, least notional in USDT, maintenance tiers in slices.

    `tiers_in_coins` says that the bounds of the tiers are coins, not USDT. `assumed` names what is not the exchange's
    word: "lot", "min_notional", "tiers".
    """

    lot: Decimal = DEFAULT_LOT
    min_notional: Decimal = ZERO
    tiers: tuple[Tier, ...] = (Tier(None, DEFAULT_MAINTENANCE),)
    tiers_in_coins: bool = False
    assumed: tuple[str, ...] = ()


class Minute(Protocol):
    """A closed minute as the account sees it. Methods are asked for symbols of the run."""

    ts: int  # its start, ms

    def find_candle(self, symbol: str) -> Candle | None:
        """Return the candle of the minute, None where there is none."""

    def find_mark(self, symbol: str) -> Mark | None:
        """Return the mark prices of the minute."""

    def find_close_before(self, symbol: str) -> Decimal | None:
        """Return the close of the newest candle before the minute."""

    def may_settle(self) -> bool:
        """Say whether anything was settled in the minute, or may have been."""

    def list_settlements(self, symbol: str) -> Sequence[Settlement]:
        """Return what was settled within the minute, oldest first."""

    def find_absent_funding(self, symbol: str) -> tuple[int, int] | None:
        """Return the range without known settlements that meets the minute, None where there is none."""

    def list_delisted(self) -> Sequence[str]:
        """Return the symbols whose contract ends in this minute, ascending."""

    def is_listed(self, symbol: str) -> bool:
        """Say whether the contract trades in this minute: not in that of its delisting."""

    def get_terms(self, symbol: str) -> Terms:
        """Return the terms that are valid in this minute."""


ASSUMED_TERMS = Terms(assumed=("lot", "min_notional", "tiers"))
