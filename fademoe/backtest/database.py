"""Runs over the database: what a plan needs is looked up, run, and stored."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.account.market import ASSUMED_TERMS, DEFAULT_LOT, Terms, Tier
from fademoe.account.numbers import ZERO
from fademoe.backtest.certificate import make_certificate, write_certificate
from fademoe.backtest.market import Market, NotCovered
from fademoe.backtest.plan import (
    LAST_MS,
    NEEDED,
    MissingData,
    Plan,
    check_data,
    choose_terms,
    list_lives,
)
from fademoe.backtest.report import make_report
from fademoe.backtest.run import Cancelled, Result, run_plan, write_ledger
from fademoe.backtest.sweep import (
    CachedLoader,
    Ground,
    SweepRequest,
    describe_folds,
    describe_trials,
    find_look_back,
    read_grid,
    run_sweep,
    walk_forward,
)
from fademoe.clock import Window, to_iso
from fademoe.errors import FadeMoeError
from fademoe.metrics import name_perpspec
from fademoe.signals import Stopped
from fademoe.store import backtests
from fademoe.store.connection import Database
from fademoe.store.coverage import Series
from fademoe.store.derived import make_relation
from fademoe.store.read import market as read
from fademoe.store.read.market import Known
from fademoe.store.read.series import list_absences
from fademoe.store.read.snapshot import take_snapshot
from fademoe.store.read.terms import DatedTerms, read_terms

PROGRESS_S = 1.0  # between two reports
ABSENCES_MOST = 1_000


class Outcome(NamedTuple):
    """A run as the commands and the API give it."""

    certified: bool
    certificate: dict[str, Any]
    report: dict[str, Any]
    unknown: list[dict[str, Any]]
    result: Result


class DatabaseLoader:
    """Rows from PostgreSQL; with `as_of` as it held them at that time, in ms."""

    def __init__(self, cursor: Cursor, as_of: int | None = None) -> None:
        self._cursor = cursor
        self._as_of = as_of
        self._past: dict[str, sql.Composable] = {}

    def read(self, series: Series, metric: str, window: Window, *, timed: bool = False) -> bytes:
        if self._as_of is None:
            rows = make_relation(series.source)
            return read.read_lines(self._cursor, series, metric, window, timed=timed, rows=rows)
        if series.source not in self._past:
            self._past[series.source] = read.build_past_rows(self._cursor, series.source, metric, self._as_of)
        return read.read_lines(self._cursor, series, metric, window, timed=timed, rows=self._past[series.source])

    def read_known(self, series: Series) -> Known:
        return read.read_known(self._cursor, series, self._as_of)


def resolve_symbols(cursor: Cursor, code: str, symbols: Sequence[str] | None, window: Window) -> tuple[str, ...]:
    """Return the symbols of a run, ascending: as given, or (None) all whose contract trades in the window.

    None at all where not one of them trades in it. Raises ConfigError for a symbol without a contract.
    """
    contracts = read.list_contracts(cursor, code, symbols)
    trading = {
        each.symbol
        for each in contracts
        if (each.listed_ms or 0) < window.end_ms and (each.delisted_ms or LAST_MS) > window.start_ms
    }
    if symbols is None:
        return tuple(sorted(trading))
    named = tuple(sorted(list_lives(contracts, symbols)))
    return named if trading else ()


def execute(cursor: Cursor, plan: Plan, progress: Callable[[float], bool] = lambda share: True) -> Outcome:
    """Run a plan over the database; `cursor` is of a transaction of its own, which reads one moment.

    Raises MissingData, StrategyFailed, MissingSettlement, Cancelled.
    """
    ground = prepare(cursor, plan)
    market, lives, terms = ground.open_market(plan), ground.lives, ground.terms
    needed = _list_needed(plan)
    try:
        result = run_plan(plan, market, lives, terms, progress)
    except NotCovered as error:
        raise MissingData(plan.exchange, error.missing, plan.as_of) from error
    newest_correction = read.find_newest_correction(cursor) if plan.as_of is not None else None
    certificate = make_certificate(
        plan, terms, result.series, result.lags, newest_correction, result.sha256, certified=result.certified
    )
    window = Window(plan.since, plan.until)
    report = make_report(
        result,
        plan.capital,
        {symbol: _buy_and_hold(market, symbol) for symbol in plan.symbols},
        absences=[
            {"source": s.source, "symbol": s.symbol, "from": each.start_ms, "to": each.end_ms, "reason": each.reason}
            for s in needed
            for each in list_absences(cursor, s.source, s.symbol, window, ABSENCES_MOST)
        ][:ABSENCES_MOST],
        corrections=read.count_corrections(cursor, [s.source for s in needed], plan.symbols, window),
    )
    unknown = [
        {"source": name_perpspec(plan.code, "fr"), "symbol": symbol, "from": to_iso(start_ms), "to": to_iso(end_ms)}
        for symbol, start_ms, end_ms in result.unknown
    ]
    return Outcome(result.certified, certificate, report, unknown, result)


def prepare(cursor: Cursor, plan: Plan) -> Ground:
    """Return what runs of a plan read: all of one moment. Must be the first use of a transaction.

    Raises MissingData when a part of what the run needs is not stored, ConfigError for a symbol without a contract.
    """
    take_snapshot(cursor)
    loader = DatabaseLoader(cursor, plan.as_of)
    lives = list_lives(read.list_contracts(cursor, plan.code, plan.symbols), plan.symbols)
    check_data(plan, {series: loader.read_known(series) for series in _list_needed(plan)}, lives)
    return Ground(
        loader=loader,
        lags=read.read_lags(cursor) if plan.lags is None else plan.lags,
        all_lives=OtherLives(cursor),
        lives=lives,
        terms=find_terms(cursor, plan),
    )


def _list_needed(plan: Plan) -> list[Series]:
    return [Series(name_perpspec(plan.code, metric), symbol) for symbol in plan.symbols for metric in NEEDED]


def add_sweep(cursor: Cursor, plan: Plan, sweep_request: SweepRequest, *, state: str = backtests.QUEUED) -> str:
    """Add a sweep, or walking forward, and return its id; raise ConfigError for a wrong grid."""
    kind = backtests.SWEEP if sweep_request.folds_ms is None else backtests.WALK_FORWARD
    return backtests.add(cursor, kind, plan.strategy.name, write_sweep(plan, sweep_request), state=state)


def write_sweep(plan: Plan, sweep_request: SweepRequest) -> dict[str, Any]:
    """Return a sweep as values that JSON can hold."""
    return plan.to_json() | {"sets": len(read_grid(plan, sweep_request.grid)), "sweep": sweep_request.to_json()}


def sweep_and_store(
    database: Database,
    reading: Database,
    run_id: str,
    plan: Plan,
    sweep_request: SweepRequest,
    say: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Run what `add_sweep` added; store and return the report. The rows are read once for all sets.

    Raises as `run_and_store` does.
    """
    sets, body = read_grid(plan, sweep_request.grid), write_sweep(plan, sweep_request)
    progress = _follow_run(database, run_id, say)
    database.run(lambda cursor: backtests.begin(cursor, run_id, body))
    with StoredFailure(database, run_id), closing(reading), reading.open_transaction() as cursor:
        ground = prepare(cursor, plan)
        ground = replace(ground, loader=CachedLoader(ground.loader), back=find_look_back(plan, sets))
        if sweep_request.folds_ms is None:
            report = describe_trials(run_sweep(plan, sets, ground, sweep_request.best, progress))
        else:
            report = describe_folds(
                plan, walk_forward(plan, sets, ground, *sweep_request.folds_ms, progress), len(sets)
            )
    stored = database.run(
        lambda cursor: backtests.finish(cursor, run_id, certified=False, certificate="{}", report=report, unknown=[])
    )
    if not stored:
        raise Cancelled("the sweep was cancelled")
    return report


