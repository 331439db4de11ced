"""The state of an account, all of it: plain values that can be stored and loaded again without loss."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

from fademoe.account.numbers import EXACT, ONE, ZERO
from fademoe.account.orders import dump_order, load_order
from fademoe.clock import MINUTE_MS
from fademoe.strategy import Order


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Under which an account trades; fractions of price for fees and slippage, minutes for latency."""

    symbols: tuple[str, ...]
    maker: Decimal
    taker: Decimal
    slippage: Decimal = Decimal("0.0001")
    latency: int = 0
    leverage: Decimal = ONE
    isolated: bool = False
    liquidation_fee: Decimal = Decimal("0.005")
    allow_holes: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the conditions as values that JSON can hold."""
        return {
            name: str(value) if isinstance(value, Decimal) else list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return what `to_json` wrote."""
        decimals = ("maker", "taker", "slippage", "leverage", "liquidation_fee")
        values = {name: Decimal(value) if name in decimals else value for name, value in stored.items()}
        return cls(**values | {"symbols": tuple(stored["symbols"])})


@dataclass(slots=True)
class Position:
    """A position that is held: signed coins, average entry price, and the price of the last step 7 with its minute."""

    quantity: Decimal
    entry: Decimal
    price: Decimal
    priced_ms: int


@dataclass(slots=True)
class RestingOrder:
    """A limit or a stop that waits for its price; `quantity` is what is left of it."""

    is_stop: bool
    quantity: Decimal
    price: Decimal  # the limit, or the trigger
    reduce: bool


@dataclass(slots=True, kw_only=True)
class Account:
    """The state between two minutes. `positions` and `resting` are in ascending order of their symbols.

    `on_the_way`: lists of orders by symbol with the minute in which they arrive, in the order they were decided.
    `unknown`: ranges without settlements that were met while a position was held: (symbol, start_ms, end_ms).
    `stale_ms`: age of the oldest price in the last step 7; it is not stored.
    """

    conditions: Conditions
    capital: Decimal
    cash: Decimal
    seq: int = 0
    positions: dict[str, Position] = field(default_factory=dict)
    resting: dict[str, list[RestingOrder]] = field(default_factory=dict)
    on_the_way: list[tuple[int, dict[str, list[Order]]]] = field(default_factory=list)
    unknown: list[tuple[str, int, int]] = field(default_factory=list)
    stale_ms: int = 0

    @classmethod
    def open(cls, conditions: Conditions, capital: Decimal) -> Self:
        """Return a new account with `capital` USDT."""
        return cls(conditions=conditions, capital=capital, cash=capital)

    @property
    def equity(self) -> Decimal:
        """Cash and the positions at the prices of the last step 7."""
        total = self.cash
        for position in self.positions.values():
            total = EXACT.add(total, EXACT.multiply(position.quantity, position.price))
        return total

    def hold(self, symbol: str) -> Decimal:
        """Return the signed position, 0 for none."""
        position = self.positions.get(symbol)
        return ZERO if position is None else position.quantity

    def send(self, lists: dict[str, list[Order]], ts: int, latency: int | None = None) -> None:
        """Send what was decided at the end of the minute `ts`: it arrives `latency` minutes after the next one.

        None: the latency of the conditions. What is on the way must not arrive later.
        """
        if lists:
            minutes = 1 + (self.conditions.latency if latency is None else latency)
            self.on_the_way.append((ts + MINUTE_MS * minutes, lists))

    def take_arrivals(self, ts: int) -> Iterator[dict[str, list[Order]]]:
        """Take the lists that arrive in the minute `ts`, in the order they were decided."""
        while self.on_the_way and self.on_the_way[0][0] <= ts:
            yield self.on_the_way.pop(0)[1]

    def to_json(self) -> dict[str, Any]:
        """Return the state as values that JSON can hold, without loss."""
        return {
            "conditions": self.conditions.to_json(),
            "capital": str(self.capital),
            "cash": str(self.cash),
            "seq": self.seq,
            "positions": {
                symbol: [str(held.quantity), str(held.entry), str(held.price), held.priced_ms]
                for symbol, held in self.positions.items()
            },
            "resting": {
                symbol: [[order.is_stop, str(order.quantity), str(order.price), order.reduce] for order in orders]
                for symbol, orders in self.resting.items()
            },
            "on_the_way": [
                [ts, {symbol: [dump_order(order) for order in orders] for symbol, orders in lists.items()}]
                for ts, lists in self.on_the_way
            ],
            "unknown": [list(range_) for range_ in self.unknown],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return the account that `to_json` wrote."""
        return cls(
            conditions=Conditions.from_json(stored["conditions"]),
            capital=Decimal(stored["capital"]),
            cash=Decimal(stored["cash"]),
            seq=stored["seq"],
            positions={
                symbol: Position(Decimal(quantity), Decimal(entry), Decimal(price), priced_ms)
                for symbol, (quantity, entry, price, priced_ms) in sorted(stored["positions"].items())
            },
            resting={
                symbol: [
                    RestingOrder(is_stop, Decimal(quantity), Decimal(price), reduce)
                    for is_stop, quantity, price, reduce in orders
                ]
                for symbol, orders in sorted(stored["resting"].items())
            },
            on_the_way=[
                (ts, {symbol: [load_order(order) for order in orders] for symbol, orders in lists.items()})
                for ts, lists in stored["on_the_way"]
            ],
            unknown=[(symbol, start_ms, end_ms) for symbol, start_ms, end_ms in stored["unknown"]],
        )

    def copy(self) -> "Account":
        """Return an account that shares nothing that changes with this one."""
        return Account.from_json(self.to_json())
