"""Receive funding: short where the settled rate of a year is far above another exchange's, long where far below.

Half of a carry between two exchanges: the other leg is traded there. `other` is the code of the other exchange. What it
earns is funding less fees and the moves of the price, which the missing leg would cancel: read the split in the report.
"""

from decimal import Decimal

from fademoe.strategy import Strategy, Target


class FundingCarry(Strategy):
    params = {"other": "byb", "enter": Decimal("0.15"), "leave": Decimal("0.03")}
    minutes = 5

    def on_minute(self, view):
        orders = {}
        for symbol in view.symbols:
            gap = self.read_gap(view, symbol)
            if gap is None:
                continue  # a rate is not known, or too old
            held = view.position(symbol)
            if abs(gap) > self.enter:
                side = -1 if gap > 0 else 1
                if held * side <= 0:
                    orders[symbol] = Target(Decimal(side) / len(view.symbols))
            elif abs(gap) < self.leave and held:
                orders[symbol] = Target(0)
        return orders

    def read_gap(self, view, symbol):
        """Return our rate of a year less the other exchange's."""
        yearly = []
        for code in (None, self.other):
            rate, hours = view.value(symbol, "fr", code), view.value(symbol, "fr_hours", code)
            if rate is None:
                return None
            yearly.append(rate * 8760 / (hours or 8))
        return yearly[0] - yearly[1]
