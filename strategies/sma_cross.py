"""Long while the fast average of closes is above the slow one, else flat: the simplest trend there is."""

from fademoe.strategy import Strategy, Target


class SmaCross(Strategy):
    params = {"fast": 20, "slow": 100}

    def on_minute(self, view):
        orders = {}
        for symbol in view.symbols:
            closes = view.rows(symbol, "c", self.slow)
            if None in closes:
                continue  # a hole: nothing is decided on it
            fast = sum(closes[-self.fast :]) / self.fast
            side = 1 if fast > sum(closes) / self.slow else 0
            if side != bool(view.position(symbol)):  # no rebalancing while the side stays
                orders[symbol] = Target(side / len(view.symbols))
        return orders