@dataclass(frozen=True)
class StoredFailure:
    """Around a run: why it failed is stored when the block raises; interrupting a command cancels the run."""

    database: Database
    run_id: str

    def __enter__(self) -> None:
        """Begin the block; nothing is stored yet."""

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        """Store how the block ended where it raised; what it raised goes on."""
        if isinstance(error, KeyboardInterrupt):
            self.database.run(lambda cursor: backtests.cancel(cursor, self.run_id))
        elif isinstance(error, Exception) and not isinstance(error, (Cancelled, Stopped)):
            message = str(error) if isinstance(error, FadeMoeError) else f"{type(error).__name__}: {error}"
            self.database.run(lambda cursor: backtests.fail(cursor, self.run_id, message))


def _follow_run(database: Database, run_id: str, say: Callable[[float], None]) -> "Progress":
    return Progress(database, lambda cursor, share: backtests.report_progress(cursor, run_id, share), say)


class Progress:
    """Stores once a second which share of a run is done, and says whether to go on."""

    def __init__(
        self, database: Database, report: Callable[[Cursor, float], bool], say: Callable[[float], None]
    ) -> None:
        """`report` stores a share and returns False when the run is to end; `say` is told each share as well."""
        self._database = database
        self._report = report
        self._say = say
        self._last = time.monotonic()

    def __call__(self, share: float) -> bool:
        if time.monotonic() - self._last < PROGRESS_S:
            return True
        self._last = time.monotonic()
        self._say(share)
        return self._database.run(lambda cursor: self._report(cursor, share))


