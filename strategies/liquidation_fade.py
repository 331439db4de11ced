"""Buy into forced sales: when longs are liquidated far beyond the usual, bid below the market and sell the rebound."""

from decimal import Decimal

from fademoe.strategy import Limit, Strategy, Target


class LiquidationFade(Strategy):
    params = {"window": 240, "times": 8, "below": Decimal("0.001"), "above": Decimal("0.004"), "patience": 30}

    def __init__(self):
        self.since = {}  # symbol -> end of the minute of the newest bid

    def on_minute(self, view):
        orders = {}
        for symbol in view.symbols:
            held, last = view.position(symbol), view.value(symbol, "c")
            waited = view.ts - self.since.get(symbol, view.ts)
            if held:
                if waited > 4 * self.patience * 60_000:
                    orders[symbol] = Target(0)
                elif last is not None and waited >= 60_000 and waited % 300_000 == 0:
                    orders[symbol] = Limit(-held, view.entry(symbol) * (1 + self.above), reduce=True)
                continue
            if symbol in self.since and waited > self.patience * 60_000:
                del self.since[symbol]
                orders[symbol] = []  # nobody sold to us
                continue
            sums = view.rows(symbol, "lql", self.window)
            if last is None or None in sums or symbol in self.since:
                continue
            usual = sum(sums[:-1]) / (self.window - 1)
            if usual and sums[-1] > self.times * usual:
                price = last * (1 - self.below)
                orders[symbol] = Limit(view.equity / len(view.symbols) / price, price)
                self.since[symbol] = view.ts
        return orders
