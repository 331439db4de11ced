"""Evaluates rules at the end of every minute: live, on what is stored by then, and again later as live saw it.

    engine = LiveEngine([Watch("oi-surge", expression, clear, ("bin", "byb"), None)], seen_ms=…)
    engine.list_missing(cursor, minute)          # series to wait for, until 90 s after the minute began
    minute = engine.evaluate(cursor, minute)     # in the transaction that stores states and the cursor
    minute.evaluated_ms                          # rows that were stored by then were seen
    for result in minute.results: …              # one for each watch: places, truths; values and messages when asked

    for minute in replay(cursor, watches, since, until, evaluated): …    # the same results, minute by minute

A minute is given by its start T in ms, and evaluated at T + 60 s.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Window, ceil_to, now_ms, subtract
from fademoe.evaluation.blocks import choose_minutes, evaluate_block, fits_blocks, make_block_board
from fademoe.evaluation.board import Board, collect_reads
from fademoe.evaluation.reading import (
    SUPERSEDED,
    Contract,
    Key,
    Version,
    find_newest_correction,
    forget_unseen,
    read_before,
    read_changed,
    read_contracts,
    read_corrections,
    read_covered,
    read_long,
    read_rows,
    read_settled,
    read_uncovered,
    read_unseen,
    read_versions,
    record_late,
    record_unseen,
)
from fademoe.evaluation.tables import FRESH_INTERVALS, PointTable, Reads, SettlementTable
from fademoe.evaluation.watches import Listing, Watch, WatchEvaluator, WatchResult
from fademoe.metrics import ACROSS_CODE

EVALUATED_WITHIN_MS = 90 * SECOND_MS  # after the start of a minute it is evaluated, whatever is missing
RECENT_SETTLEMENTS_MS = 12 * HOUR_MS  # read again every minute
MAX_LATE_MINUTES = 3  # in a row; a series that was late so often is not waited for
LOADED_ROWS = 40_000  # at once, when windows are filled
SETTLEMENT_BACK_MS = 3 * DAY_MS  # beyond the oldest moment: the settlement in force then
UNSEEN_MS = 30 * SECOND_MS  # a minute that was not evaluated live saw what was stored so long after its end
UNSEEN_DAYS = 32  # so long a point that never came is looked for, by replays too
AGAIN = 1_000  # corrections that are looked at again, as a transaction may commit behind a later one

LateRow = tuple[str, str, int]  # source, symbol, ts


@dataclass(frozen=True)
class EvaluatedMinute:
    """A minute: what every watch gave, and what was not there.

    `evaluated_ms`: rows that were stored by then were seen. `late`: series (`bin-ohlcv BTC`) whose rows had not
    come by then. Values and messages of its results are to be read before the next minute is evaluated.
    """

    minute: int
    evaluated_ms: int
    results: tuple[WatchResult, ...]
    late: tuple[str, ...] = ()


class LiveEngine:
    """Evaluates one minute after the other on what is stored. Not for use by two threads.

    After an exception the minute may be evaluated again with the same engine, in a new transaction.
    """

    def __init__(self, watches: Sequence[Watch], seen_ms: int | None = None) -> None:
        """Evaluate `watches`; `seen_ms`: `evaluated_ms` of the minute before the first one, None when it has none."""
        self._watches = tuple(watches)
        self._seen_ms = seen_ms
        self._reads = collect_reads((expression, watch.codes) for watch in watches for expression in watch.readers)
        self._codes = {code for code, _ in self._reads} | {code for watch in watches for code in watch.codes}
        self._board: Board | None = None
        self._evaluator: WatchEvaluator | None = None
        self._contracts: list[Contract] = []
        self._minute = 0
        self._late_rows: list[tuple[str, str, int, int]] = []
        self._late_runs: dict[tuple[str, str], int] = defaultdict(int)
        self._missing: set[tuple[str, str]] = set()
        self._missing_of = 0
        self._correction = 0
        self._applied: set[int] = set()
        self._replaced: dict[LateRow, int] = {}  # live samples that gave way to the history: since when each was known
        self._replaced_at: dict[LateRow, set[int]] = defaultdict(set)  # across exchanges: when samples of it gave way
        self._live_since: dict[tuple[str, str], int] = {}  # (source, symbol) -> first minute that it was read for

    def list_missing(self, cursor: Cursor, minute: int) -> list[tuple[str, str]]:
        """Return the (source, symbol) to wait for: not yet covered up to what is due, and not late all the time."""
        if minute != self._missing_of:
            self._contracts = read_contracts(cursor, self._codes)
            self._missing_of, self._missing = minute, set()
            points = self._list_due(minute)
            wanted = [point for point in points if self._late_runs[point[:2]] < MAX_LATE_MINUTES]
            late = [point for point in points if self._late_runs[point[:2]] >= MAX_LATE_MINUTES]
            self._missing = set(read_uncovered(cursor, wanted))
            self._note_covered(cursor, late)
        elif self._missing:
            due = {point[:2]: point for point in self._list_due(minute)}
            self._missing = set(read_uncovered(cursor, [due[s] for s in self._missing if s in due]))
        return sorted(self._missing)

    def note_recovered(self, cursor: Cursor, minute: int) -> None:
        """Wait again for series that were late all the time and have what is due at the end of `minute` by now.

        Call it EVALUATED_WITHIN_MS after the begin of a minute that was evaluated: a row on time comes seconds after
        its minute, and no minute has waited for it.
        """
        if any(run >= MAX_LATE_MINUTES for run in self._late_runs.values()):
            self._note_covered(
                cursor, [p for p in self._list_due(minute) if self._late_runs[p[:2]] >= MAX_LATE_MINUTES]
            )

    def _note_covered(self, cursor: Cursor, late: Sequence[tuple[str, str, int]]) -> None:
        """Count the series of `late` as on time again where the point is covered."""
        for series in {point[:2] for point in late} - set(read_uncovered(cursor, late)):
            self._late_runs[series] = 0

    def _list_due(self, minute: int) -> list[tuple[str, str, int]]:
        board = self._board or Board(self._reads.values(), minute + MINUTE_MS)
        symbols = self._list_symbols(minute)
        points = []
        for table in board.tables:
            if isinstance(table, PointTable):
                due_ms = table.find_due(minute + MINUTE_MS)
            else:
                due_ms = minute + MINUTE_MS - table.lag_ms - 1
            points += [(table.source, symbol, due_ms) for symbol in symbols.get(table.reads.code, ())]
        return points

    def _list_symbols(self, minute: int) -> dict[str, list[str]]:
        """Return the symbols of any watch that are listed, by code."""
        all_symbols = any(watch.symbols is None for watch in self._watches)
        chosen = None if all_symbols else {s for watch in self._watches for s in watch.symbols or ()}
        found: dict[str, dict[str, None]] = defaultdict(dict)
        for contract in self._contracts:
            if contract.is_listed(minute) and contract.is_followed and (chosen is None or contract.symbol in chosen):
                found[contract.code][contract.symbol] = None
                found[ACROSS_CODE][contract.symbol] = None
        return {code: list(symbols) for code, symbols in found.items()}

    def evaluate(self, cursor: Cursor, minute: int) -> EvaluatedMinute:
        """Read what is new, evaluate all watches at the end of `minute`, and record the rows that came late.

        Minutes are evaluated in order, none is left out; the same one may be evaluated again.
        """
        moment_ms = minute + MINUTE_MS
        missing = self.list_missing(cursor, minute)
        self._contracts = read_contracts(cursor, self._codes)
        if self._board is None or self._evaluator is None:
            self._board = Board(self._reads.values(), minute)
            self._evaluator = WatchEvaluator(self._watches, self._board)
            self._start(cursor, minute)
        if minute != self._minute:
            self._evaluator.remember(self._contracts)
            self._board.move_to(moment_ms)
            self._late_rows = []
        self._add_symbols(cursor, minute)
        self._minute = minute
        changed = self._read_corrected(cursor)
        found = [row for table in self._board.tables for row in self._read_new(cursor, table, minute)]
        evaluated_ms = now_ms()
        self._late_rows += [(*row, evaluated_ms) for row in (*found, *changed)]
        record_late(cursor, self._late_rows)
        self._record_unseen(cursor, minute)
        self._seen_ms = evaluated_ms
        for series in missing:
            self._late_runs[series] += 1
        for series in [
            series for series, run in self._late_runs.items() if run < MAX_LATE_MINUTES and series not in missing
        ]:
            self._late_runs[series] = 0
        late = tuple(f"{source} {symbol}" for source, symbol in missing)
        return EvaluatedMinute(minute, evaluated_ms, self._evaluator.evaluate(self._contracts), late)

    def _record_unseen(self, cursor: Cursor, minute: int) -> None:
        """Record the points that were due in this minute and are not there."""
        points = []
        for table in self._require_board().points.values():
            before, due = table.find_due(minute), table.find_due(minute + MINUTE_MS)
            points += [(table.source, symbol, ts) for symbol, ts in table.list_missing(before, due)]
        record_unseen(cursor, points)
        if minute % HOUR_MS == 0:
            forget_unseen(cursor, minute - UNSEEN_DAYS * DAY_MS)

    def _start(self, cursor: Cursor, minute: int) -> None:
        """Fill the board with what was known at the end of the minute before, as it was seen then."""
        board = self._require_board()
        by_input = board.list_by_input()
        self._correction = find_newest_correction(cursor)
        first_ms = min((table.base_ms for table in board.points.values()), default=minute)
        for number, source, symbol, ts, reason, old_interval, at_ms in read_corrections(
            cursor, list(by_input), self._correction - 10 * AGAIN
        ):
            if reason == SUPERSEDED and old_interval and ts >= first_ms:
                self._note_replaced(by_input[source], symbol, ts, old_interval, at_ms)
            if self._seen_ms is None or at_ms <= self._seen_ms:
                self._applied.add(number)
        self._minute = minute - MINUTE_MS
        self._add_symbols(cursor, minute, *range(minute - find_back_ms(self._watches), minute, MINUTE_MS))

    def _note_replaced(
        self, tables: Sequence[PointTable | SettlementTable], symbol: str, ts: int, old_interval: str, at_ms: int
    ) -> None:
        """Note since when the rows were known that a live sample of an input was a part of.

        Across exchanges the sample does not tell: it was one of several rows.
        """
        for table in tables:
            key = (table.source, symbol, ts)
            if table.is_across:
                self._replaced_at[key].add(at_ms)
                continue
            known_ms = table.lags.compute_known_ms(ts, old_interval)
            self._replaced[key] = min(known_ms, self._replaced.get(key, known_ms))

    def _note_across(self, cursor: Cursor, table: PointTable | SettlementTable, rows: Iterable[Key]) -> None:
        """Note since when rows across exchanges were known, as they were before samples of them gave way."""
        keys = [(table.source, symbol, ts) for symbol, ts in rows]
        wanted = [(*key[1:], at_ms) for key in keys for at_ms in self._replaced_at.get(key, ())]
        for row in read_before(cursor, table, wanted).values():
            key = (table.source, row.symbol, row.ts)
            known_ms = table.lags.compute_known_ms(row.ts, row.interval)
            self._replaced[key] = min(known_ms, self._replaced.get(key, known_ms))
        for key in keys:
            self._replaced_at.pop(key, None)

    def _require_board(self) -> Board:
        if self._board is None:
            raise RuntimeError("the engine has no board yet")
        return self._board

    def _add_symbols(self, cursor: Cursor, minute: int, *earlier: int) -> None:
        """Add the symbols that are listed in any of the minutes, with what was known at the end of the one before."""
        board, seen_ms = self._require_board(), self._seen_ms
        symbols: dict[str, dict[str, None]] = defaultdict(dict)
        for one in (minute, *earlier):
            for code, listed in self._list_symbols(one).items():
                symbols[code] |= dict.fromkeys(listed)
        before_ms = minute  # the end of the minute before
        for table in board.tables:
            added = table.add_symbols(symbols.get(table.reads.code, ()))
            for symbol in added:
                self._live_since[table.source, symbol] = minute if seen_ms is None else minute - MINUTE_MS
            fill(cursor, table, added, before_ms, seen_ms)

    def _read_new(self, cursor: Cursor, table: PointTable | SettlementTable, minute: int) -> list[LateRow]:
        """Enter the rows that are known at the end of a minute and not on the board; return those that came late."""
        moment_ms = minute + MINUTE_MS
        holes: dict[str, Window] = {}
        if isinstance(table, SettlementTable):
            wanted = self._plan_settlements(cursor, table, moment_ms)
        else:
            wanted, holes = plan_points(table, moment_ms)
        late: list[LateRow] = []
        covered: dict[str, list[Window]] = {}
        if isinstance(table, PointTable) and table.zero_when_empty:
            due_end_ms = table.find_due(moment_ms) + table.grid_ms
            ranges = {symbol: Window(window.start_ms, due_end_ms) for symbol, window in (wanted | holes).items()}
            covered = read_covered(cursor, table, ranges)  # before the rows: what it covers, the next statement sees
        found = [*read_rows(cursor, table, wanted), *read_rows(cursor, table, holes)]
        new = {(row.symbol, row.ts): row for row in found if not table.has(row.symbol, row.ts)}
        self._note_across(cursor, table, new)
        for row in new.values():
            known_ms = table.lags.compute_known_ms(row.ts, row.interval)
            known_ms = min(known_ms, self._replaced.get((table.source, row.symbol, row.ts), known_ms))
            if known_ms <= moment_ms:
                table.put(row.symbol, row.ts, row.values)
                late += self._find_late(table, row.symbol, row.ts, known_ms, minute)
        if isinstance(table, PointTable):
            for symbol, windows in covered.items():
                for ts in table.put_zeroes(symbol, windows):
                    late += self._find_late(table, symbol, ts, table.lags.compute_known_ms(ts, ""), minute)
        return late

    def _plan_settlements(self, cursor: Cursor, table: SettlementTable, moment_ms: int) -> dict[str, Window]:
        """Return which settlements to read: the newest, and all where more is covered than before."""
        recent_ms = moment_ms - RECENT_SETTLEMENTS_MS
        wanted = dict.fromkeys(table.symbols, Window(recent_ms, moment_ms + 1))
        if table.reads.is_strict:
            first_ms = moment_ms - table.reads.back_ms - table.lag_ms
            before = {symbol: list(table.covered[row]) for symbol, row in table.rows.items()}
            read_settled(cursor, table, dict.fromkeys(table.symbols, Window(first_ms, moment_ms)))
            for symbol, row in table.rows.items():
                if any(w.start_ms < recent_ms for w in subtract_all(table.covered[row], before[symbol])):
                    wanted[symbol] = Window(first_ms, moment_ms + 1)
        return wanted

    def _find_late(
        self, table: PointTable | SettlementTable, symbol: str, ts: int, known_ms: int, minute: int
    ) -> list[LateRow]:
        """Return the row when a minute that was evaluated before should have read it."""
        expected = max(ceil_to(known_ms - MINUTE_MS, MINUTE_MS), self._live_since[table.source, symbol])
        return [(table.source, symbol, ts)] if expected < minute else []

    def _read_corrected(self, cursor: Cursor) -> list[LateRow]:
        """Enter rows that were changed since the minute before; return those that should have been seen there.

        What is computed from a changed row has changed too; then the row itself is what should have been seen.
        """
        board = self._require_board()
        tables = {table.source: table for table in board.tables}
        by_input = board.list_by_input()
        changed: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        late: list[LateRow] = []
        after = self._correction - AGAIN
        for number, source, symbol, ts, reason, old_interval, at_ms in read_corrections(cursor, list(by_input), after):
            if number in self._applied:
                continue
            self._applied.add(number)
            self._correction = max(self._correction, number)
            if reason == SUPERSEDED and old_interval:
                self._note_replaced(by_input[source], symbol, ts, old_interval, at_ms)
            for table in by_input[source]:
                if symbol not in table.rows:
                    continue
                affected = table.list_affected(ts, table.find_following(symbol, ts))
                held = [own_ts for own_ts in affected if table.holds(symbol, own_ts)]
                changed[table.source][symbol].update(held)
                if held and self._seen_ms is not None and at_ms <= self._seen_ms:
                    late.append((source, symbol, ts))
        for source, times in changed.items():
            wanted = {symbol: Window(min(found), max(found) + 1) for symbol, found in times.items() if found}
            for row in read_rows(cursor, tables[source], wanted):
                if row.ts in times[row.symbol]:
                    tables[source].put(row.symbol, row.ts, row.values)
        oldest_ms = board.moment_ms - DAY_MS
        self._replaced = {key: known for key, known in self._replaced.items() if key[2] > oldest_ms}
        for key in [key for key in self._replaced_at if key[2] <= oldest_ms]:
            del self._replaced_at[key]
        self._applied = {number for number in self._applied if number > self._correction - 2 * AGAIN}
        return late


def plan_points(table: PointTable, moment_ms: int) -> tuple[dict[str, Window], dict[str, Window]]:
    """Return which rows to read of each symbol: the newest ones, and from the first to the last hole before them."""
    newest = table.find_newest(moment_ms)
    overlap_ms = table.lags.slowest.lag_ms - table.lags.fastest.lag_ms + 2 * table.grid_ms
    if table.is_sample and table.reads.is_bare:
        newest = moment_ms - table.lags.fastest.lag_ms
        overlap_ms = max(overlap_ms, FRESH_INTERVALS * table.grid_ms)
    begin_ms = newest - overlap_ms
    return dict.fromkeys(table.symbols, Window(begin_ms, newest + 1)), table.find_holes(begin_ms)


def subtract_all(windows: Sequence[Window], taken: Sequence[Window]) -> list[Window]:
    """Return the parts of windows that are not in `taken`."""
    return [piece for window in windows for piece in subtract(window, taken)]


def fill(
    cursor: Cursor,
    table: PointTable | SettlementTable,
    symbols: Sequence[str],
    moment_ms: int,
    seen_ms: int | None,
) -> None:
    """Enter what was known of symbols at a moment, as it was seen by `seen_ms` (None: whatever is stored)."""
    if isinstance(table, SettlementTable):
        window = Window(moment_ms - table.reads.back_ms - SETTLEMENT_BACK_MS, moment_ms + 1)
        read_settled(cursor, table, dict.fromkeys(symbols, Window(window.start_ms, moment_ms)))
        _fill_one_by_one(cursor, table, dict.fromkeys(symbols, window), moment_ms, seen_ms)
        return
    # before this time all rows are known, whatever feed brought them, and no sample is fresh
    settled_ms = moment_ms - max(
        table.lags.slowest.lag_ms + table.lags.slowest.span_ms, (FRESH_INTERVALS + 1) * table.grid_ms
    )
    at_once = max(1, LOADED_ROWS * table.grid_ms // (table.capacity * table.grid_ms))
    for begin in range(0, len(symbols), at_once):
        some = symbols[begin : begin + at_once]
        old, new = Window(table.base_ms, settled_ms), Window(settled_ms, moment_ms + 1)
        wanted = dict.fromkeys(some, new)
        if old.start_ms < old.end_ms:
            is_sparse = table.zero_when_empty
            covered = read_covered(cursor, table, dict.fromkeys(some, old)) if is_sparse else {}  # before the rows
            left = read_long(cursor, table, dict.fromkeys(some, old))
            wanted |= {symbol: Window(old.start_ms, new.end_ms) for symbol in left}
            for symbol, windows in covered.items():
                table.put_zeroes(symbol, windows)
            if seen_ms is not None:
                for symbol, window in read_changed(cursor, table, some, old, seen_ms).items():
                    wanted[symbol] = Window(min(window.start_ms, wanted[symbol].start_ms), new.end_ms)
        _fill_one_by_one(cursor, table, wanted, moment_ms, seen_ms)
    if seen_ms is not None:
        for symbol, ts in read_unseen(cursor, table):
            table.note_missed(symbol, ts)


def _fill_one_by_one(
    cursor: Cursor,
    table: PointTable | SettlementTable,
    wanted: Mapping[str, Window],
    moment_ms: int,
    seen_ms: int | None,
) -> None:
    """Enter the rows of the range of each symbol as they were seen; take out what was not."""
    for window, group in groupby(sorted(wanted, key=lambda symbol: wanted[symbol]), key=lambda symbol: wanted[symbol]):
        for version in read_versions(cursor, table, list(group), window):
            is_seen = version.known_ms <= moment_ms and (seen_ms is None or version.seen_ms <= seen_ms)
            if is_seen and version.values is not None:
                table.put(version.symbol, version.ts, version.values)
            elif isinstance(table, PointTable) and version.is_first:
                table.erase(version.symbol, version.ts)


def replay(
    cursor: Cursor,
    watches: Sequence[Watch],
    since: int,
    until: int,
    evaluated: Mapping[int, int],
    *,
    knows_all: bool = False,
) -> Iterator[EvaluatedMinute]:
    """Evaluate the minutes since <= T < until, oldest first, with what live evaluation saw.

    `evaluated` maps the minutes that live evaluation has done to their `evaluated_ms`; in all others, and in all with
    `knows_all`, whatever is stored by now counts, as soon as it is known by its lag.
    """
    begin = since
    while begin < until:
        end = begin + MINUTE_MS
        is_live = begin in evaluated
        while end < until and (knows_all or (end in evaluated) == is_live):
            end += MINUTE_MS
        yield from _replay_run(cursor, watches, begin, end, {} if knows_all else evaluated)
        begin = end


def _replay_run(
    cursor: Cursor, watches: Sequence[Watch], since: int, until: int, evaluated: Mapping[int, int]
) -> Iterator[EvaluatedMinute]:
    """Evaluate minutes all of which live evaluation has done, or none of them."""
    reads = collect_reads((expression, watch.codes) for watch in watches for expression in watch.readers)
    codes = {code for code, _ in reads} | {code for watch in watches for code in watch.codes}
    contracts = read_contracts(cursor, codes)
    if all(watch.symbols is not None for watch in watches):
        chosen = {symbol for watch in watches for symbol in watch.symbols or ()}
        contracts = [contract for contract in contracts if contract.symbol in chosen]
    window = Window(since, until)
    if since not in evaluated and fits_blocks(watches, reads.values()):
        yield from _replay_blocks(cursor, watches, reads, contracts, window)
    else:
        yield from _replay_minutes(cursor, watches, reads, contracts, window, evaluated)


def find_back_ms(watches: Iterable[Watch]) -> int:
    """Return how far before a minute crossings look, and so at contracts that may have ended since."""
    minutes = (one.needs.minutes_back for watch in watches for one in watch.readers)
    return max(minutes, default=0) * MINUTE_MS


def _replay_minutes(
    cursor: Cursor,
    watches: Sequence[Watch],
    reads: Mapping[tuple[str, str], Reads],
    contracts: Sequence[Contract],
    span: Window,
    evaluated: Mapping[int, int],
) -> Iterator[EvaluatedMinute]:
    """Evaluate minutes one after the other."""
    since, until = span.start_ms, span.end_ms
    board = Board(reads.values(), since)
    evaluator = WatchEvaluator(watches, board)
    seen = dict(evaluated)
    if since in seen:
        seen.setdefault(since - MINUTE_MS, seen[since])
    else:
        seen.pop(since - MINUTE_MS, None)
    pending: dict[int, list[tuple[PointTable | SettlementTable, Version]]] = defaultdict(list)
    symbols = _list_replayed(watches, contracts, since - find_back_ms(watches), until)
    for table in board.tables:
        own = symbols.get(table.reads.code, [])
        table.add_symbols(own)
        if isinstance(table, SettlementTable):
            first_ms = since - table.reads.back_ms - SETTLEMENT_BACK_MS
            read_settled(cursor, table, dict.fromkeys(own, Window(first_ms, until + MINUTE_MS)))
        else:
            first_ms = min(table.base_ms, since - FRESH_INTERVALS * table.grid_ms)
        _schedule(cursor, table, own, Window(first_ms, since), since - MINUTE_MS, until, seen, pending)
    _enter(pending, since - MINUTE_MS)
    for minute in range(since, until, MINUTE_MS):
        if minute == since or minute % DAY_MS == 0:
            end_ms = min(minute - minute % DAY_MS + DAY_MS, until) + MINUTE_MS
            begin_ms = minute + (MINUTE_MS if minute % DAY_MS == 0 and minute != since else 0)
            for table in board.tables:
                window = Window(begin_ms if begin_ms > since else since, end_ms)
                own = symbols.get(table.reads.code, [])
                _schedule(cursor, table, own, window, since - MINUTE_MS, until, seen, pending)
        evaluator.remember(contracts)
        board.move_to(minute + MINUTE_MS)
        _enter(pending, minute)
        seen_ms = evaluated.get(minute, minute + MINUTE_MS + UNSEEN_MS)
        yield EvaluatedMinute(minute, seen_ms, evaluator.evaluate(contracts))


def _replay_blocks(
    cursor: Cursor,
    watches: Sequence[Watch],
    reads: Mapping[tuple[str, str], Reads],
    contracts: Sequence[Contract],
    window: Window,
) -> Iterator[EvaluatedMinute]:
    """Evaluate minutes that live evaluation has not done, many at once.

    A crossing looks at the minute before, in which something else may have been listed: such minutes are evaluated one
    by one.
    """
    back_ms = find_back_ms(watches)
    begin = window.start_ms
    while begin < window.end_ms:
        listing = Listing(contracts, begin)
        end = min(window.end_ms, listing.until or window.end_ms)
        if listing.since is not None and begin < listing.since + back_ms:
            end = min(end, listing.since + back_ms)
            yield from _replay_minutes(cursor, watches, reads, contracts, Window(begin, end), {})
            begin = end
            continue
        symbols = _list_replayed(watches, contracts, begin, end)
        end = min(end, begin + choose_minutes(watches, max(map(len, symbols.values()), default=1)) * MINUTE_MS)
        board = make_block_board(reads.values(), begin, end)
        for table in board.tables:
            own = table.add_symbols(symbols.get(table.reads.code, ()))
            fill(cursor, table, own, end, None)
        for minute, results in evaluate_block(watches, board, contracts, begin):
            yield EvaluatedMinute(minute, minute + MINUTE_MS + UNSEEN_MS, results)
        begin = end


def _list_replayed(
    watches: Sequence[Watch], contracts: Sequence[Contract], since: int, until: int
) -> dict[str, list[str]]:
    """Return the symbols by code that any watch may read within a range."""
    chosen = None
    if all(watch.symbols is not None for watch in watches):
        chosen = {symbol for watch in watches for symbol in watch.symbols or ()}
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for contract in contracts:
        begins, ends = contract.listed_ms or 0, contract.delisted_ms
        is_alive = begins < until and (ends is None or ends > since)
        if is_alive and contract.is_followed and (chosen is None or contract.symbol in chosen):
            found[contract.code][contract.symbol] = None
            found[ACROSS_CODE][contract.symbol] = None
    return {code: list(symbols) for code, symbols in found.items()}


def _schedule(
    cursor: Cursor,
    table: PointTable | SettlementTable,
    symbols: Sequence[str],
    window: Window,
    first: int,
    until: int,
    seen: Mapping[int, int],
    pending: dict[int, list[tuple[PointTable | SettlementTable, Version]]],
) -> None:
    """Read the rows of a window and enter each version in `pending` under the minute from which it is seen."""
    at_once = max(1, LOADED_ROWS * MINUTE_MS // (window.end_ms - window.start_ms))
    for begin in range(0, len(symbols), at_once):
        versions = read_versions(cursor, table, symbols[begin : begin + at_once], window)
        for index, version in enumerate(versions):
            if isinstance(table, SettlementTable):
                table.expect(version.symbol, version.ts)
            minute = find_seen(version, first, until, seen)
            after = versions[index + 1] if index + 1 < len(versions) else None
            if after and after[:2] == version[:2] and find_seen(after, first, until, seen) <= minute:
                continue  # another version had taken its place by then
            if minute < until:
                pending[minute].append((table, version))


def find_seen(version: Version, first: int, until: int, seen: Mapping[int, int]) -> int:
    """Return the first minute, from `first` on, that sees a version of a row; `until` where none does.

    A minute that was not evaluated live sees everything that is stored, except that a row of the history takes the
    place of a live sample for it when it did.
    """
    minute = max(ceil_to(version.known_ms - MINUTE_MS, MINUTE_MS), first)
    while minute < until:
        unseen_ms = minute + MINUTE_MS + UNSEEN_MS if version.is_sample_replaced else version.seen_ms
        if version.seen_ms <= seen.get(minute, unseen_ms):
            return minute
        minute += MINUTE_MS
    return until


def _enter(pending: dict[int, list[tuple[PointTable | SettlementTable, Version]]], minute: int) -> None:
    for table, version in pending.pop(minute, ()):
        if version.values is not None:
            table.put(version.symbol, version.ts, version.values)
