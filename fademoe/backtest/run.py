"""A run: the step of an account over the minutes of a range, the strategy at the end of each, and what comes of it."""

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from decimal import localcontext

from fademoe.account.ledger import LedgerRow
from fademoe.account.market import Terms
from fademoe.account.numbers import EXACT
from fademoe.account.state import Account
from fademoe.account.step import step_in_place
from fademoe.backtest.calm import Calm
from fademoe.backtest.equity import Equity
from fademoe.backtest.market import Market, SeriesHash
from fademoe.backtest.plan import Plan
from fademoe.backtest.view import Lives, RunMinute, RunView
from fademoe.clock import DAY_MS, MINUTE_MS, Window
from fademoe.errors import FadeMoeError

NONE = "\\N"  # as COPY writes it


class Cancelled(FadeMoeError):
    """The run was cancelled."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run gave. `unknown`: ranges in which settlements are not known though a position was held."""

    ledger: list[LedgerRow]
    equity: Equity
    account: Account
    series: list[SeriesHash]
    lags: Mapping[str, Mapping[str, int]]
    sha256: str
    unknown: list[tuple[str, int, int]]
    longest_stale_minutes: int
    calls: int

    @property
    def certified(self) -> bool:
        return not self.unknown


def run_plan(
    plan: Plan,
    market: Market,
    lives: Mapping[str, Sequence[Window]],
    terms: Mapping[str, Sequence[tuple[int, Terms]]],
    progress: Callable[[float], bool] = lambda share: True,
) -> Result:
    """Run a plan over a market.

    `progress` is told the share of the range that is done, once for each day, and says whether to go on. Raises
    Cancelled, StrategyFailed, MissingSettlement, NotCovered.
    """
    account = Account.open(plan.conditions, plan.capital)
    listed = Lives(lives)
    minute = RunMinute(market, plan.symbols, listed, terms)
    view = RunView(market, account, listed)
    symbols = frozenset(plan.symbols)
    ledger: list[LedgerRow] = []
    equity = Equity(plan.since)
    calm = Calm(account, minute, equity)
    period = plan.strategy.minutes * MINUTE_MS
    stale = calls = 0
    with localcontext(EXACT), redirect_stdout(sys.stderr):  # stdout is of what the command answers
        strategy = plan.strategy.make(plan.params)
        for ts in range(plan.since, plan.until, MINUTE_MS):
            if (ts - plan.since) % DAY_MS == 0:
                _begin_day(plan, market, ts, progress)
            marked = calm.pass_minute(ts)
            if marked is None:
                rows = step_in_place(account, minute)
                ledger += rows
                equity.add(ts, account)
                stale = max(stale, account.stale_ms)
                calm.note_step(is_calm=not rows)
            if (ts + MINUTE_MS) % period == 0:
                market.now = ts
                view.move(ts, marked)
                calls += 1
                account.send(strategy.decide(view, symbols), ts)
        calm.leave()
    longest_stale = stale // MINUTE_MS
    return _make_result(account, market, ledger, equity, longest_stale_minutes=longest_stale, calls=calls)


def _make_result(
    account: Account,
    market: Market,
    ledger: list[LedgerRow],
    equity: Equity,
    *,
    longest_stale_minutes: int,
    calls: int,
) -> Result:
    """Return what a run that is over gives; its market is closed."""
    return Result(
        ledger=ledger,
        equity=equity,
        account=account,
        series=market.close(),
        lags=market.lags_used,
        sha256=hash_result(ledger, equity),
        unknown=list(account.unknown),
        longest_stale_minutes=longest_stale_minutes,
        calls=calls,
    )


def _begin_day(plan: Plan, market: Market, ts: int, progress: Callable[[float], bool]) -> None:
    """Read a day of the market; tell how far the run is, and raise Cancelled where it is not to go on."""
    market.move(ts)
    if not progress((ts - plan.since) / (plan.until - plan.since)):
        raise Cancelled("the run was cancelled")


def write_ledger(ledger: Sequence[LedgerRow]) -> str:
    """Return a line for each row, its columns as text with tabs between, \\N for none."""
    return "".join(
        "\t".join(NONE if value is None else str(value) for value in row.to_texts().values()) + "\n" for row in ledger
    )


def hash_result(ledger: Sequence[LedgerRow], equity: Equity) -> str:
    """Return the SHA-256 over the lines of the ledger and then those of the equity."""
    digest = hashlib.sha256()
    for start in range(0, len(ledger), 10_000):
        digest.update(write_ledger(ledger[start : start + 10_000]).encode())
    digest.update(equity.lines.encode())
    return digest.hexdigest()