def run_and_store(
    database: Database, reading: Database, run_id: str, plan: Plan, say: Callable[[float], None] = lambda share: None
) -> Outcome:
    """Run a plan that was added as `run_id` and store what comes of it, or why it failed.

    `reading`: another connection, whose transaction stays open for the run. Raises as `execute` does.
    """
    progress = _follow_run(database, run_id, say)
    database.run(lambda cursor: backtests.begin(cursor, run_id, plan.to_json()))
    with StoredFailure(database, run_id), closing(reading), reading.open_transaction() as cursor:
        outcome = execute(cursor, plan, progress)
    stored = database.run(
        lambda cursor: backtests.finish(
            cursor,
            run_id,
            certified=outcome.certified,
            certificate=write_certificate(outcome.certificate),
            report=outcome.report,
            unknown=outcome.unknown,
            ledger=write_ledger(outcome.result.ledger),
            equity=outcome.result.equity.lines,
        )
    )
    if not stored:
        raise Cancelled("the run was cancelled")
    return outcome


def run_again(reading: Database, plan: Plan, certificate: Mapping[str, Any]) -> Outcome:
    """Run a plan with the lags of its certificate."""
    with closing(reading), reading.open_transaction() as cursor:
        return execute(cursor, replace(plan, lags=certificate["lags"]))


def find_terms(cursor: Cursor, plan: Plan) -> dict[str, list[tuple[int, Terms]]]:
    """Return the terms of each symbol's contract with the time from which they hold; the first ones from the start."""
    return date_terms(plan, read_terms(cursor, plan.code, plan.symbols, Window(plan.since, plan.until)))


def date_terms(plan: Plan, dated: Mapping[str, Sequence[DatedTerms]]) -> dict[str, list[tuple[int, Terms]]]:
    """Return (since_ms, terms) of each symbol of a plan, ascending, from `dated` terms by symbol.

    `dated` may hold terms from before the plan's range: the newest of them hold from its start. A symbol without any
    has the assumed terms.
    """
    return {symbol: _date_terms(plan, symbol, dated.get(symbol, [])) for symbol in plan.symbols}


def _date_terms(plan: Plan, symbol: str, dated: Sequence[DatedTerms]) -> list[tuple[int, Terms]]:
    made = [(each.since_ms, choose_terms(symbol, _make_terms(each), plan.tiers)) for each in dated]
    if not made:
        return [(plan.since, choose_terms(symbol, ASSUMED_TERMS, plan.tiers))]
    before = [each for each in made if each[0] <= plan.since]
    if before:
        return [(plan.since, before[-1][1]), *made[len(before) :]]
    first = made[0][1]  # before the first dated terms the first ones hold, flagged
    given = symbol in plan.tiers or "*" in plan.tiers
    names = ("lot", "min_notional") if given else ("lot", "min_notional", "tiers")
    return [(plan.since, replace(first, assumed=names)), *made]


def _make_terms(dated: DatedTerms) -> Terms:
    assumed = []
    if dated.lot is None or dated.is_assumed:
        assumed.append("lot")
    if dated.min_notional is None or dated.is_assumed:
        assumed.append("min_notional")
    if not dated.tiers or dated.is_assumed:
        assumed.append("tiers")
    return Terms(
        lot=DEFAULT_LOT if dated.lot is None else dated.lot,
        min_notional=ZERO if dated.min_notional is None else dated.min_notional,
        tiers=tuple(Tier(*each) for each in dated.tiers) or ASSUMED_TERMS.tiers,
        tiers_in_coins=dated.tier_unit == "coins",
        assumed=tuple(assumed),
    )


def _buy_and_hold(market: Market, symbol: str) -> float | None:
    """Return the last close of the run over its first open, less one."""
    first, last = market.edges.get(symbol, (None, None))
    return float(last / first - 1) if first and last else None


class OtherLives(dict[tuple[str, str], tuple[Window, ...]]):
    """The lives of contracts by code and symbol, looked up when they are asked for."""

    def __init__(self, cursor: Cursor) -> None:
        super().__init__()
        self._cursor = cursor

    def __missing__(self, key: tuple[str, str]) -> tuple[Window, ...]:
        code, symbol = key
        contracts = read.list_contracts(self._cursor, code, [symbol])
        self[key] = list_lives(contracts, [symbol])[symbol] if contracts else ()
        return self[key]
