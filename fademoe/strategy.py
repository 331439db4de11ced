"""What a strategy is made of: orders, the view of the market, and the base class. See docs/backtesting.md.

    from fademoe.strategy import Strategy, Target

    class Momentum(Strategy):
        params = {"minutes_back": 60}

        def on_minute(self, view):
            orders = {}
            for symbol in view.symbols:
                closes = view.rows(symbol, "c", self.minutes_back)
                if None not in closes:
                    orders[symbol] = Target(1 if closes[-1] > closes[0] else 0)
            return orders

Numbers in orders are int, Decimal or float; a float is read as it is printed, so 0.1 is one tenth.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple, Protocol

Number = int | float | Decimal


class Target(NamedTuple):
    """Hold a position worth `share` times the account's equity; negative is short, 0 closes it."""

    share: Number


class Market(NamedTuple):
    """Buy `quantity` coins (negative: sell) at the next open."""

    quantity: Number


class Limit(NamedTuple):
    """Buy `quantity` coins (negative: sell) at `price`, once the market trades through it.

    With `reduce` a fill is cut to the position that is held, and the order ends when there is none to reduce.
    """

    quantity: Number
    price: Number
    reduce: bool = False


class Stop(NamedTuple):
    """Buy `quantity` coins (negative: sell) when the price touches `trigger`; `reduce` as for Limit."""

    quantity: Number
    trigger: Number
    reduce: bool = False


Order = Target | Market | Limit | Stop
Orders = Mapping[str, Order | Sequence[Order] | None]


class View(Protocol):
    """What is known at the end of a minute, and the account after the fills of that minute."""

    @property
    def ts(self) -> int:
        """The end of the minute, ms since the epoch."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols of the run that are listed, in ascending order."""

    @property
    def equity(self) -> Decimal:
        """Cash and the positions at their marks, USDT."""

    @property
    def cash(self) -> Decimal:
        """USDT."""

    def value(self, symbol: str, column: str, code: str | None = None) -> Decimal | None:
        """Return the newest known value of a column of the exchange with that code (None: the run's own).

        A bar's value is that of the newest bar that can be known, None where that bar is absent; a sample's is the
        newest one, None when it is older than three intervals; a settled funding rate's the one in force.
        """

    def rows(self, symbol: str, column: str, n: int, code: str | None = None) -> list[Decimal | None]:
        """Return the values of the last `n` grid points, oldest first, None where a point is absent.

        Settlements have no grid: the last `n` known ones, None in front where there are fewer.
        """

    def position(self, symbol: str) -> Decimal:
        """Return the signed position in coins, 0 for none."""

    def entry(self, symbol: str) -> Decimal | None:
        """Return the average entry price of the position, None without one."""


class Strategy(ABC):
    """Base class. A run makes one instance without arguments and sets each of `params` as an attribute.

    `minutes`: how often `on_minute` is called, aligned to the epoch. Rows before the run are read when they are asked
    for.
    """

    params: ClassVar[Mapping[str, Any]] = {}
    minutes: ClassVar[int] = 1

    @abstractmethod
    def on_minute(self, view: Any) -> Orders | None:
        """Return orders by symbol; they fill in the next minute at the earliest. Called at the end of a minute.

        A list replaces the orders of a symbol that still rest, also an empty one; a symbol that is missing, or None,
        leaves them.
        """
