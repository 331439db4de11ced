"""Coins and the contracts on them."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, kw_only=True, eq=False)  # compared by identity: a fast key of caches
class Coin:
    """An asset with contracts; its price is the same on all exchanges except for a small spread."""

    name: str
    price: Decimal  # USD per coin; the price moves around it
    usd_per_minute: int  # usual turnover on one exchange
    listed_ms: int
    delisted_ms: int | None = None
    kind: str = "crypto"  # crypto, tradfi, settled


@dataclass(frozen=True, kw_only=True, eq=False)
class Instrument:
    """A contract as one exchange lists it. Its prices and volumes are integers in the units given here."""

    exchange: str
    name: str  # the exchange's own name, 1000PEPEUSDT
    coin: Coin
    quote: str
    kind: str  # perpetual, tradfi, dated
    listed_ms: int  # trading starts; in the future for an announced contract
    delisted_ms: int | None = None  # last minute is before this; None: no end announced
    price_decimals: int  # prices are integers in units of 10 ** -price_decimals, as printed
    tick: int  # smallest step of a price, in those units
    lot_decimals: int  # volumes are integers in units of 10 ** -lot_decimals of the exchange's volume unit
    price_shift: int = 0  # a price is for 10 ** price_shift coins: 3 for 1000PEPEUSDT
    unit_shift: int = 0  # a volume unit is 10 ** unit_shift coins: 3 for 1000PEPEUSDT, -2 for OKX's 0.01 BTC contract
    funding_hours: int = 8
    value_shift: int = 0  # from `value_changed_ms` on, OKX's contract is 10 ** value_shift of its former size
    value_changed_ms: int = 0
    shown_listed_ms: int | None = None  # the time of listing in the exchange's list, when it is not the true one
    halted_from_ms: int | None = None  # delisted from this time until `halted_until_ms`, then listed again
    halted_until_ms: int | None = None
    forgotten_ms: int | None = None  # lists and REST know nothing from before this time any more
    relisted_factor: int = 1  # its price is that many times as high from then on: the name is given to another coin

    @property
    def is_perpetual(self) -> bool:
        """Whether this is a crypto perpetual, not a dated or a TradFi contract."""
        return self.kind == "perpetual"

    @property
    def quote_decimals(self) -> int:
        """The decimals of a price times a volume, in quote currency."""
        return self.price_decimals + self.lot_decimals - self.unit_shift + self.price_shift

    @property
    def usd_per_minute(self) -> int:
        """The contract's usual turnover; a coin's USDT perpetual has the largest."""
        return self.coin.usd_per_minute // (50 if self.kind == "dated" else 1 if self.quote == "USDT" else 8)

    @property
    def key(self) -> str:
        """A name that is unique over all exchanges, for random numbers and caches."""
        return f"{self.exchange}:{self.name}"

    @property
    def list_time_ms(self) -> int:
        """The time of listing that the exchange's list shows."""
        return self.listed_ms if self.shown_listed_ms is None else self.shown_listed_ms

    @property
    def is_forgotten(self) -> bool:
        """Whether it had ended by the time from before which nothing is known any more: it is on no list then."""
        return self.delisted_ms is not None and self.delisted_ms <= (self.forgotten_ms or 0)

    @property
    def known_from_ms(self) -> int:
        """From when on REST has its rows."""
        return max(self.listed_ms, self.forgotten_ms or 0)

    def is_halted(self, at_ms: int) -> bool:
        """Tell whether `at_ms` lies between a delisting and the listing after it."""
        if self.halted_from_ms is None or self.halted_until_ms is None:
            return False
        return self.halted_from_ms <= at_ms < self.halted_until_ms

    def is_trading(self, now_ms: int) -> bool:
        """Tell whether the contract is listed and not yet delisted at `now_ms`."""
        is_listed = self.listed_ms <= now_ms and (self.delisted_ms is None or now_ms < self.delisted_ms)
        return is_listed and not self.is_halted(now_ms)
