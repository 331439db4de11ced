"""Go with a move of the price that new positions pay for: open interest rises while the close leaves its range."""

from decimal import Decimal

from fademoe.strategy import Stop, Strategy, Target


class OiBreakout(Strategy):
    params = {"range": 60, "rise": Decimal("0.01"), "stop": Decimal("0.01"), "hold": 120}

    def __init__(self):
        self.opened = {}  # symbol -> end of the minute in which it was ordered

    def on_minute(self, view):
        orders = {}
        for symbol in view.symbols:
            held = view.position(symbol)
            if held:
                if view.ts - self.opened.get(symbol, view.ts) > self.hold * 60_000:
                    orders[symbol] = Target(0)
                continue
            closes = view.rows(symbol, "c", self.range + 1)
            interest = view.rows(symbol, "oi", 4)  # a quarter of an hour
            if None in closes or None in (interest[0], interest[-1]) or not interest[0]:
                continue
            if interest[-1] / interest[0] - 1 < self.rise:
                continue
            last, before = closes[-1], closes[:-1]
            side = 1 if last > max(before) else -1 if last < min(before) else 0
            if side:
                share = Decimal(side) / len(view.symbols)
                quantity = -share * view.equity / last  # the stop: about what the target will hold
                orders[symbol] = [Target(share), Stop(quantity, last * (1 - side * self.stop), reduce=True)]
                self.opened[symbol] = view.ts
        return orders
