"""A sweep as several jobs: its rows in one Arrow file that all of them map, and its sets in chunks.

The first job runs the two ends of the grid and writes what they read; the others run the rest over that file. What
only others read, or a host without the file, comes from the database.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from psycopg2.extensions import cursor as Cursor

from fademoe.account.market import Terms, Tier
from fademoe.backtest.database import DatabaseLoader, OtherLives, Progress, prepare, write_sweep
from fademoe.backtest.market import Loader
from fademoe.backtest.plan import Plan
from fademoe.backtest.run import Cancelled
from fademoe.backtest.sweep import (
    CachedLoader,
    Ground,
    SweepRequest,
    Trial,
    choose_best,
    describe_folds,
    describe_trials,
    find_look_back,
    join_folds,
    read_grid,
    run_sets,
    split_folds,
)
from fademoe.clock import Window
from fademoe.errors import FadeMoeError
from fademoe.store import backtests
from fademoe.store.backtests import Chunk
from fademoe.store.connection import Database
from fademoe.store.coverage import Series
from fademoe.store.read.market import Known
from fademoe.store.read.snapshot import take_snapshot

FOLDER = "sweeps"  # under FADEMOE_HOME: a folder for each sweep that goes on
ENDS = 2  # sets of the first chunk
SETS_LEAST = 4  # in each of the others
CHUNKS_MOST = 32
SCHEMA = pa.schema([("key", pa.string()), ("lines", pa.large_binary())])

Say = Callable[[float], None]


def count_chunks(sets: int) -> int:
    """Return in how many chunks the sets of a sweep are run; 1: in one job."""
    others = min(CHUNKS_MOST, -(-(sets - ENDS) // SETS_LEAST))
    return others + 1 if others > 1 else 1


def list_places(sets: int, number: int) -> list[int]:
    """Return which sets a chunk runs: the first one the ends of the grid, each other one every n-th."""
    return [0, sets - 1] if number == 0 else list(range(number, sets - 1, count_chunks(sets) - 1))


def write_rows(folder: Path, ground: Ground, loader: CachedLoader) -> str:
    """Write what was read to a file that is named by its hash; return the hash. Raises FadeMoeError."""
    lags = {source: dict(by_interval) for source, by_interval in ground.lags.items()}
    lives = {symbol: [list(life) for life in each] for symbol, each in ground.lives.items()}
    terms = {symbol: [[ts, _write_terms(one)] for ts, one in each] for symbol, each in ground.terms.items()}
    known = [[*series, *each] for series, each in sorted(loader.known.items())]
    shared = {"lags": lags, "lives": lives, "terms": terms, "known": known, "back": ground.back}
    head = json.dumps(shared, sort_keys=True).encode()
    rows = {json.dumps(key): lines for key, lines in sorted(loader.lines.items())}
    digest = hashlib.sha256(head)
    for key, lines in rows.items():
        digest.update(f"\n{key} {len(lines)}\n".encode())
        digest.update(lines)
    data = digest.hexdigest()
    try:
        _write_file(folder / f"{data}.arrow", head, rows)
    except OSError as error:
        raise FadeMoeError(f"the rows of the sweep cannot be written: {error}") from error
    return data


def _write_file(path: Path, head: bytes, rows: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, SCHEMA.with_metadata({"ground": head})) as writer:
        for key, lines in rows.items():
            writer.write_batch(pa.record_batch([pa.array([key]), pa.array([lines], pa.large_binary())], schema=SCHEMA))
    part.replace(path)


class MappedLoader:
    """Rows of a file that `write_rows` wrote, mapped into memory; those that it lacks are read by another loader."""

    def __init__(self, reader: pa.RecordBatchFileReader, known: dict[Series, Known], other: Loader) -> None:
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self._lines = {batch["key"][0].as_py(): batch["lines"][0] for batch in batches}
        self._known = known
        self._other = other

    def read(self, series: Series, metric: str, window: Window, *, timed: bool = False) -> bytes:
        lines = self._lines.get(json.dumps((series, metric, window, timed)))
        return self._other.read(series, metric, window, timed=timed) if lines is None else lines.as_py()

    def read_known(self, series: Series) -> Known:
        return self._known[series] if series in self._known else self._other.read_known(series)


def open_rows(path: Path, other: Loader, all_lives: Mapping[tuple[str, str], Sequence[Window]]) -> Ground:
    """Return what the file at `path` holds; rows that it lacks are read by `other`, and kept."""
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    head = json.loads(reader.schema.metadata[b"ground"])
    known = {
        Series(source, symbol): Known(tuple(Window(*each) for each in covered), tuple(Window(*each) for each in absent))
        for source, symbol, covered, absent in head["known"]
    }
    return Ground(
        loader=MappedLoader(reader, known, CachedLoader(other)),
        lags=head["lags"],
        all_lives=all_lives,
        lives={symbol: tuple(Window(*life) for life in each) for symbol, each in head["lives"].items()},
        terms={symbol: [(ts, _read_terms(one)) for ts, one in each] for symbol, each in head["terms"].items()},
        back=head["back"],
    )


def _write_terms(terms: Terms) -> dict[str, Any]:
    tiers = [[None if tier.bound is None else str(tier.bound), str(tier.rate)] for tier in terms.tiers]
    return vars(terms) | {"lot": str(terms.lot), "min_notional": str(terms.min_notional), "tiers": tiers}


def _read_terms(stored: dict[str, Any]) -> Terms:
    return Terms(
        lot=Decimal(stored["lot"]),
        min_notional=Decimal(stored["min_notional"]),
        tiers=tuple(Tier(None if bound is None else Decimal(bound), Decimal(rate)) for bound, rate in stored["tiers"]),
        tiers_in_coins=stored["tiers_in_coins"],
        assumed=tuple(stored["assumed"]),
    )


class Sweep:
    """A sweep, or walking forward, that several jobs do; each makes its own.

    `home` is FADEMOE_HOME; `reading` is another connection, whose transaction stays open for the job. What the methods
    raise is as of `sweep_and_store`; a failure is for the caller to store.
    """

    def __init__(self, database: Database, reading: Database, home: Path, run_id: str, stored: dict[str, Any]) -> None:
        self._database = database
        self._reading = reading
        self._folder = home / FOLDER / run_id
        self._run_id = run_id
        self._plan = Plan.from_json(stored)
        self._request = SweepRequest.from_json(stored["sweep"])
        self._sets = read_grid(self._plan, self._request.grid)
        self.chunks = count_chunks(len(self._sets))
        self._folds = split_folds(self._plan, *self._request.folds_ms) if self._request.folds_ms else []

    def begin(self, say: Say) -> str:
        """Run the first chunk and write what it read; return the hash of the rows."""
        body, chunks = write_sweep(self._plan, self._request), self.chunks
        self._database.run(lambda cursor: backtests.begin(cursor, self._run_id, body))
        progress = Progress(
            self._database,
            lambda cursor, share: backtests.report_progress(cursor, self._run_id, share / (chunks + 1)),
            say,
        )
        with closing(self._reading), self._reading.open_transaction() as cursor:
            ground = prepare(cursor, self._plan)
            loader = CachedLoader(ground.loader)
            ground = replace(ground, loader=loader, back=find_look_back(self._plan, self._sets))
            trials = self._run(0, ground, progress)
            for _, test in self._folds:
                run_sets(test, self._sets[:1], ground)  # for the rows that it reads
            data = write_rows(self._folder, ground, loader)
        self._store(data, 0, trials)
        return data

    def run_chunk(self, data: str, number: int, say: Say) -> bool:
        """Run a chunk unless that was done before; return whether all chunks are in."""
        if number not in self._list_stored(data):
            progress = self._follow(data, number, say)
            with closing(self._reading), self._reading.open_transaction() as cursor:
                trials = self._run(number, self._open(cursor, data), progress)
            self._store(data, number, trials)
        return len(self._list_stored(data)) == self.chunks

    def finish(self, data: str, say: Say) -> None:
        """Choose the best of all chunks, and store the report."""
        progress = self._follow(data, self.chunks, say)
        with self._database.open_transaction() as cursor:
            found = backtests.read_chunks(cursor, self._run_id, data)
        trials: list[list[Trial]] = [[] for _ in self._list_ranges()]
        at = {place: (number, n) for number, _ in found for n, place in enumerate(list_places(len(self._sets), number))}
        texts = {number: json.loads(text) for number, text in found}
        for place, params in enumerate(self._sets):
            number, n = at[place]
            for part, of_part in zip(trials, texts[number], strict=True):
                part.append(Trial(params=params, **of_part[n]))
        with closing(self._reading), self._reading.open_transaction() as cursor:
            ground = self._open(cursor, data)
            if self._folds:
                folds = join_folds(self._plan, self._folds, trials, ground, progress)
                report = describe_folds(self._plan, folds, len(self._sets))
            else:
                report = describe_trials(choose_best(self._plan, trials[0], ground, self._request.best, progress))
        stored = self._database.run(
            lambda cursor: backtests.finish(
                cursor, self._run_id, certified=False, certificate="{}", report=report, unknown=[]
            )
        )
        if not stored:
            raise Cancelled("the sweep was cancelled")

    def _list_ranges(self) -> list[Plan]:
        """Return the plans of the ranges over which all sets are run."""
        return [train for train, _ in self._folds] or [self._plan]

    def _run(self, number: int, ground: Ground, progress: Callable[[float], bool]) -> str:
        """Run the sets of a chunk, over each training range when it walks forward; return the trials as JSON."""
        sets = [self._sets[place] for place in list_places(len(self._sets), number)]
        plans = self._list_ranges()
        trials = [
            run_sets(plan, sets, ground, lambda share, done=done: progress((done + share) / len(plans)))  # type: ignore[misc]
            for done, plan in enumerate(plans)
        ]
        return json.dumps([_write_trials(each, self._request.best) for each in trials])

    def _open(self, cursor: Cursor, data: str) -> Ground:
        """Return what the runs read: from the file, on a host without it from the database."""
        path = self._folder / f"{data}.arrow"
        if path.exists():
            take_snapshot(cursor)
            return open_rows(path, DatabaseLoader(cursor, self._plan.as_of), OtherLives(cursor))
        ground = prepare(cursor, self._plan)
        back = find_look_back(self._plan, self._sets)
        return replace(ground, loader=CachedLoader(ground.loader), back=back)

    def _follow(self, data: str, number: int, say: Say) -> Progress:
        chunk = Chunk(self._run_id, data, number, self.chunks + 1)
        return Progress(self._database, lambda cursor, share: backtests.report_chunk(cursor, chunk, share), say)

    def _store(self, data: str, number: int, trials: str) -> None:
        chunk = Chunk(self._run_id, data, number, self.chunks + 1)
        if not self._database.run(lambda cursor: backtests.add_chunk(cursor, chunk, trials)):
            raise Cancelled("the sweep was cancelled")

    def _list_stored(self, data: str) -> set[int]:
        with self._database.open_transaction() as cursor:
            return backtests.list_chunks(cursor, self._run_id, data)


def _write_trials(trials: Sequence[Trial], best: int) -> list[dict[str, Any]]:
    """Return trials without their params; daily returns only of those that can become the best of the sweep."""
    kept = sorted(range(len(trials)), key=lambda place: -trials[place].profit)[: best + 1]
    return [
        {
            name: [] if name == "daily" and place not in kept else value
            for name, value in vars(trial).items()
            if name != "params"
        }
        for place, trial in enumerate(trials)
    ]


def remove_ended(database: Database, home: Path) -> None:
    """Delete the rows and chunks that sweeps which have ended left behind."""
    folders = list((home / FOLDER).glob("*"))  # before it is asked which sweeps go on: none begins in between
    going = database.run(backtests.forget_chunks)
    for folder in folders:
        if folder.name not in going:
            shutil.rmtree(folder, ignore_errors=True)
