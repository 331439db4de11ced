"""The program `trader`: steps the minutes of all accounts in order, as soon as their data are complete.

A minute T is stepped when ohlcv, mark and fr of its symbols, and what else the strategy reads, are covered up to what
is due then; at latest STEPPED_WITHIN_MS after its end. What comes later is a late row of the reconciliation. While the
program, its host or PostgreSQL was away nothing could be stored, so both STEPPED_WITHIN_MS and the collector's silence
count from its return.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from psycopg2.extensions import cursor as Cursor

from fademoe.account.ledger import LedgerRow
from fademoe.alerts.ids import make_transition_id
from fademoe.alerts.messages import Transition
from fademoe.alerts.outbox import write_outbox
from fademoe.alerts.records import add_transitions, list_silences
from fademoe.alerts.rules import DECISIONS
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, floor_to, monotonic_s, now_ms, to_host_s, to_iso
from fademoe.errors import ConfigError, FadeMoeError, StoreError
from fademoe.feeds.lags import find_lags
from fademoe.metrics import METRICS, Derived
from fademoe.signals import Stopped, StopSignal
from fademoe.store import trader as store
from fademoe.store.connection import AWAY, Database
from fademoe.store.coverage import Series
from fademoe.store.read.snapshot import take_snapshot
from fademoe.store.status import State, Tracked
from fademoe.store.trader import Event, Progress, TraderAccount
from fademoe.trader.accounts import PaperAccount, load_account
from fademoe.trader.loading import MarketReader, list_needed
from fademoe.trader.minutes import Stepped, step_minutes
from fademoe.trader.reconciliation import reconcile, save_failed_reconciliation
from fademoe.trader.switches import DEAD_AFTER_MS, DEAD_MAN, RESUME, Trip, check_minute

log = logging.getLogger(__name__)

UNIT = "trader"
HEARTBEAT_S = 10
BUSY_S = 60  # within which it reports, also while a day is reconciled: three times as long is stale
COMPLETE_POLL_S = 0.5  # interval of checks whether a minute is complete
AWAY_S = 1.0  # between two tries while PostgreSQL is away
ASLEEP_MS = 2 * MINUTE_MS  # a longer pause between two checks: the host slept, or its clock was set
STEPPED_WITHIN_MS = 5 * MINUTE_MS  # after the end of a minute it is stepped whatever is missing
BATCH = 120  # minutes of an account in one transaction, when it catches up
RECONCILE_AFTER_MS = 2 * HOUR_MS  # after the end of a day, when its late rows have come
MADE_UP_DAYS = 7  # so many days back are reconciled that were not: the program was down
STRATEGY_FAILED, STEP_FAILED = "strategy failed", "step failed"


class TraderProgram:
    """Steps minutes until a stop is requested."""

    def __init__(self, database: Database, reading: Database, stop: StopSignal) -> None:
        """Remember what to work with; `reading` is a second connection, for what minutes read."""
        self._database = database
        self._reading = reading
        self._stop = stop
        self._papers: dict[str, PaperAccount] = {}
        self._unloadable: dict[str, str] = {}  # why
        self._singly_until: dict[str, int] = {}  # where a batch failed: the minute that fails is found alone
        self._reconciled_end = 0  # all days of all accounts before it are reconciled
        self._stepped = 0
        self._back_ms = now_ms()  # since when this program, its host and PostgreSQL are there
        self._idle_ms = self._back_ms  # since when it waits

    def run(self) -> None:
        """Work until SIGTERM; while PostgreSQL is away, keep trying."""
        unit = Tracked(database=self._database, unit=UNIT, interval_s=BUSY_S)
        heartbeat_at_s = pause_s = 0.0
        while not self._stop.wait(to_host_s(pause_s)):
            pause_s = COMPLETE_POLL_S
            try:
                with self._stop.allow_interrupt():  # what was not stored is stepped again after a start
                    if self.step_once():
                        pause_s = 0.0
                    else:
                        self._reconcile_next()
                        self._idle_ms = now_ms()
            except Stopped:
                break
            except StoreError as error:
                log.warning("%s", error)
                self._papers.clear()
                self._back_ms = now_ms()
                pause_s = AWAY_S
            if monotonic_s() >= heartbeat_at_s:
                heartbeat_at_s = monotonic_s() + HEARTBEAT_S
                unit.report(State.RUNNING, f"accounts: {len(self._papers)}, minutes stepped: {self._stepped}")
        unit.report(State.STOPPED, "stopped")

    def step_once(self) -> bool:
        """Step what is ready of all accounts; return whether anything was."""
        self._notice_absence()
        at = self._database.run(store.list_cursors)
        for name in [name for name in self._papers if name not in at or self._papers[name].cursor != at[name][0]]:
            del self._papers[name]
        if any(name not in self._papers for name in at):
            for stored in self._database.run(store.list_accounts):
                if stored.name not in self._papers:
                    self._load(stored)
        trips = {name: (trip, kind) for name, (_, trip, kind) in at.items()}
        moved = False
        with self._reading.open_transaction() as cursor:
            take_snapshot(cursor)
            is_on = store.is_on(cursor)
            reader = MarketReader(cursor)
            for name in sorted(self._papers):
                trip, kind = trips.get(name, (None, None))
                moved |= self._advance(cursor, reader, self._papers[name], trip, kind, is_on=is_on)
                if self._stop.requested:
                    break
            reader.close()
        self._idle_ms = now_ms()
        return moved

    def _notice_absence(self) -> None:
        """Count STEPPED_WITHIN_MS and the collector's silence from now where the host slept, or its clock was set."""
        now = now_ms()
        if now - self._idle_ms > ASLEEP_MS:
            log.warning("the host's clock went on by %d s at once", (now - self._idle_ms) // SECOND_MS)
            self._back_ms = now
        self._back_ms = min(self._back_ms, now)

    def _load(self, stored: TraderAccount) -> None:
        failures: list[Exception] = []
        with _note_failures(failures):  # the strategy may be of a newer or an older FadeMoe
            self._papers[stored.name] = load_account(stored)
        for error in failures:
            reason = _describe(error)
            if self._unloadable.get(stored.name) != reason:
                log.error("account %s cannot be loaded: %s", stored.name, reason)
            self._unloadable[stored.name] = reason

    def _advance(
        self,
        cursor: Cursor,
        reader: MarketReader,
        paper: PaperAccount,
        trip: str | None,
        kind: str | None,
        *,
        is_on: bool,
    ) -> bool:
        """Step what is ready of an account; return whether there was anything. What fails turns off no other one."""
        since = until = paper.cursor
        failures: list[Exception] = []
        with _note_failures(failures):
            until, ready = self._find_ready(reader, paper)
            if until > since:
                self._step(cursor, reader, paper, until, ready, trip, kind, is_on=is_on)
        for error in failures:
            del self._papers[paper.name]
            if until > since + MINUTE_MS:
                self._singly_until[paper.name] = until
                return True
            return self._database.run(partial(_save_failure, name=paper.name, error=error))
        return until > since

    def _find_ready(self, reader: MarketReader, paper: PaperAccount) -> tuple[int, dict[Series, int]]:
        """Return until when an account may be stepped now, and until when each of its series would let it."""
        now, since = now_ms(), paper.cursor
        batch = 1 if since < self._singly_until.get(paper.name, 0) else BATCH
        over = min(floor_to(now, MINUTE_MS), since + batch * MINUTE_MS)
        if over <= since:
            return since, {}
        ready = reader.find_ready_until(_list_needs(reader, paper), since)
        complete = min((floor_to(end, MINUTE_MS) for end in ready.values()), default=over)
        overdue = floor_to(now - STEPPED_WITHIN_MS, MINUTE_MS) if now - self._back_ms >= STEPPED_WITHIN_MS else since
        return max(since, min(over, max(complete, overdue))), ready

    def _step(
        self,
        cursor: Cursor,
        reader: MarketReader,
        paper: PaperAccount,
        until: int,
        ready: dict[Series, int],
        trip: str | None,
        kind: str | None,
        *,
        is_on: bool,
    ) -> None:
        """Step an account and store what came of it; a trip ends the steps, and holds from the next minute on."""
        since = paper.cursor
        dead = self._find_dead(cursor, paper, ready)
        is_alive = dead is None and not self._is_just_back()
        if trip is not None and kind != DEAD_MAN:
            paper.counts.is_tripped = True
        elif trip is None and paper.counts.is_tripped:
            paper.counts.restart()
        resumes = kind == DEAD_MAN and is_alive and paper.settings.after_stale == RESUME
        if resumes:
            trip = None

        def find_event(ts: int, is_off: bool) -> Event | None:  # noqa: FBT001 - the protocol of step_minutes
            why = "the switch of all accounts" if not is_on else trip or dead
            if (why is not None) == is_off:
                return None
            return Event(ts, why is not None, why or "on again")

        def check(paper: PaperAccount, ts: int, rows: Sequence[LedgerRow]) -> Trip | None:
            is_stale = any(end < ts + MINUTE_MS for end in ready.values())
            found = check_minute(paper.counts, paper.settings, paper.account, ts, rows, is_stale=is_stale)
            if found is None or trip is not None:
                return None
            paper.counts.is_tripped = True
            return found

        around = reader.surround(paper.plan, since, until)
        done = step_minutes(paper, around, until, find_event=find_event, check=check)
        tripped = done.trip
        if tripped is None and dead is not None and trip is None:
            tripped = Trip(DEAD_MAN, dead)
        progress = _make_progress(paper, since, done, ready, tripped)
        if self._database.run(partial(_save, progress=progress, paper=paper, done=done, resumes=resumes)):
            self._stepped += len(done.minutes)
            for event in done.events:
                log.info("%s is %s: %s", paper.name, "off" if event.is_off else "on", event.reason)
        else:
            self._papers.pop(paper.name, None)

    def _find_dead(self, cursor: Cursor, paper: PaperAccount, ready: dict[Series, int]) -> str | None:
        """Return why the dead man's switch is off: no sign of the collector, or no data, for DEAD_AFTER_MS."""
        if self._is_just_back():
            return None
        age_s = store.find_heartbeat_age(cursor, paper.plan.exchange)
        if age_s is None or age_s > to_host_s(DEAD_AFTER_MS / SECOND_MS):
            return f"no heartbeat of the collector of {paper.plan.exchange} for {DEAD_AFTER_MS // MINUTE_MS} minutes"
        candles = [end for series, end in ready.items() if series.source == f"{paper.plan.code}-ohlcv"]
        if candles and max(candles) < now_ms() - STEPPED_WITHIN_MS - DEAD_AFTER_MS:
            return f"no candle of {paper.plan.exchange} since {to_iso(max(candles))}"
        return None

    def _is_just_back(self) -> bool:
        """Return whether the collector's silence says nothing yet."""
        return now_ms() - self._back_ms < DEAD_AFTER_MS

    def _reconcile_next(self) -> None:
        """Reconcile one day that is over and was not reconciled up to its end yet, the oldest one first."""
        end = floor_to(now_ms() - RECONCILE_AFTER_MS, DAY_MS)
        if self._reconciled_end == end:
            return
        for name, paper in self._papers.items():
            first = max(floor_to(paper.plan.since, DAY_MS), end - MADE_UP_DAYS * DAY_MS)
            days = range(first, min(end, floor_to(paper.cursor, DAY_MS)), DAY_MS)
            done = self._database.run(partial(store.list_reconciled_days, name=name, first=first)) if days else ()
            for day in days:
                if day not in done:
                    self._reconcile(name, day)
                    return
        if self._papers and all(paper.cursor >= end for paper in self._papers.values()):
            self._reconciled_end = end  # an account that is behind has days to come

    def _reconcile(self, name: str, day: int) -> None:
        failures: list[Exception] = []
        with _note_failures(failures):  # a day that cannot be stepped again is not tried for ever
            found = reconcile(self._database, self._reading, name, day)
            log.info("%s on %s: %s", name, to_iso(day)[:10], "equal" if found.is_equal else "differs")
        for error in failures:
            reason = _describe(error)
            log.error("%s on %s cannot be reconciled: %s", name, to_iso(day)[:10], reason)
            self._database.run(partial(save_failed_reconciliation, name=name, day=day, reason=reason))


@contextmanager
def _note_failures(failures: list[Exception]) -> Iterator[None]:
    """Note what the block raises: of what a strategy orders and remembers, anything may come.

    A stop and a lost database are no failure of an account.
    """
    try:
        yield
    except (StoreError, Stopped, *AWAY):
        raise
    except Exception as error:  # noqa: BLE001 - see above
        failures.append(error)


def _make_progress(
    paper: PaperAccount, since: int, done: Stepped, ready: dict[Series, int], tripped: Trip | None
) -> Progress:
    return Progress(
        name=paper.name,
        expected_cursor=since,
        cursor=paper.cursor,
        state=paper.write_state(),
        ledger=[tuple(row.to_texts().values()) for row in done.ledger],
        minutes=[(*minute, _list_missing(ready, minute[0])) for minute in done.minutes],
        days=done.days,
        events=done.events,
        decisions=done.decisions,
        trip=None if tripped is None else tripped.reason,
        trip_kind=None if tripped is None else tripped.kind,
    )


def _save(cursor: Cursor, progress: Progress, paper: PaperAccount, done: Stepped, *, resumes: bool) -> bool:
    """Store the progress and what is to be sent of its decisions, in one transaction."""
    if resumes:
        store.reset(cursor, progress.name, DEAD_MAN)
    if not store.save(cursor, progress):
        return False
    if paper.settings.channels and done.decisions:
        _announce(cursor, paper, done)
    return True


def _save_failure(cursor: Cursor, name: str, error: Exception) -> bool:
    """Let an account trip whose next minute cannot be stepped; return False where it had tripped already."""
    stored = store.find_account(cursor, name)
    if stored is None or stored.trip is not None:
        return False
    is_expected = isinstance(error, FadeMoeError)
    log.error("account %s: %s", name, _describe(error), exc_info=None if is_expected else error)
    nothing = Progress(name, stored.cursor, stored.cursor, stored.state, (), (), (), (), ())
    kind = STRATEGY_FAILED if is_expected else STEP_FAILED
    return store.save(cursor, nothing._replace(trip=_describe(error), trip_kind=kind))


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, FadeMoeError) else f"{type(error).__name__}: {error}"


