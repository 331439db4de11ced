"""Stretches of minutes in which nothing happens to an account but that its positions are marked.

The step of such a minute changes nothing else, so a stretch of them is marked at once. Floats say which minutes are
calm, on the safe side: what they cannot rule out is left to the step. The equity is worked out in the decimals of the
step and in its order.
"""

from decimal import Decimal
from itertools import repeat
from operator import add, mul

import numpy as np
from numpy.typing import NDArray

from fademoe.account.market import Terms
from fademoe.account.state import Account, Position
from fademoe.backtest.equity import Equity
from fademoe.backtest.view import Floats, RunMinute
from fademoe.clock import MINUTE_MS

SAFE = 1e-9  # of what is compared: far more than floats can be wrong
PATIENCE, MOST_PATIENCE = 2, 32  # minutes without an event before a stretch is looked for
SHORTEST = 32  # minutes that are marked at once; twice as many while they stay calm


class Calm:
    """The calm minutes of an account in a run. Between two stretches the account is stepped."""

    def __init__(self, account: Account, minute: RunMinute, equity: Equity) -> None:
        self._account = account
        self._minute = minute
        self._equity = equity
        self._since = 0  # of the stretch that is being passed
        self._equities: list[Decimal] = []
        self._held: Floats = np.empty(0)
        self._closes: dict[str, list[Decimal | None]] = {}
        self._passed = 0
        self._until = 0  # minutes before it are calm
        self._length = SHORTEST
        self._found = 0  # the minute in which calm was found
        self._patience = self._wait = PATIENCE  # after stretches that were hardly worth finding it is longer

    def pass_minute(self, ts: int) -> Decimal | None:
        """Return the equity at the end of the minute `ts` when it is calm; else None, and `ts` is to be stepped."""
        waiting = self._account.on_the_way
        arrives = bool(waiting) and waiting[0][0] <= ts
        if (arrives or self._passed == len(self._equities)) and not self._go_on(ts, arrives=arrives):
            return None
        equity = self._equities[self._passed]
        self._passed += 1
        return equity

    def note_step(self, *, is_calm: bool) -> None:
        """Note that a minute was stepped, and whether nothing happened in it."""
        self._until = 0
        if not is_calm:
            self._wait = self._patience

    def leave(self) -> None:
        """End the stretch at the minute that was passed last: the account is as if it had been stepped so far."""
        count, self._passed = self._passed, 0
        if count:
            self._equity.add_stretch(self._since, self._equities[:count], self._account.cash, self._held[:count])
            for symbol, position in self._account.positions.items():
                close = self._closes[symbol][count - 1]
                assert close is not None
                position.price, position.priced_ms = close, self._since + (count - 1) * MINUTE_MS
        self._equities = []

    def _go_on(self, ts: int, *, arrives: bool) -> bool:
        """Mark the minutes from `ts` on, if it is calm."""
        self.leave()
        self._minute.move(ts)
        if self._found and (arrives or self._until <= ts):
            is_short = ts - self._found < SHORTEST * MINUTE_MS
            self._patience = min(2 * self._patience, MOST_PATIENCE) if is_short else PATIENCE
            self._found = 0
        if arrives:
            self._wait = self._patience
            return False
        if self._until <= ts:
            if self._wait:
                self._wait -= 1
                return False
            count = self._count_calm()
            if not count:
                self._patience = self._wait = min(2 * self._patience, MOST_PATIENCE)
                return False
            self._found, self._until, self._length = ts, ts + count * MINUTE_MS, SHORTEST
        self._mark(ts, min(self._length, (self._until - ts) // MINUTE_MS))
        self._length *= 2
        return True

    def _mark(self, ts: int, count: int) -> None:
        """Work out the equity of the next minutes."""
        first, last = self._minute.place, self._minute.place + count
        equities, held = [self._account.cash] * count, np.zeros(count)
        for symbol, position in self._account.positions.items():
            closes = self._closes[symbol] = self._minute.list_closes(symbol, first, last)
            equities = list(map(add, equities, map(mul, repeat(position.quantity), closes)))
            held += abs(float(position.quantity)) * self._minute.read_day(symbol).closes[first:last]
        self._since, self._equities, self._held = ts, equities, held

    def _count_calm(self) -> int:
        """Return how many minutes from this one on are calm, within the day."""
        account, minute = self._account, self._minute
        count = minute.left
        if not account.positions and not account.resting:
            return count
        busy = self._find_dangers(count) | self._find_touches(count)
        for turn in minute.list_turns(account.positions, count):
            busy[turn.start : turn.stop] = True
        return int(np.argmax(busy)) if busy.any() else count

    def _find_dangers(self, count: int) -> NDArray[np.bool_]:
        """Return in which minutes a position has no price, or may come to its maintenance margin."""
        account, first = self._account, self._minute.place
        busy = np.zeros(count, dtype=np.bool_)
        room = np.full(count, float(account.cash))
        scale = np.abs(room)
        for symbol, position in account.positions.items():
            prices, terms = self._minute.read_day(symbol), self._minute.get_terms(symbol)
            extremes = (prices.lows if position.quantity > 0 else prices.highs)[first : first + count]
            worth = float(position.quantity) * extremes
            needed = _compute_maintenance(abs(worth), position, terms, extremes)
            busy |= np.isnan(prices.closes[first : first + count])
            if account.conditions.isolated:
                paid = position.quantity * position.entry
                margin = float(abs(paid) / account.conditions.leverage - paid)
                busy |= ~(margin + worth - needed > SAFE * (abs(margin) + abs(worth)))
            else:
                room = room + worth - needed
                scale = scale + abs(worth)
        return busy if account.conditions.isolated else busy | ~(room > SAFE * scale)

    def _find_touches(self, count: int) -> NDArray[np.bool_]:
        """Return in which minutes the bar may touch the price of an order that rests."""
        first = self._minute.place
        busy = np.zeros(count, dtype=np.bool_)
        for symbol, orders in self._account.resting.items():
            prices = self._minute.read_day(symbol)
            for order in orders:
                price = float(order.price)
                if (order.quantity > 0) == order.is_stop:
                    busy |= prices.candle_highs[first : first + count] >= price * (1 - SAFE)
                else:
                    busy |= prices.candle_lows[first : first + count] <= price * (1 + SAFE)
        return busy


def _compute_maintenance(worth: Floats, position: Position, terms: Terms, prices: Floats) -> Floats:
    """Return the maintenance margin of a position at each price, as `account.margin` does."""
    size = np.full(len(worth), abs(float(position.quantity))) if terms.tiers_in_coins else worth
    needed, lower = np.zeros(len(worth)), 0.0
    for bound, rate in terms.tiers:
        upper = np.inf if bound is None else float(bound)
        needed += np.clip(size - lower, 0, upper - lower) * float(rate)
        lower = upper
    if np.isfinite(lower):  # beyond the last bound its rate goes on
        needed += np.maximum(size - lower, 0) * float(terms.tiers[-1].rate)
    return needed * prices if terms.tiers_in_coins else needed
