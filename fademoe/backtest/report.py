"""The figures of a run: what was earned, by what, at what risk. Floats: they describe, the ledger counts."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from fademoe.account import ledger as kinds
from fademoe.account.ledger import LedgerRow
from fademoe.account.numbers import EXACT, ZERO, format_decimal
from fademoe.backtest.run import Result
from fademoe.clock import DAY_MS, MINUTE_MS, SECOND_MS

DAYS_A_YEAR = 365
TRADED = (kinds.FILL, kinds.LIQUIDATION, kinds.DELISTING)
POINTS = 1_500  # of the curves in a report


class Trade(NamedTuple):
    """A position from flat to flat, or to the other side; `closed_ms` is None while it is held."""

    symbol: str
    opened_ms: int
    closed_ms: int | None
    side: str
    quantity: Decimal  # the most that was held
    price: Decimal  # USDT by price moves, without fees and funding
    funding: Decimal
    fees: Decimal
    reason: str  # of the row that closed it

    @property
    def profit(self) -> Decimal:
        return self.price + self.funding - self.fees


def list_trades(ledger: Sequence[LedgerRow]) -> list[Trade]:
    """Return the trades of a ledger, in the order in which they were opened."""
    trades: list[Trade] = []
    by_symbol: dict[str, list[LedgerRow]] = defaultdict(list)
    for row in ledger:
        if row.kind in TRADED or row.kind == kinds.FUNDING:
            by_symbol[row.symbol].append(row)
    for symbol in sorted(by_symbol):
        trades += _list_trades_of(symbol, by_symbol[symbol])
    return sorted(trades, key=lambda trade: (trade.opened_ms, trade.symbol))


def _list_trades_of(symbol: str, rows: Sequence[LedgerRow]) -> list[Trade]:
    trades: list[Trade] = []
    held = most = amount = funding = fees = ZERO
    opened_ms = 0
    for row in rows:
        if row.kind == kinds.FUNDING:
            funding += row.amount
            continue
        quantity, price = row.quantity or ZERO, row.price or ZERO
        after = held + quantity
        turned = bool(held) and bool(after) and (after > 0) != (held > 0)
        if not held:
            opened_ms = row.ts
        if turned or not after:  # closes; what turns round opens the next trade with its rest
            share = abs(held / quantity)
            closing = Trade(
                symbol,
                opened_ms,
                row.ts,
                "long" if held > 0 else "short",
                most,
                amount + held * price,
                funding,
                fees + row.fee * share,
                row.reason,
            )
            trades.append(closing)
            amount, funding, fees, most = ZERO, ZERO, ZERO, ZERO
            if turned:
                opened_ms = row.ts
                amount, fees, most = -after * price, row.fee * (1 - share), abs(after)
        else:
            amount += row.amount
            fees += row.fee
            most = max(most, abs(after))
        held = after
    if held:
        side = "long" if held > 0 else "short"
        trades.append(Trade(symbol, opened_ms, None, side, most, amount, funding, fees, ""))
    return trades


def make_report(
    result: Result,
    capital: Decimal,
    buy_and_hold: Mapping[str, float | None],
    absences: Sequence[Mapping[str, Any]] = (),
    corrections: int = 0,
) -> dict[str, Any]:
    """Return the report of a run as values that JSON can hold; money as text, ratios as floats.

    `buy_and_hold`: last close / first open - 1 by symbol. Values that do not exist are None.
    """
    with localcontext(EXACT):
        report = _describe_result(result, capital, buy_and_hold)
    return report | {"absences": list(absences), "corrections": corrections}


def _describe_result(result: Result, capital: Decimal, buy_and_hold: Mapping[str, float | None]) -> dict[str, Any]:
    trades = list_trades(result.ledger)
    closed = [trade for trade in trades if trade.closed_ms is not None]
    equity = list(result.equity.equity)
    days = _daily(equity, float(capital), result.equity.since)
    drawdown = _find_drawdown(equity, float(capital))
    total = equity[-1] / float(capital) - 1 if equity else 0.0
    held = [value for value in buy_and_hold.values() if value is not None]
    ratios = _compute_ratios(days, total, len(equity) * MINUTE_MS / DAY_MS / DAYS_A_YEAR, drawdown["share"])
    volume = sum(abs(row.amount) for row in result.ledger if row.kind in TRADED)
    mean_equity = sum(equity) / len(equity) if equity else 0.0
    return {
        "equity": format_decimal(result.account.equity),
        "profit": format_decimal(result.account.equity - capital),
        "return": total,
        **ratios,
        "max_drawdown": drawdown["share"],
        "max_drawdown_minutes": drawdown["minutes"],
        "exposure": _mean(result.equity.exposure) / mean_equity if mean_equity > 0 else None,
        "time_in_market": sum(1 for value in result.equity.exposure if value) / len(equity) if equity else None,
        "turnover": float(volume) / mean_equity if mean_equity > 0 else None,
        "trades": len(trades),
        "hit_rate": sum(1 for t in closed if t.profit > 0) / len(closed) if closed else None,
        "profit_factor": _profit_factor(closed),
        "average_holding_minutes": _mean([(t.closed_ms or 0) - t.opened_ms for t in closed]) / MINUTE_MS
        if closed
        else None,
        "fees": format_decimal(sum((row.fee for row in result.ledger), ZERO)),
        "funding": format_decimal(sum((r.amount for r in result.ledger if r.kind == kinds.FUNDING), ZERO)),
        "rows": {kind: sum(1 for row in result.ledger if row.kind == kind) for kind in _kinds_of(result.ledger)},
        "by_symbol": _split_by_symbol(result, buy_and_hold),
        "monthly": _list_monthly(days),
        "buy_and_hold": sum(held) / len(held) if held else None,
        "curve": _thin(result, capital),
        "trades_list": [_describe_trade(trade) for trade in trades[-1_000:]],
        "calls": result.calls,
        "longest_stale_minutes": result.longest_stale_minutes,
    }


def _kinds_of(ledger: Sequence[LedgerRow]) -> list[str]:
    return sorted({row.kind for row in ledger})


def _describe_trade(trade: Trade) -> dict[str, Any]:
    return {
        "symbol": trade.symbol,
        "side": trade.side,
        "opened": trade.opened_ms,
        "closed": trade.closed_ms,
        "quantity": format_decimal(trade.quantity),
        "price": format_decimal(trade.price) if trade.closed_ms is not None else None,
        "funding": format_decimal(trade.funding),
        "fees": format_decimal(trade.fees),
        "profit": format_decimal(trade.profit) if trade.closed_ms is not None else None,
        "reason": trade.reason,
    }


def _split_by_symbol(result: Result, buy_and_hold: Mapping[str, float | None]) -> dict[str, dict[str, Any]]:
    """Return what each symbol earned by price moves, funding and fees; positions at their last marks."""
    split: dict[str, dict[str, Decimal]] = {
        symbol: {"price": ZERO, "funding": ZERO, "fees": ZERO} for symbol in result.account.conditions.symbols
    }
    for row in result.ledger:
        name = "funding" if row.kind == kinds.FUNDING else "price"
        split[row.symbol][name] += row.amount
        split[row.symbol]["fees"] += row.fee
    for symbol, position in result.account.positions.items():
        split[symbol]["price"] += position.quantity * position.price
    return {
        symbol: {name: format_decimal(value) for name, value in parts.items()}
        | {
            "profit": format_decimal(parts["price"] + parts["funding"] - parts["fees"]),
            "position": format_decimal(result.account.hold(symbol)),
            "buy_and_hold": buy_and_hold.get(symbol),
        }
        for symbol, parts in split.items()
    }


def _daily(equity: Sequence[float], capital: float, since: int) -> list[tuple[int, float]]:
    """Return the equity at the end of each day UTC, with the capital in front."""
    days = [(since, capital)]
    minutes = ((since + place * MINUTE_MS, value) for place, value in enumerate(equity))
    for _, values in groupby(minutes, key=lambda each: each[0] // DAY_MS):
        *_, last = values
        days.append(last)
    return days


def _compute_ratios(
    days: Sequence[tuple[int, float]], total: float, years: float, drawdown: float
) -> dict[str, float | None]:
    """Return the yearly ratios, of daily returns."""
    returns = [b / a - 1 for (_, a), (_, b) in pairwise(days) if a > 0]
    mean = _mean(returns)
    deviation = math.sqrt(_mean([(r - mean) ** 2 for r in returns])) if len(returns) > 1 else 0.0
    downside = math.sqrt(_mean([min(r, 0.0) ** 2 for r in returns])) if returns else 0.0
    yearly = math.sqrt(DAYS_A_YEAR)
    cagr = None
    if years > 0 and total > -1:
        exponent = math.log1p(total) / years
        cagr = math.expm1(exponent) if exponent < 700 else None
    return {
        "cagr": cagr,
        "volatility": deviation * yearly,
        "sharpe": mean / deviation * yearly if deviation else None,
        "sortino": mean / downside * yearly if downside else None,
        "calmar": cagr / drawdown if cagr is not None and drawdown else None,
    }


def _find_drawdown(equity: Sequence[float], capital: float) -> dict[str, Any]:
    """Return the deepest fall from a peak as a share of it, and the longest time below a peak in minutes."""
    peak, deepest, longest, since_peak = capital, 0.0, 0, 0
    for value in equity:
        if value >= peak:
            peak, since_peak = value, 0
            continue
        since_peak += 1
        longest = max(longest, since_peak)
        deepest = max(deepest, 1 - value / peak if peak > 0 else 0.0)
    return {"share": deepest, "minutes": longest}


def _profit_factor(closed: Sequence[Trade]) -> float | None:
    won = sum((t.profit for t in closed if t.profit > 0), ZERO)
    lost = -sum((t.profit for t in closed if t.profit < 0), ZERO)
    return float(won / lost) if lost else None


def _list_monthly(days: Sequence[tuple[int, float]]) -> list[dict[str, Any]]:
    months = []
    before = days[0][1]
    for month, values in groupby(days[1:], key=lambda each: _month_of(each[0])):
        *_, (_, last) = values
        months.append({"month": month, "return": last / before - 1 if before > 0 else None})
        before = last
    return months


def _month_of(ts: int) -> str:
    return datetime.fromtimestamp(ts / SECOND_MS, UTC).strftime("%Y-%m")


def _thin(result: Result, capital: Decimal) -> list[list[float]]:
    """Return points [ts, equity, drawdown] for a drawing: of each stretch of minutes the last."""
    values = result.equity.equity
    stride = max(1, len(values) // POINTS)
    points, peak = [], float(capital)
    for place, value in enumerate(values):
        peak = max(peak, value)
        if (place + 1) % stride == 0 or place + 1 == len(values):
            fall = value / peak - 1 if peak > 0 else 0.0
            points.append([result.equity.since + place * MINUTE_MS, round(value, 6), round(fall, 6)])
    return points


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if len(values) else 0.0