def _announce(cursor: Cursor, paper: PaperAccount, done: Stepped) -> None:
    """Put the decisions into the outbox of the account's channels, each as an alert of its own."""
    transitions = []
    for minute, symbol, orders in done.decisions:
        rule = f"{DECISIONS}{paper.name}"
        code = paper.plan.code
        text = "; ".join(" ".join(map(str, order)) for order in orders) or "no orders"
        transitions.append(
            Transition(
                id=make_transition_id(rule, "1", code, symbol, minute, "firing"),
                rule=rule,
                version="1",
                code=code,
                symbol=symbol,
                minute=minute,
                state="firing",
                since=None,
                reason="decision",
                severity="info",
                message=f"{paper.name}: {symbol}: {text}",
                values={"orders": text},
            )
        )
    add_transitions(cursor, transitions)
    wanted = [(transition, paper.settings.channels) for transition in transitions]
    write_outbox(cursor, wanted, list_silences(cursor, done.minutes[0][0]), now_ms())


def _list_needs(reader: MarketReader, paper: PaperAccount) -> dict[Series, int]:
    """Return the series that minutes wait for, each with how much later than it a minute may be, in ms.

    Those of the account's own exchange have to be covered up to the minute; another series that the strategy reads up
    to its newest point that is known by then; instead of one that is computed, those that it is computed from. What no
    contract trades is not waited for, nor another series that is not wanted.
    """
    own = dict.fromkeys(list_needed(paper.plan), 0)
    needs = dict(own)
    for series, metric in paper.reads:
        is_derived = isinstance(METRICS.get(metric), Derived)
        for name in reader.list_inputs(series.source) if is_derived else [series.source]:
            slack_ms = _find_slack(name, is_direct=not is_derived)
            if slack_ms is not None:
                needed = Series(name, series.symbol)
                needs[needed] = min(slack_ms, needs.get(needed, slack_ms))
    listed = reader.find_listed(needs, paper.cursor)
    wanted = reader.find_wanted(needs.keys() - own.keys(), paper.cursor) | own.keys()
    return {series: slack_ms for series, slack_ms in needs.items() if series in listed & wanted}


def _find_slack(source: str, *, is_direct: bool) -> int | None:
    """Return how much later than a stored perpspec a minute may be, in ms; None: no minute waits for it.

    A minute that ends at M waits for the rows with ts + span + lag <= M: it may end before the span and the lag of the
    first row that is not covered are over. Of several lags of a source the slowest counts. A candle of the minute
    itself counts as known where it is read directly.
    """
    try:
        lags = find_lags(source)
    except ConfigError:  # it was read once, and is not declared any more
        return None
    return max(lag.span_ms + (0 if lag.at_minute_end and is_direct else lag.lag_ms) for lag in lags) - 1


def _list_missing(ready: dict[Series, int], ts: int) -> list[str]:
    return sorted(f"{series.source} {series.symbol}" for series, end in ready.items() if end < ts + MINUTE_MS)
