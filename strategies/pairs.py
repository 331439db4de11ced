"""Two coins that move together: when the ratio of their prices strays, sell the dear one and buy the cheap one."""

from decimal import Decimal

from fademoe.strategy import Strategy, Target


class Pairs(Strategy):
    params = {"window": 360, "enter": Decimal("2"), "leave": Decimal("0.5"), "share": Decimal("0.4")}

    def on_minute(self, view):
        if len(view.symbols) < 2:
            return None
        first, second = view.symbols[:2]
        prices = [view.rows(symbol, "c", self.window) for symbol in (first, second)]
        if None in prices[0] or None in prices[1]:
            return None  # a hole in one of the two
        ratios = [a / b for a, b in zip(*prices, strict=True)]
        mean = sum(ratios) / self.window
        deviation = (sum((ratio - mean) ** 2 for ratio in ratios) / self.window).sqrt()
        if not deviation:
            return None
        score = (ratios[-1] - mean) / deviation
        held = view.position(first)
        if abs(score) > self.enter and held * score >= 0:
            side = -1 if score > 0 else 1
            return {first: Target(side * self.share), second: Target(-side * self.share)}
        if abs(score) < self.leave and held:
            return {first: Target(0), second: Target(0)}
        return None
