"""Runs in the environment of backtesting.py and vectorbt: the same orders over the same bars, timed, as JSON."""

import json
import sys
import time
import warnings

import numpy as np
import pandas as pd

warnings.filterwarnings("ignore")


def run_backtesting(bars: pd.DataFrame, sizes: np.ndarray, fee: float, cash: float) -> dict:
    """Send `sizes[t]` at the close of bar t; it fills at the next open."""
    from backtesting import Backtest, Strategy

    class Scheduled(Strategy):
        def init(self):
            pass

        def next(self):
            size = sizes[len(self.data) - 1]
            if size > 0:
                self.buy(size=int(size))
            elif size < 0:
                self.sell(size=int(-size))

    test = Backtest(bars, Scheduled, cash=cash, commission=fee, margin=0.01, finalize_trades=False)
    begin = time.process_time()
    stats = test.run()
    seconds = time.process_time() - begin
    trades = stats["_trades"]
    fills = []
    for at, price, size in zip(trades["EntryBar"], trades["EntryPrice"], trades["Size"], strict=True):
        fills.append((int(at), float(price), int(size)))
    for at, price, size in zip(trades["ExitBar"], trades["ExitPrice"], trades["Size"], strict=True):
        fills.append((int(at), float(price), -int(size)))
    open_trades = stats["_strategy"].trades
    fills += [(int(t.entry_bar), float(t.entry_price), int(t.size)) for t in open_trades]
    return {"seconds": seconds, "equity": float(stats["Equity Final [$]"]), "fills": merge(fills)}


def merge(fills: list) -> list:
    """Return the fills with those of one bar joined."""
    by_bar: dict[int, list] = {}
    for at, price, size in fills:
        found = by_bar.setdefault(at, [price, 0])
        found[1] += size
    return [(at, price, size) for at, (price, size) in sorted(by_bar.items())]


def run_vectorbt(bars: pd.DataFrame, sizes: np.ndarray, fee: float, cash: float) -> dict:
    """Fill the same orders at the opens of the bars behind them."""
    import vectorbt as vbt

    shifted = np.concatenate(([0.0], sizes[:-1]))
    shifted[shifted == 0] = np.nan

    def run() -> object:
        return vbt.Portfolio.from_orders(
            bars["Close"], size=shifted, price=bars["Open"], fees=fee, init_cash=cash, freq="1min"
        )

    run()  # numba compiles
    begin = time.process_time()
    made = run()
    equity = float(made.value().iloc[-1])
    seconds = time.process_time() - begin
    records = made.orders.records
    signs = np.where(records["side"] == 0, 1, -1)
    fills = [
        (int(a), float(p), round(float(s) * g))
        for a, p, s, g in zip(records["idx"], records["price"], records["size"], signs, strict=True)
    ]
    return {"seconds": seconds, "equity": equity, "fills": fills}


def main() -> None:
    """Read the bars and orders of a file, run one peer for each fee, write what came of it."""
    path, peer, *fees = sys.argv[1:]
    with np.load(path) as stored:
        columns = {name.capitalize(): stored[name] for name in ("open", "high", "low", "close", "volume")}
        sizes, cash = stored["sizes"], float(stored["cash"])
    bars = pd.DataFrame(columns, index=pd.date_range("2023-11-15", periods=len(sizes), freq="1min"))
    run = run_backtesting if peer == "backtesting" else run_vectorbt
    print(json.dumps([run(bars, sizes, float(fee), cash) for fee in fees]))


if __name__ == "__main__":
    main()
