"""Target strategies in floats, from one change of side to the next: for sweeps alone, checked against the exact engine.

Fills, funding, fees, lots and buying power are those of semantics 1; what it leaves out is liquidation: `is_tight` says
that a run came near its margin and has to be run exactly.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NEAR = 0.05  # of the notional: a run whose equity comes below this, or twice the maintenance, is run exactly


@dataclass(frozen=True, kw_only=True)
class Prices:
    """A symbol over the minutes of a run. `settled`: (minute, rate, mark), ascending.

    `opens` are NaN where there is no candle; the others are 0 before the first price.
    """

    opens: Floats  # where orders fill
    values: Floats  # at the open: the mark's, else the candle's, else the last close
    closes: Floats  # of the mark, else of the candle, else the last known one
    lows: Floats  # the adverse extremes
    highs: Floats
    settled: Sequence[tuple[int, float, float]]
    lot: float
    min_notional: float
    maintenance: float  # the highest rate of its tiers


@dataclass(frozen=True, kw_only=True)
class Signals:
    """The minutes at whose end a symbol is wanted long, short or out, each ascending."""

    long: Sequence[int]
    short: Sequence[int]
    out: Sequence[int]

    def find_next(self, minute: int, position: float) -> int | None:
        """Return the first minute from `minute` on at whose end something is ordered."""
        sources = []
        if position <= 0:
            sources.append(self.long)
        if position >= 0:
            sources.append(self.short)
        if position:
            sources.append(self.out)
        found = [each[place] for each in sources if (place := bisect_left(each, minute)) < len(each)]
        return min(found, default=None)


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
    while True:
        minute = min((at for at in due.values() if at is not None), default=None)
        if minute is None or minute + 1 >= length:
            break
        at = minute + 1  # where it fills
        for symbol in symbols:
            book.settle(symbol, prices[symbol], at)
        equity = max(book.cash + sum(book.held[s] * prices[s].values[at] for s in symbols if book.held[s]), 0.0)
        orders = []
        for symbol in symbols:
            if due[symbol] == minute:
                side = _find_side(signals[symbol], minute, book.held[symbol])
                orders.append((symbol, side))
        waiting = [
            (symbol, side)
            for symbol, side in orders
            if not _fill(book, prices, symbol, side * size, equity, at, costs, reduces=True)
        ]
        for symbol, side in waiting:
            _fill(book, prices, symbol, side * size, equity, at, costs, reduces=False)
        for symbol, _ in orders:
            due[symbol] = signals[symbol].find_next(at, book.held[symbol])
    for symbol in symbols:
        book.settle(symbol, prices[symbol], length - 1)
    return book.close(prices, costs.leverage)


class _Book:
    """Cash and positions, and their changes."""

    def __init__(self, symbols: Sequence[str], capital: float, length: int) -> None:
        self.cash = capital
        self.held = dict.fromkeys(symbols, 0.0)
        self.fees = self.funding = 0.0
        self.fills = 0
        self._was_short = False
        self._capital = capital
        self._length = length
        self._settled = dict.fromkeys(symbols, 0)
        self._cash_changes: list[tuple[int, float]] = []
        self._moves: dict[str, list[tuple[int, float]]] = {symbol: [] for symbol in symbols}

    def settle(self, symbol: str, prices: Prices, minute: int) -> None:
        """Settle funding up to a minute, on what was held before its fills."""
        first = self._settled[symbol]
        last = bisect_right(prices.settled, (minute, math.inf, math.inf))
        self._settled[symbol] = last
        held = self.held[symbol]
        if held:
            for at, rate, mark in prices.settled[first:last]:
                amount = -held * mark * rate
                self.funding += amount
                self.cash += amount
                self._cash_changes.append((at, amount))

    def trade(self, symbol: str, quantity: float, price: float, fee: float, minute: int) -> None:
        """Change cash and position by a fill."""
        change = -quantity * price - fee
        self.cash += change
        self.fees += fee
        self.fills += 1
        held = self.held[symbol] + quantity
        self.held[symbol] = 0.0 if abs(held) < 1e-12 else held
        self._was_short |= held < 0
        self._cash_changes.append((minute, change))
        self._moves[symbol].append((minute, self.held[symbol]))

    def _trace(self, moves: Sequence[tuple[int, float]]) -> Floats:
        """Return the position after each minute."""
        minutes = [0, *(minute for minute, _ in moves), self._length]
        traced: Floats = np.repeat([0.0, *(held for _, held in moves)], np.diff(minutes))
        return traced

    def close(self, prices: Mapping[str, Prices], leverage: float) -> Outcome:
        """Return the equity after each minute."""
        changes = np.zeros(self._length)
        for minute, amount in self._cash_changes:
            changes[minute] += amount
        equity = self._capital + np.cumsum(changes)
        cash = equity.copy()
        held_of = {symbol: self._trace(moves) for symbol, moves in self._moves.items() if moves}
        for symbol, held in held_of.items():
            equity += held * prices[symbol].closes
        is_tight = (leverage > 1 or self._was_short) and _comes_near(cash, held_of, prices)
        return Outcome(equity=equity, fills=self.fills, funding=self.funding, fees=self.fees, is_tight=is_tight)


def _comes_near(cash: Floats, held_of: Mapping[str, Floats], prices: Mapping[str, Prices]) -> bool:
    """Say whether the equity at the adverse extremes comes near the margin in any minute."""
    room = cash
    for symbol, held in held_of.items():
        mine = prices[symbol]
        worth = held * np.where(held > 0, mine.lows, mine.highs)
        room = room + worth - np.abs(worth) * max(NEAR, 2 * mine.maintenance)
    return bool(np.min(room) < 0)


def _find_side(signals: Signals, minute: int, held: float) -> int:
    for side, minutes in ((1, signals.long), (-1, signals.short)):
        place = bisect_left(minutes, minute)
        if held * side <= 0 and place < len(minutes) and minutes[place] == minute:
            return side
    return 0


def _fill(
    book: _Book,
    prices: Mapping[str, Prices],
    symbol: str,
    share: float,
    equity: float,
    minute: int,
    costs: Costs,
    *,
    reduces: bool,
) -> bool:
    """Fill a target at the open of a minute, if it only reduces a position or if it does not; say whether it filled."""
    mine, held = prices[symbol], book.held[symbol]
    opened = mine.opens[minute]
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
    if is_reducing != reduces:
        return False
    if not is_reducing:
        others = sum(abs(book.held[s]) * prices[s].values[minute] for s in book.held if s != symbol and book.held[s])
        worth = others + abs(held + quantity) * price
        if abs(quantity) * price < mine.min_notional or worth > costs.leverage * equity * (1 + 1e-12):
            return False
    book.trade(symbol, quantity, price, abs(quantity) * price * costs.taker, minute)
    return True
