"""What a coin and a contract on it are."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, kw_only=True, eq=False)  # compared by identity: a fast key of caches
class Coin:
    """Something that contracts are written on; its price is the same on all exchanges but for a small spread."""

    name: str
    price: Decimal  # USD per one coin, around which the price moves
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
    value_shift: int = 0  # since `value_changed_ms` a contract is 10 ** value_shift of what it was, on OKX's wire
    value_changed_ms: int = 0

    @property
    def is_perpetual(self) -> bool:
        """Tell a crypto perpetual from dated and TradFi contracts."""
        return self.kind == "perpetual"

    @property
    def quote_decimals(self) -> int:
        """Return the decimals of a price times a volume, in quote currency."""
        return self.price_decimals + self.lot_decimals - self.unit_shift + self.price_shift

    @property
    def usd_per_minute(self) -> int:
        """Return the contract's usual turnover: the USDT perpetual has the most of it."""
        return self.coin.usd_per_minute // (50 if self.kind == "dated" else 1 if self.quote == "USDT" else 8)

    @property
    def key(self) -> str:
        """Return the name that is unique over all exchanges, for random numbers and caches."""
        return f"{self.exchange}:{self.name}"

    def is_trading(self, now_ms: int) -> bool:
        """Tell whether the contract is listed and not yet delisted at `now_ms`."""
        return self.listed_ms <= now_ms and (self.delisted_ms is None or now_ms < self.delisted_ms)
