"""Some minutes of an account: the step of the backtester and the strategy, with the switches of a paper account.

Live minutes and a reconciliation go through the same function, so they differ by nothing but the rows they read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import localcontext
from typing import Any, NamedTuple

from fademoe.account.ledger import LedgerRow
from fademoe.account.market import Terms
from fademoe.account.numbers import EXACT, format_decimal
from fademoe.account.orders import dump_order
from fademoe.account.step import drop_orders, step_in_place
from fademoe.backtest.market import Market
from fademoe.backtest.view import Lives, RunMinute, RunView
from fademoe.clock import DAY_MS, MINUTE_MS, Window
from fademoe.store.trader import Event
from fademoe.strategy import Market as MarketOrder
from fademoe.strategy import Order
from fademoe.trader.accounts import PaperAccount
from fademoe.trader.switches import CLOSE, Trip

OFF = "off"


class Surroundings(NamedTuple):
    """What the minutes of an account happen in."""

    market: Market
    lives: Mapping[str, Sequence[Window]]
    terms: Mapping[str, Sequence[tuple[int, Terms]]]


@dataclass
class Stepped:
    """What some minutes did."""

    ledger: list[LedgerRow] = field(default_factory=list)
    minutes: list[tuple[int, str, str]] = field(default_factory=list)  # ts, equity, cash
    days: list[tuple[int, str]] = field(default_factory=list)  # the first minute of a day, the state before it
    decisions: list[tuple[int, str, Any]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    trip: Trip | None = None


def step_minutes(
    paper: PaperAccount,
    around: Surroundings,
    until: int,
    *,
    find_event: Callable[[int, bool], Event | None],
    check: Callable[[PaperAccount, int, Sequence[LedgerRow]], Trip | None],
) -> Stepped:
    """Step an account from its cursor to `until`, or to the end of the minute in which a kill switch trips.

    `find_event` is told a minute and whether the account is off, and returns the event that changes this from that
    minute on. `check` looks at the end of each minute. Raises StrategyFailed; the account is not to be used then.
    """
    plan, account = paper.plan, paper.account
    done = Stepped()
    listed = Lives(around.lives)
    minute = RunMinute(around.market, plan.symbols, listed, around.terms)
    view = RunView(around.market, account, listed)
    symbols = frozenset(plan.symbols)
    period = plan.strategy.minutes * MINUTE_MS
    with localcontext(EXACT):
        for ts in range(paper.cursor, until, MINUTE_MS):
            if ts % DAY_MS == 0 or ts == plan.since:
                done.days.append((ts, paper.write_state()))
            around.market.now = ts
            minute.move(ts)
            rows: list[LedgerRow] = []
            event = find_event(ts, paper.is_off)
            if event is not None:
                paper.is_off = event.is_off
                done.events.append(event)
                if event.is_off:
                    rows += drop_orders(account, ts, OFF)
            rows += step_in_place(account, minute)
            done.ledger += rows
            done.minutes.append((ts, format_decimal(account.equity), format_decimal(account.cash)))
            if paper.is_off:
                if paper.settings.when_off == CLOSE:
                    _send(paper, done, _close_all(paper), ts, latency=0)
            elif (ts + MINUTE_MS) % period == 0:
                view.move(ts)
                _send(paper, done, paper.strategy.decide(view, symbols), ts, latency=account.conditions.latency)
            paper.cursor = ts + MINUTE_MS
            done.trip = check(paper, ts, rows)
            if done.trip is not None:
                break
    paper.reads |= {(reading.series, reading.metric) for reading in around.market.list_readings()}
    return done


def _close_all(paper: PaperAccount) -> dict[str, list[Order]]:
    """Return orders that close what is held at the next open; where they meet no candle, they are sent again.

    They have no latency: in between a position could be liquidated, and its order would open one the other way.
    """
    held = paper.account.positions.items()
    return {symbol: [MarketOrder(-position.quantity)] for symbol, position in held if position.quantity}


def _send(paper: PaperAccount, done: Stepped, lists: dict[str, list[Order]], ts: int, latency: int) -> None:
    paper.account.send(lists, ts, latency)
    done.decisions += [(ts, symbol, [dump_order(order) for order in orders]) for symbol, orders in lists.items()]
