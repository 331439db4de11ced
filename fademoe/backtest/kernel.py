"""Target strategies in floats, from one change of side to the next: for sweeps alone, checked against the exact engine.

Fills, funding, fees, lots and buying power are those of semantics 1; what it leaves out is liquidation, and unknown
settlements: `is_tight` says that a run came near its margin and has to be run exactly, `unknown` in how many ranges it
held a position without knowing what was settled.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NEVER = 2**62
NEAR = 0.05  # of the notional: a run whose equity comes below this, or twice the maintenance, is run exactly


@dataclass(frozen=True, kw_only=True)
class Prices:
    """A symbol over the minutes of a run. `settled`: (minute, rate, mark), ascending.

    `absent`: minutes [first, last) in which it is not known what was settled.
    `opens` are NaN where there is no candle; the others are 0 before the first price.
    """

    opens: Floats  # where orders fill
    values: Floats  # at the open: the mark's, else the candle's, else the last close
    closes: Floats  # of the mark, else of the candle, else the last known one
    lows: Floats  # the adverse extremes
    highs: Floats
    settled: Sequence[tuple[int, float, float]]
    absent: Sequence[tuple[int, int]]
    lot: float
    min_notional: float
    maintenance: float  # the highest rate of its tiers


@dataclass(frozen=True, kw_only=True)
class Signals:
    """The minutes at whose end a symbol is wanted long, short or out, each ascending."""

    long: Sequence[int]
    short: Sequence[int]
    out: Sequence[int]

    def find_next(self, minute: int, position: float) -> tuple[int, int]:
        """Return the first minute from `minute` on at whose end something is ordered, and the side: 1, -1, 0 for out.

        The minute is NEVER where there is none.
        """
        found = NEVER, 0
        if position <= 0:
            place = bisect_left(self.long, minute)
            if place < len(self.long):
                found = self.long[place], 1
        if position >= 0:
            place = bisect_left(self.short, minute)
            if place < len(self.short) and self.short[place] < found[0]:
                found = self.short[place], -1
        if position:
            place = bisect_left(self.out, minute)
            if place < len(self.out) and self.out[place] < found[0]:
                found = self.out[place], 0
        return found


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What trading costs, as fractions, and how much may be held."""

    taker: float
    slippage: float
    leverage: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a run: equity after each minute, and what it was made of."""

    equity: Floats
    fills: int
    funding: float
    fees: float
    is_tight: bool
    unknown: int

    @property
    def final(self) -> float:
        return float(self.equity[-1])


def find_signals(is_long: Floats, is_short: Floats, is_out: Floats) -> Signals:
    """Return the minutes of truths: both or unknown decide nothing, and out only where neither is true."""
    long_true, short_true = is_long == 1, is_short == 1
    return Signals(
        long=np.flatnonzero(long_true & ~short_true).tolist(),
        short=np.flatnonzero(short_true & ~long_true).tolist(),
        out=np.flatnonzero((is_out == 1) & ~long_true & ~short_true).tolist(),
    )


def simulate(
    prices: Mapping[str, Prices],
    signals: Mapping[str, Signals],
    *,
    size: float,
    capital: float,
    costs: Costs,
) -> Outcome:
    """Run a target strategy: `size` of the equity long or short, at the next open."""
    symbols = sorted(prices)
    length = len(prices[symbols[0]].opens)
    book = _Book(symbols, capital, length)
    due = {symbol: signals[symbol].find_next(0, 0.0) for symbol in symbols}
    while (minute := min(due.values())[0]) < length - 1:
        at = minute + 1  # where it fills
        equity = book.cash
        for symbol in symbols:
            equity += book.settle(symbol, prices[symbol], at)
            if book.held[symbol]:
                equity += book.held[symbol] * prices[symbol].values.item(at)
        equity = max(equity, 0.0)
        book.filled.clear()
        orders = [(symbol, side * size) for symbol, (when, side) in due.items() if when == minute]
        if len(orders) > 1:  # what reduces a position comes first
            waiting = [
                (symbol, share)
                for symbol, share in orders
                if not _fill(book, prices, symbol, share, equity, at, costs, only_reduce=True)
            ]
        else:
            waiting = orders
        for symbol, share in waiting:
            _fill(book, prices, symbol, share, equity, at, costs)
        for symbol, _ in orders:
            due[symbol] = signals[symbol].find_next(at, book.held[symbol])
    for symbol in symbols:
        book.settle(symbol, prices[symbol], length - 1)
    return book.close(prices)


class _Book:
    """Cash and positions, and their changes."""

    def __init__(self, symbols: Sequence[str], capital: float, length: int) -> None:
        self.cash = capital
        self.held = dict.fromkeys(symbols, 0.0)
        self.fees = self.funding = 0.0
        self.fills = 0
        self.filled: dict[str, float] = {}  # prices of the fills of a minute, the last one of each symbol
        self._length = length
        self._settled = dict.fromkeys(symbols, 0)
        self._cash_changes: list[tuple[int, float]] = [(0, capital)]
        self._moves: dict[str, list[tuple[int, float]]] = {symbol: [] for symbol in symbols}

    def settle(self, symbol: str, prices: Prices, minute: int) -> float:
        """Settle funding up to a minute, on what was held before its fills; return its sum."""
        first = self._settled[symbol]
        last = self._settled[symbol] = bisect_right(prices.settled, (minute, math.inf, math.inf), first)
        held, total = self.held[symbol], 0.0
        if held:
            for at, rate, mark in prices.settled[first:last]:
                amount = -held * mark * rate
                total += amount
                self._cash_changes.append((at, amount))
            self.funding += total
            self.cash += total
        return total

    def trade(self, symbol: str, quantity: float, price: float, fee: float, minute: int) -> None:
        """Change cash and position by a fill."""
        change = -quantity * price - fee
        self.cash += change
        self.fees += fee
        self.fills += 1
        self.filled[symbol] = price
        held = self.held[symbol] + quantity
        self.held[symbol] = 0.0 if abs(held) < 1e-12 else held
        self._cash_changes.append((minute, change))
        self._moves[symbol].append((minute, self.held[symbol]))

    def _trace(self, moves: Sequence[tuple[int, float]]) -> Floats:
        """Return the position after each minute."""
        minutes = [0, *(minute for minute, _ in moves), self._length]
        traced: Floats = np.repeat([0.0, *(held for _, held in moves)], np.diff(minutes))
        return traced

    def close(self, prices: Mapping[str, Prices]) -> Outcome:
        """Return the equity after each minute."""
        self._cash_changes.sort(key=itemgetter(0))
        amounts = [amount for _, amount in self._cash_changes]
        minutes = [*(minute for minute, _ in self._cash_changes), self._length]
        cash: Floats = np.repeat(np.cumsum(amounts), np.diff(minutes))
        equity = cash.copy()
        unknown = 0
        for symbol, moves in self._moves.items():
            if moves:
                held = self._trace(moves)
                unknown += sum(
                    bool(held[max(0, first - 1) : max(0, last - 1)].any()) for first, last in prices[symbol].absent
                )
                cash += _value_adversely(held, prices[symbol])
                held *= prices[symbol].closes
                equity += held
        return Outcome(
            equity=equity,
            fills=self.fills,
            funding=self.funding,
            fees=self.fees,
            is_tight=bool(np.min(cash) < 0),
            unknown=unknown,
        )


def _value_adversely(held: Floats, prices: Prices) -> Floats:
    """Return what a position is worth at the adverse extremes, less the margin that it should keep."""
    margin = max(NEAR, 2 * prices.maintenance)
    is_long = held > 0
    worth = np.where(is_long, prices.lows, prices.highs)
    worth *= held
    worth *= np.where(is_long, 1 - margin, 1 + margin)
    return worth


def _fill(
    book: _Book,
    prices: Mapping[str, Prices],
    symbol: str,
    share: float,
    equity: float,
    minute: int,
    costs: Costs,
    *,
    only_reduce: bool = False,
) -> bool:
    """Fill a target at the open of a minute, with `only_reduce` only what reduces; say whether it filled."""
    mine, held = prices[symbol], book.held[symbol]
    opened = mine.opens.item(minute)
    if math.isnan(opened):
        return False  # it expires
    direction = share * equity / opened - held
    if not direction:
        return False
    price = opened * (1 + costs.slippage if direction > 0 else 1 - costs.slippage)
    quantity = share * equity / price - held
    if quantity * direction <= 0:
        return False
    if quantity != -held:
        quantity = math.copysign(math.floor(abs(quantity) / mine.lot + 1e-9) * mine.lot, quantity)
    if not quantity:
        return False
    is_reducing = quantity * held < 0 and abs(quantity) <= abs(held) * (1 + 1e-12)
    if not is_reducing:
        if only_reduce:
            return False
        others = sum(
            abs(held_there) * (book.filled[other] if other in book.filled else prices[other].values.item(minute))
            for other, held_there in book.held.items()
            if held_there and other != symbol
        )
        worth = others + abs(held + quantity) * price
        if abs(quantity) * price < mine.min_notional or worth > costs.leverage * equity * (1 + 1e-12):
            return False
    book.trade(symbol, quantity, price, abs(quantity) * price * costs.taker, minute)
    return True
