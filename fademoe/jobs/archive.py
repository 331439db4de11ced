"""The job of an archive's period: fetch its files, prove them, store what is missing of them with its coverage.

A period is a calendar month of the archive, of one dataset of one contract. Where a month's file is short or not there,
the days' files are taken; what is missing then is left to REST, or absent where REST does not reach. A file never
overwrites a row: values that are stored otherwise are audited.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor
from rq import Retry

from fademoe.archives.labels import Form, Label, decide_label
from fademoe.archives.reading import FileRows, describe, find_holes, read_file
from fademoe.client.archive import Download, Mismatch, RefusedFile
from fademoe.clock import DAY_MS, MINUTE_MS, Window, ceil_to, floor_to, merge, now_ms, subtract, to_iso
from fademoe.errors import BadPayload, Refused, RetryLater
from fademoe.feeds import registry
from fademoe.feeds.archive import Archive, ArchiveFile, BadFile, Dataset
from fademoe.feeds.blocks import Block, Times, make_block, pack_rows
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.paging import compute_requested_from_ms
from fademoe.jobs.failures import run_job
from fademoe.jobs.fetch import find_overdue
from fademoe.jobs.linking import link_following
from fademoe.jobs.threads import run_in_threads
from fademoe.metrics import name_perpspec
from fademoe.queue.enqueue import enqueue_audits
from fademoe.queue.ids import Task
from fademoe.runtime.job_context import JobContext, wrap_job
from fademoe.store import corrections, coverage, files
from fademoe.store import instruments as instrument_store
from fademoe.store.arrivals import Origin, Way
from fademoe.store.coverage import DELISTED, Absence, Covered, Series
from fademoe.store.files import FileRecord, FileState
from fademoe.store.status import State, Tracked
from fademoe.store.writer import store_block, store_rows

log = logging.getLogger(__name__)

CONNECTIONS = 4  # of one worker; two workers make the eight that are seen to work
TRIES = 3  # a minute apart, then a file that is broken or does not fit its checksum is put into quarantine
BAD_FILE_S = 60.0
REFUSALS = 10  # of one file, then the others are asked for without it: where those are answered, it is in quarantine
SMALL_HOLE = 0.05  # of a day: REST answers for so little with one request, a file would be no better
NOT_IN_ARCHIVE = "not in archive, not in REST"
CONFLICT = "archive conflict: two files differ"
CLOSES = 0.95  # of a day: where fewer of its closes are stored, those of the archive are read
AWAITED_S = 6 * 3600.0  # until a file that may still come is asked for again
NAMED_LINES = 5  # unreadable lines of a file that are recorded
BAD_TRIES = "bad_file_tries"  # key of Job.meta


@dataclass(frozen=True, kw_only=True)
class Target:
    """What one job works on: a dataset of a contract, a period of it, and what of it is missing, by metric."""

    context: JobContext
    exchange: Exchange
    archive: Archive
    dataset: Dataset
    code: str
    instrument: Instrument
    period: Window
    gaps: Mapping[str, Sequence[Window]]
    time_ms: int
    unit: Tracked
    names: Sequence[str]  # under which the archive may have the contract
    is_unlisted: bool = False  # the exchange's list does not have this life any more: REST does not answer for it

    def list_month_files(self) -> list[ArchiveFile]:
        """Return the files that the period may lie in as a whole."""
        return [file for name in self.names for file in self.dataset.list_month_files(name, self.period)]

    def list_day_files(self, day: Window) -> list[ArchiveFile]:
        """Return the files that a day may lie in."""
        return [file for name in self.names for file in self.dataset.list_day_files(name, day)]

    def name_series(self, metric: str) -> Series:
        """Return the series of a metric."""
        return Series(name_perpspec(self.code, metric), self.instrument.symbol)

    def get_feed(self, metric: str) -> RestFeed:
        """Return the metric's feed over REST."""
        feed = self.exchange.find_rest_feed(metric)
        if feed is None:
            raise Refused(f"{self.exchange.name} has no history of {metric}", exchange=self.exchange.name)
        return feed

    @property
    def end_ms(self) -> int | None:
        """The end of the contract's life, None while it trades."""
        end_ms = self.instrument.delisted_ms
        return None if end_ms is None or end_ms > self.time_ms else ceil_to(end_ms, MINUTE_MS)

    @property
    def life(self) -> Window:
        """The part of the period in which the contract trades, and that is over."""
        start_ms = max(self.period.start_ms, self.instrument.listed_ms or 0)
        return Window(start_ms, min(self.period.end_ms, self.end_ms or self.time_ms, self.time_ms))

    @property
    def wanted(self) -> list[Window]:
        """What any of the metrics misses."""
        return merge(window for windows in self.gaps.values() for window in windows)


@dataclass(kw_only=True)
class Gathered:
    """What the files of a period gave: rows and reasons by metric, and what becomes of each file.

    `parts`: each file with its rows, in the order in which they count. `strays`: such as lie behind the end of a file.
    `rows`: of all parts, from `settle` on.
    """

    parts: dict[str, list[tuple[str, Block]]] = field(default_factory=dict)
    strays: dict[str, list[tuple[str, Block]]] = field(default_factory=dict)
    rows: dict[str, Block] = field(default_factory=dict)
    blanks: dict[str, dict[int, str]] = field(default_factory=dict)
    partial: set[int] = field(default_factory=set)
    quarantined: list[tuple[Window, str]] = field(default_factory=list)
    records: list[FileRecord] = field(default_factory=list)
    downloads: list[Download] = field(default_factory=list)
    closes: dict[int, float] | None = None
    retry: RetryLater | None = None
    refused: RefusedFile | None = None

    def add(self, path: str, found: FileRows) -> None:
        """Add the rows of a file."""
        for metric, rows in found.rows.items():
            self.parts.setdefault(metric, []).append((path, rows.without(found.strays)))
            if found.strays:
                self.strays.setdefault(metric, []).append((path, rows.pick(found.strays)))
        for metric, blanks in found.blanks.items():
            self.blanks.setdefault(metric, {}).update(blanks)
        self.partial |= found.partial

    def join(self, metric: str) -> tuple[Block, list[int]]:
        """Return the rows of a metric, and the times for which two files have different rows."""
        return make_block(metric, [rows for _, rows in self.parts.get(metric, [])] or [pack_rows(metric, [])])

    def settle(self) -> None:
        """Join the rows: what lies behind the end of a file counts where the file of its own day has nothing.

        Where two files have different rows for a time, neither is taken.
        """
        for metric, strays in self.strays.items():
            of_own_day, _ = self.join(metric)
            known = {*of_own_day, *self.blanks.get(metric, {})}
            self.parts[metric] += [(path, rows.without(known)) for path, rows in strays]
        conflicts: set[int] = set()
        for metric in self.parts:
            self.rows[metric], differing = self.join(metric)
            conflicts.update(differing)
        for metric in self.parts:
            self.blanks.setdefault(metric, {}).update(dict.fromkeys(conflicts, CONFLICT))
        self.rows = {metric: rows.without(conflicts) for metric, rows in self.rows.items()}

    def split(self, metric: str, rows: Block) -> Iterator[tuple[str, Block]]:
        """Yield some of the rows of a metric with the file that they came from, file by file."""
        for path, part in self.parts[metric]:
            mine = rows.pick(part.times)
            if mine:
                yield path, mine
                rows = rows.without(part.times)

    def find_file(self, metric: str, ts: int) -> str:
        """Return the path of the file that a row came from."""
        return next(path for path, part in self.parts[metric] if ts in part)


@dataclass(frozen=True, kw_only=True)
class Concluded:
    """What the files prove of a metric's gaps, the rows to store, and the ranges whose files may still come."""

    answer: Covered
    rows: Block
    awaited: Sequence[Window]


@wrap_job
def import_period(context: JobContext, source: str, symbol: str, start_ms: int, end_ms: int) -> dict[str, int] | Retry:
    """Import what is wanted and missing of a period of an archive's dataset, the one that has `source`.

    Returns counts, or a Retry as every job of a window does. A file that is broken, or that does not fit its checksum,
    is fetched TRIES times a minute apart; then it is in quarantine. One that is not there yet is asked for again after
    AWAITED_S, where nothing else has its rows.
    """
    series, window = Series(source, symbol), Window(start_ms, end_ms)
    unit = _unit_of(context, series)
    return run_job(context, unit, lambda: import_window(context, unit, series, window))


@wrap_job
def reimport_file(context: JobContext, source: str, symbol: str, start_ms: int, end_ms: int) -> dict[str, int] | Retry:
    """Fetch the files of a window again that were rewritten since, and audit the stored rows by them."""
    series, window = Series(source, symbol), Window(start_ms, end_ms)
    unit = _unit_of(context, series)
    return run_job(context, unit, lambda: audit_files(context, unit, series, window))


def _unit_of(context: JobContext, series: Series) -> Tracked:
    return Tracked(
        database=context.services.database,
        unit=f"archive {series.source} {series.symbol}",
        source=series.source,
        symbol=series.symbol,
    )


def import_window(context: JobContext, unit: Tracked, series: Series, window: Window) -> dict[str, int]:
    """Do the work of `import_period`; raise SourceError, StoreError or Stopped."""
    counts = {"files": 0, "rows": 0}
    awaited: list[str] = []
    for target in make_targets(context, unit, series, window):
        if not target.wanted:
            continue
        imported = _import_target(target, window)
        counts = {"files": counts["files"] + imported.files, "rows": counts["rows"] + imported.rows}
        awaited += [] if imported.is_complete else [f"{target.dataset.name} of {target.instrument.name}"]
    if awaited:
        message = f"{to_iso(window.start_ms)}: files may still come: {', '.join(awaited)}"
        raise RetryLater(message, retry_after_s=AWAITED_S)
    return counts


class Imported(NamedTuple):
    """What became of a target: how many files were asked for, how many rows are new, whether no file is waited for."""

    files: int
    rows: int
    is_complete: bool


def _import_target(target: Target, window: Window) -> Imported:
    name, unit = f"{target.dataset.name} {to_iso(window.start_ms)}", target.unit
    unit.report(State.RUNNING, f"{name}: fetching")
    gathered = gather(target)
    if gathered.retry is not None:
        raise gathered.retry
    rows, is_complete = _store(target, gathered)
    for download in gathered.downloads:
        download.discard()
    bad = [each for each in gathered.records if each.state is FileState.QUARANTINED]
    detail = f"{rows} new rows of {len(gathered.records)} files"
    detail += f", {len(bad)} in quarantine: {bad[0].name}: {bad[0].reason}" if bad else ""
    unit.report(State.DONE, f"{name}: {detail}", new_rows=rows, last_ts=window.end_ms)
    return Imported(len(gathered.records), rows, is_complete)


def make_targets(context: JobContext, unit: Tracked, series: Series, window: Window) -> list[Target]:
    """Look up what a job works on: one target for each life of the symbol's contracts in the window.

    Ranges for which files were asked are not wanted of them again: a job that is done may run once more, after Redis
    was killed.

    Raises Refused where the archive may not be asked or has no such data.
    """
    services = context.services
    exchange, code, metric = registry.find_by_source(series.source)
    archive = registry.select_archives(services.settings).get(exchange.name)
    if archive is None:
        raise Refused(f"FADEMOE_ARCHIVES does not allow the archive of {exchange.name}", exchange=exchange.name)
    dataset = archive.find_dataset(metric)
    time_ms = services.clocks.now_ms(exchange)
    with services.database.open_transaction() as cursor:
        stored = _read_stored(cursor, series, dataset.metrics if dataset else (), window.end_ms)
    newest = {life.name: life.life for life in stored.lives}  # they come in the order of their numbers
    mine = [life for life in stored.lives if life.symbol == series.symbol]
    if dataset is None or not mine:
        raise Refused(f"the archive of {exchange.name} has no {metric} of {series.symbol}", exchange=exchange.name)
    targets = []
    for life, following in zip_longest(mine, mine[1:]):
        span = _cut(window, _find_span(life, following, time_ms))
        if span.start_ms < span.end_ms:
            known = stored.archive_names.get((life.name, life.life))
            gaps = {
                metric: services.settings.clip_to_kept(parts, time_ms)
                for metric, parts in stored.list_gaps(life, span).items()
            }
            target = Target(
                context=context,
                exchange=exchange,
                archive=archive,
                dataset=dataset,
                code=code,
                instrument=life,
                period=dataset.find_period(window.start_ms),
                gaps={metric: parts for metric, parts in gaps.items() if parts},
                time_ms=time_ms,
                unit=unit,
                is_unlisted=(life.name, life.life) in stored.unlisted,
                names=archive.list_names(life.name, known, is_newest=life.life == newest[life.name]),
            )
            targets.append(target)
    return targets


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """What is stored of a symbol and its code: all lives of the code, and by metric the ranges that a job may fill.

    `requested`: ranges for which files were asked, by metric and contract. `gaps`: of the symbol, by metric.
    """

    lives: list[Instrument]
    unlisted: set[tuple[str, int]]
    archive_names: dict[tuple[str, int], str]
    requested: dict[str, dict[str, list[Window]]]
    gaps: dict[str, list[Window]]

    def list_gaps(self, life: Instrument, span: Window) -> dict[str, list[Window]]:
        """Return by metric the gaps inside `span` for which no file of a life was asked."""
        return {
            metric: [
                part
                for gap in gaps
                if (cut := _cut(gap, span)).start_ms < cut.end_ms
                for part in subtract(cut, self.requested[metric].get(life.name, ()))
            ]
            for metric, gaps in self.gaps.items()
        }


def _read_stored(cursor: Cursor, series: Series, metrics: Sequence[str], end_ms: int) -> _Stored:
    exchange, code, _ = registry.find_by_source(series.source)
    gaps = {
        metric: [gap for _, gap in coverage.find_gaps(cursor, name_perpspec(code, metric), end_ms, [series.symbol])]
        for metric in metrics
    }
    return _Stored(
        lives=instrument_store.read_lives(cursor, [code]),
        unlisted=files.find_unlisted(cursor, code),
        archive_names=instrument_store.find_archive_names(cursor, [code]),
        requested={metric: files.read_requested(cursor, exchange.name, metric) for metric in metrics},
        gaps=gaps,
    )


def _find_span(life: Instrument, following: Instrument | None, time_ms: int) -> Window:
    """Return the days of a life: lists err by hours, so the whole days of the listing and of the end belong to it.

    A day on which a life ends and the following one begins is shared at that begin.
    """
    ended_ms = life.delisted_ms if life.delisted_ms is not None and life.delisted_ms <= time_ms else None
    end_ms = time_ms if ended_ms is None else ceil_to(ended_ms, DAY_MS)
    if ended_ms is not None and following is not None and following.listed_ms is not None:
        end_ms = min(end_ms, max(following.listed_ms, ended_ms))
    return Window(floor_to(life.listed_ms or 0, DAY_MS), end_ms)


def gather(target: Target) -> Gathered:
    """Fetch and read the files of a period: the month's where it is there and whole, else those of its days."""
    gathered = Gathered()
    month = _take_month(target, gathered)
    if gathered.retry is not None:
        return gathered
    days = _list_needed_days(target, gathered, month)
    if days and target.dataset.day is not None:
        _take_days(target, gathered, days)
    _raise_refusal(target, gathered)
    gathered.settle()
    if target.dataset.link is not None:
        _link(target, gathered)
    return gathered


def _raise_refusal(target: Target, gathered: Gathered) -> None:
    """Raise the refusal of a file that would be in quarantine for it, where the archive answers for no other one."""
    if gathered.refused is not None and not _is_answering(target.context, target.archive):
        raise gathered.refused


def _is_answering(context: JobContext, archive: Archive) -> bool:
    """Return whether the archive has answered this run of a job for any file."""
    return archive.exchange in context.services.archive_client.answered


def _take_month(target: Target, gathered: Gathered) -> FileRecord | None:
    """Take the month's file where it may be there by now; return its record, None where none was asked for."""
    dataset, period = target.dataset, target.period
    if period.end_ms + dataset.month_after_ms > target.time_ms:
        return None
    record = None
    for file in target.list_month_files():
        record = _take(target, gathered, file)
        if record.state is not FileState.ABSENT:
            break
    return record


def _list_needed_days(target: Target, gathered: Gathered, month: FileRecord | None) -> list[Window]:
    """Return the days whose files are needed beside the month's, oldest first.

    The first point of a day may lie in the file of the day before, also of the day before the period.
    """
    if month is not None and month.state is FileState.OK:
        return []
    dataset = target.dataset
    is_read = month is not None and month.state is FileState.SHORT
    holes = [hole for window in target.wanted for hole in _holes_of(target, gathered, _cut(window, target.life))]
    needed = set()
    for day in dataset.list_days(target.period):
        inside = [_cut(day, hole) for hole in holes if _overlap(day, hole)]
        least_ms = SMALL_HOLE * DAY_MS if is_read and not target.is_unlisted else 0
        if sum(part.end_ms - part.start_ms for part in inside) > least_ms:
            needed.add(day)
            if dataset.reaches_next_day and inside[0].start_ms == day.start_ms:
                needed.add(Window(day.start_ms - DAY_MS, day.start_ms))
    return sorted(day for day in needed if day.end_ms + dataset.day_after_ms <= target.time_ms)


def _holes_of(target: Target, gathered: Gathered, window: Window) -> list[Window]:
    """Return the parts of a window in which some metric has no row yet."""
    if window.start_ms >= window.end_ms:
        return []
    holes = [
        hole for metric in target.gaps for hole in find_metric_holes(target, gathered.join(metric)[0].times, window)
    ]
    return merge(holes)


def find_metric_holes(target: Target, times: Times, window: Window) -> list[Window]:
    """Return the parts of a window that have no row; of a sparse dataset, the ranges in which one was due."""
    dataset = target.dataset
    inside = _cut_times(times, window)
    if dataset.sparse:
        return find_overdue(inside.tolist(), window, dataset.due_every_ms)
    if len(inside) == dataset.count_rows(window):  # all of them lie on the grid
        return []
    start_ms = ceil_to(window.start_ms, dataset.interval_ms)
    return find_holes(inside.tolist(), Window(start_ms, window.end_ms), dataset.interval_ms)


def _cut_times(times: Times, window: Window) -> Times:
    """Return the times inside a window."""
    start, end = times.searchsorted(window).tolist()
    return times[start:end]


def _overlap(one: Window, other: Window) -> bool:
    """Return whether two windows share anything."""
    return one.start_ms < other.end_ms and other.start_ms < one.end_ms


def _cut(window: Window, by: Window) -> Window:
    """Return what two windows share; it may be empty."""
    return Window(max(window.start_ms, by.start_ms), min(window.end_ms, by.end_ms))


def _take_days(target: Target, gathered: Gathered, days: Sequence[Window]) -> None:
    """Take the files of days; they are fetched beside each other, and read one after the other."""
    candidates = [target.list_day_files(day) for day in days]
    prefetches = [partial(_prefetch, target, paths) for paths in candidates]
    futures = run_in_threads(target.context.services.stop, prefetches, CONNECTIONS)
    errors = [error for future in futures if (error := future.exception()) is not None]
    errors = [error for error in errors if not isinstance(error, RefusedFile)]  # `_take` counts these
    if errors:
        raise max(errors, key=lambda error: error.retry_after_s if isinstance(error, RetryLater) else 0)
    for paths in candidates:
        for file in paths:
            if _take(target, gathered, file).state is not FileState.ABSENT:
                break


def _prefetch(target: Target, paths: Sequence[ArchiveFile]) -> None:
    """Fetch the first file of a day that is there; `_take` finds it on disk, and counts one that is not right."""
    client = target.context.services.archive_client
    with suppress(Mismatch):
        for file in paths:
            if client.fetch(target.archive, file.path) is not None:
                return


def _take(target: Target, gathered: Gathered, file: ArchiveFile) -> FileRecord:
    """Fetch, read and prove one file; add its rows and its record."""
    record = FileRecord(
        exchange=target.exchange.name,
        path=file.path,
        url=target.context.services.archive_client.make_url(target.archive, file.path),
        dataset=target.dataset.name,
        cadence=file.cadence,
        instrument=target.instrument.name,
        symbol=target.instrument.symbol,
        window=file.window,
        state=FileState.ABSENT,
        terms=target.archive.terms,
    )
    try:
        download = target.context.services.archive_client.fetch(target.archive, file.path)
        if download is None:
            gathered.records.append(record)
            return record
        record = replace(
            record,
            etag=download.etag,
            last_modified=download.last_modified,
            bytes=download.bytes,
            sha256=download.sha256,
            checksum_ok=download.checksum_ok,
        )
        gathered.downloads.append(download)
        found = _read(target, gathered, file, download)
    except RefusedFile as error:
        if target.context.count_failure(f"{BAD_TRIES}:refused:{file.path}") < REFUSALS:
            raise
        gathered.refused = error
        target.context.services.archive_client.forget(target.archive, file.path)
        return _quarantine(target, gathered, file, record, error)
    except (Mismatch, BadFile) as error:
        return _quarantine(target, gathered, file, record, error)
    _record_unreadable(target, file, found)
    record = _judge(target, file, record, found)
    gathered.add(file.path, found)
    gathered.records.append(record)
    return record


def _read(target: Target, gathered: Gathered, file: ArchiveFile, download: Download) -> FileRows:
    """Return the rows of a file, its label applied."""
    found = read_file(download.path, file, target.dataset, replace(target.instrument, name=file.contract))
    if len(target.dataset.shifts) > 1:
        label = _find_label(target, gathered, file, found)
        if label.shift_ms is None:
            raise Undecided(label.reason)
        found.shift(label.shift_ms)
    return found


class Broken(RetryLater):
    """A file by which others are judged is broken; it is fetched again."""


class Undecided(BadFile):
    """The label of a file cannot be told; another try would not change that."""


def _quarantine(
    target: Target, gathered: Gathered, file: ArchiveFile, record: FileRecord, error: Exception
) -> FileRecord:
    """Put a file into quarantine after TRIES; before that, note that the job has to run again."""
    key = f"{BAD_TRIES}:{file.path}"
    is_final = isinstance(error, Undecided | RefusedFile) or target.context.count_failure(key) >= TRIES
    if not is_final:
        for download in gathered.downloads:
            if download.path.name == file.path.rpartition("/")[2]:
                download.discard()
        gathered.retry = RetryLater(f"{file.path}: {error}", retry_after_s=BAD_FILE_S, exchange=target.exchange.name)
    else:
        refused = BadPayload(f"quarantined: {error}", exchange=target.exchange.name, request=file.path, http_status=200)
        target.unit.record(refused)
    record = replace(
        record,
        state=FileState.QUARANTINED,
        reason=str(error),
        checksum_ok=False if isinstance(error, Mismatch) else record.checksum_ok,
    )
    gathered.quarantined.append((file.window, f"quarantined: {record.name}: {error}"))
    gathered.records.append(record)
    return record


def _record_unreadable(target: Target, file: ArchiveFile, found: FileRows) -> None:
    """Record the lines of a file that could not be read; what they stand for stays missing."""
    for number, reason in found.unreadable[:NAMED_LINES]:
        error = BadPayload(f"line {number} is unreadable: {reason}")
        error.locate(target.exchange.name, file.path, reason)
        target.unit.record(error)


def _judge(target: Target, file: ArchiveFile, record: FileRecord, found: FileRows) -> FileRecord:
    """Clip a file to the contract's life and compare it with the calendar; return its record."""
    life = _find_life(target)
    clipped = _clip(found, life)
    times = found.find_times()
    own = _cut(Window(file.window.start_ms + found.shift_ms, file.window.end_ms + found.shift_ms), life)
    inside = _cut_times(times, own)
    expected = target.dataset.count_rows(own)
    holes = find_metric_holes(target, inside, own) if own.start_ms < own.end_ms else []
    is_short = bool(holes) or bool(found.partial)
    return replace(
        record,
        state=FileState.SHORT if is_short else FileState.OK,
        reason=f"{len(inside)} rows of {expected}" if is_short else "",
        rows=len(inside),
        expected=expected,
        first_ts=int(times[0]) if len(times) else None,
        last_ts=int(times[-1]) if len(times) else None,
        shift_ms=found.shift_ms,
        clipped=clipped,
        details=describe(found),
    )


def _find_life(target: Target) -> Window:
    """Return the contract's life as far as it is over."""
    return Window(target.instrument.listed_ms or 0, min(target.end_ms or target.time_ms, target.time_ms))


def _clip(found: FileRows, life: Window) -> int:
    """Drop what lies outside a contract's life; return how many times that were."""
    before = found.find_times()
    if len(_cut_times(before, life)) == len(before):
        return 0
    found.rows = {metric: rows.cut(life) for metric, rows in found.rows.items()}
    found.blanks = {
        metric: {ts: why for ts, why in blanks.items() if life.start_ms <= ts < life.end_ms}
        for metric, blanks in found.blanks.items()
    }
    return len(before) - len(found.find_times())


def _find_label(target: Target, gathered: Gathered, file: ArchiveFile, found: FileRows) -> Label:
    """Decide which instant the lines of a file describe: by its prices, else as the reference's file was decided."""
    reach_ms = max(target.dataset.shifts) + MINUTE_MS
    window = Window(file.window.start_ms - reach_ms, file.window.end_ms + reach_ms)
    if gathered.closes is None:
        gathered.closes = _load_closes(target)
    minutes = range(ceil_to(window.start_ms, MINUTE_MS), window.end_ms, MINUTE_MS)
    closes = {ts: gathered.closes[ts] for ts in minutes if ts in gathered.closes}
    label = decide_label(found.prices, closes, target.dataset.shifts)
    if label.shift_ms is not None or not label.is_flat:
        return label
    form = Form.tell(found.find_times().tolist(), file.window)
    reference = _decide_by_reference(target, file, form)
    if reference is None or label.hints - {reference} or (form is None and not label.hints):
        return label
    return Label(reference, "by the reference's file")


def _load_closes(target: Target) -> dict[int, float]:
    """Return the closes of the period's minutes per unit of the contract's price: stored ones, else of the archive."""
    reach_ms = max(target.dataset.shifts) + MINUTE_MS
    period = Window(target.period.start_ms - DAY_MS, target.period.end_ms)  # see _list_needed_days
    window = Window(period.start_ms - reach_ms, period.end_ms + reach_ms)
    with target.context.services.database.open_transaction() as cursor:
        stored = files.read_closes(cursor, target.name_series("ohlcv"), window)
    closes = {ts: close * target.instrument.multiplier for ts, close in stored.items()}
    days = [
        day
        for day in target.dataset.list_days(_cut(period, _find_life(target)))
        if sum(1 for ts in range(day.start_ms, day.end_ms, MINUTE_MS) if ts in closes) * MINUTE_MS < CLOSES * DAY_MS
    ]
    if days:
        closes |= read_archive_closes(
            target.context, target.archive, target.instrument, target.names, target.period, days
        )
    return closes


def read_archive_closes(
    context: JobContext,
    archive: Archive,
    instrument: Instrument,
    names: Sequence[str],
    period: Window,
    days: Sequence[Window],
) -> dict[int, float]:
    """Return closes of the archive's files of candles, per unit of the contract's price; nothing of it is stored.

    `names`: under which the archive may have the contract. Raises Broken while a file is broken, at most TRIES.
    """
    candles = archive.find_dataset("ohlcv")
    if candles is None:
        return {}
    closes: dict[int, float] = {}
    broken: Broken | None = None

    def read(paths: Sequence[ArchiveFile]) -> None:
        nonlocal broken
        try:
            closes.update(_read_closes(context, archive, candles, instrument, paths))
        except Broken as error:  # all are looked at in one run
            broken = error

    if len(days) > 1:
        month = candles.find_period(period.start_ms)
        read([file for name in names for file in candles.list_month_files(name, month)])
    for day in days:
        if not any(ts in closes for ts in range(day.start_ms, day.end_ms, 60 * MINUTE_MS)):
            read([file for name in names for file in candles.list_day_files(name, day)])
    if broken is not None:
        raise broken
    return closes


def _read_closes(
    context: JobContext, archive: Archive, candles: Dataset, instrument: Instrument, paths: Sequence[ArchiveFile]
) -> dict[int, float]:
    for file in paths:
        found = _read_beside(context, archive, candles, instrument, file)
        if found is not None:
            rows = found.rows["ohlcv"]
            return dict(zip(rows.times.tolist(), (rows.read_floats("c") * instrument.multiplier).tolist(), strict=True))
    return {}


def _read_beside(
    context: JobContext, archive: Archive, dataset: Dataset, instrument: Instrument, file: ArchiveFile
) -> FileRows | None:
    """Return the rows of a file by which another one is judged, and which are not stored; None without such a file.

    One that is broken, or does not fit its checksum, raises Broken as often as TRIES says; then it counts as none. One
    that is refused is asked for as often as REFUSALS says, and as long as no other file is answered.
    """
    try:
        download = context.services.archive_client.fetch(archive, file.path, use="closes")
        if download is None:
            return None
        try:
            return read_file(download.path, file, dataset, replace(instrument, name=file.contract))
        finally:
            download.discard()
    except RefusedFile as error:
        refusals = context.count_failure(f"{BAD_TRIES}:refused:beside:{file.path}")
        if refusals < REFUSALS or not _is_answering(context, archive):
            raise
        context.services.archive_client.forget(archive, file.path, use="closes")
        log.warning("%s tells nothing of the files beside it: %s", file.path, error)
        return None
    except (Mismatch, BadFile) as error:
        if context.count_failure(f"{BAD_TRIES}:beside:{file.path}") < TRIES:
            raise Broken(f"{file.path}: {error}", retry_after_s=BAD_FILE_S, exchange=archive.exchange) from error
        log.warning("%s tells nothing of the files beside it: %s", file.path, error)
        return None


def _decide_by_reference(target: Target, file: ArchiveFile, form: Form | None) -> int | None:
    """Return the label of the same day's file of the contract that others are measured by, None where it has none.

    A file of another form than `form`, rewritten when this one was not, says nothing about this one. The form is None
    where a file has neither edge of the day, such as on the evening of a listing.
    """
    services, dataset = target.context.services, target.dataset
    name = dataset.reference
    if not name or name == target.instrument.name:
        return None
    paths = dataset.list_day_files(name, file.window)
    with services.database.open_transaction() as cursor:
        known = files.find(cursor, target.exchange.name, paths=[each.path for each in paths])
    for record in known:
        if record.state in (FileState.OK, FileState.SHORT):
            edges = [ts - record.shift_ms for ts in (record.first_ts, record.last_ts) if ts is not None]
            return record.shift_ms if form in (None, Form.tell(edges, record.window)) else None
    instrument = replace(target.instrument, name=name, multiplier=1)
    for path in paths:
        found = _read_beside(target.context, target.archive, dataset, instrument, path)
        if found is None:
            continue
        if form not in (None, Form.tell(found.find_times().tolist(), path.window)):
            return None
        closes = read_archive_closes(target.context, target.archive, instrument, [name], path.window, [path.window])
        return decide_label(found.prices, closes, dataset.shifts).shift_ms
    return None


def _link(target: Target, gathered: Gathered) -> None:
    """Complete rows by the time of the row before; before the first one it is looked for in the database."""
    link = target.dataset.link
    if link is None:
        return
    for metric, rows in gathered.rows.items():
        if not rows:
            continue
        first_ms = int(rows.times[0])
        with target.context.services.database.open_transaction() as cursor:
            previous_ms = files.find_last_before(
                cursor, target.name_series(metric), first_ms, target.dataset.due_every_ms + MINUTE_MS
            )
        if previous_ms is None:
            previous_ms = _find_previous(target, first_ms)
        holes = find_metric_holes(target, rows.times, Window(first_ms, int(rows.times[-1]) + 1))
        behind = {hole.end_ms for hole in holes}  # rows before which one is missing
        linked = [
            row if row.ts in behind else link(row, previous)
            for row, previous in zip(rows.values(), [previous_ms, *rows], strict=False)
        ]
        gathered.rows[metric], _ = make_block(metric, [pack_rows(metric, linked)])


def _find_previous(target: Target, first_ms: int) -> int | None:
    """Return the time of the row before the first one, from the file of that day or of the day before."""
    for day in reversed(target.dataset.list_days(Window(first_ms - DAY_MS, first_ms))):
        for file in target.list_day_files(day):
            found = _read_beside(target.context, target.archive, target.dataset, target.instrument, file)
            times: list[int] = [ts for ts in found.find_times().tolist() if ts < first_ms] if found else []
            if times:
                return max(times)
    return None


def _store(target: Target, gathered: Gathered) -> tuple[int, bool]:
    """Store rows, coverage, the ledger and what was asked in one transaction.

    Returns how many rows were new, and whether no file is waited for.
    """
    began_ms = now_ms()
    services = target.context.services
    concluded = {metric: _conclude(target, gathered, metric, gaps) for metric, gaps in target.gaps.items()}
    services.writer.make_room(ts for each in concluded.values() for ts in _find_edges(each.rows))
    differing = _compare(target, gathered)
    records = [replace(each, differing=differing.get(each.path, 0)) for each in gathered.records]
    new: int = services.database.run(partial(_write, target, gathered, records, concluded, began_ms))
    for metric, each in concluded.items():
        if each.rows:
            link_following(services.database, target.get_feed(metric), target.name_series(metric), each.answer.windows)
    return new, not any(each.awaited for each in concluded.values())


def _write(
    target: Target,
    gathered: Gathered,
    records: Sequence[FileRecord],
    concluded: Mapping[str, Concluded],
    began_ms: int,
    cursor: Cursor,
) -> int:
    ids = files.save(cursor, records)
    new = 0
    for metric, each in concluded.items():
        requested = [part for gap in target.gaps[metric] for part in subtract(gap, each.awaited)]
        files.add_asked(cursor, target.exchange.name, metric, target.instrument.name, requested)
        feed, series, rows = target.get_feed(metric), target.name_series(metric), each.rows
        for path, of_file in gathered.split(metric, rows) if rows else ():
            origin = Origin(Way.ARCHIVE, ids[path], began_ms)
            new += store_block(cursor, of_file, feed.interval, series, origin)
    store_rows(cursor, [], [each.answer for each in concluded.values() if each.answer.windows])
    return new


def _find_edges(rows: Block) -> list[int]:
    """Return the first and the last time of rows, none where there are no rows."""
    return rows.times[[0, -1]].tolist() if rows else []


def _conclude(target: Target, gathered: Gathered, metric: str, gaps: Sequence[Window]) -> Concluded:
    """Return what the files prove of a metric's gaps, and the rows to store.

    A hole that REST may fill, or a file that may still come, is left out; any other is absent, with the reason.
    """
    feed, life = target.get_feed(metric), _find_life(target)
    nothing, _ = make_block(metric, [pack_rows(metric, [])])
    found = gathered.rows.get(metric, nothing)
    reachable_ms = max(compute_requested_from_ms(feed, target.time_ms), 0)
    coming = _find_coming(target, gathered)
    covered: list[Window] = []
    awaited: list[Window] = []
    absences: list[Absence] = []
    parts = [nothing]
    for gap in gaps:
        alive = _cut(gap, life)
        if target.end_ms is not None and gap.end_ms > max(target.end_ms, gap.start_ms):
            ended = Window(max(target.end_ms, gap.start_ms), gap.end_ms)
            absences.append(Absence(ended, DELISTED))
            covered.append(ended)
        if alive.start_ms >= alive.end_ms:
            continue
        usable = found.cut(alive).without(set() if target.is_unlisted else gathered.partial)
        parts.append(usable)
        left: list[Window] = []
        for hole in find_metric_holes(target, usable.times, alive):
            reached = [Window(max(hole.start_ms, reachable_ms), hole.end_ms)] if hole.end_ms > reachable_ms else []
            reached = [] if target.is_unlisted else reached
            left += reached
            for part in subtract(hole, reached):
                held = [_cut(part, each) for each in coming if _overlap(part, each)]
                awaited += held
                for absent in subtract(part, held):
                    absences += _explain(target, gathered, metric, absent)
        covered += subtract(alive, [*left, *awaited])
    answer = Covered(target.name_series(metric), merge(covered), absences, feed.interval_ms, "archive")
    rows, _ = make_block(metric, parts)
    return Concluded(answer=answer, rows=rows, awaited=awaited)


def _find_coming(target: Target, gathered: Gathered) -> list[Window]:
    """Return the windows of the files that are absent and may still be published."""
    dataset = target.dataset
    final_ms = {"month": dataset.month_final_ms, "day": dataset.day_final_ms}
    there = {record.window for record in gathered.records if record.state is not FileState.ABSENT}
    return merge(
        record.window
        for record in gathered.records
        if record.state is FileState.ABSENT
        and record.window not in there
        and record.window.end_ms + final_ms[record.cadence] > target.time_ms
    )


def _explain(target: Target, gathered: Gathered, metric: str, hole: Window) -> list[Absence]:
    """Return why there are no rows in a hole that REST does not reach either, each reason with its range."""
    step_ms = target.dataset.interval_ms
    if target.dataset.sparse:  # a hole of several days is explained as a whole
        broken = next((why for window, why in gathered.quarantined if _overlap(window, hole)), "")
        return [Absence(hole, broken or NOT_IN_ARCHIVE)]
    blanks = gathered.blanks.get(metric, {})
    absences: list[Absence] = []
    for ts in range(floor_to(hole.start_ms, step_ms), hole.end_ms, step_ms):
        reason = blanks.get(ts) or _find_quarantine(target, gathered, ts) or NOT_IN_ARCHIVE
        part = Window(max(ts, hole.start_ms), min(ts + step_ms, hole.end_ms))
        if absences and absences[-1].reason == reason:
            absences[-1] = Absence(Window(absences[-1].window.start_ms, part.end_ms), reason)
        else:
            absences.append(Absence(part, reason))
    return absences


def _find_quarantine(target: Target, gathered: Gathered, ts: int) -> str:
    """Return why the file of a time is in quarantine, "" where it is not."""
    reach_ms = target.dataset.overhang_ms
    return next((why for window, why in gathered.quarantined if window.start_ms <= ts < window.end_ms + reach_ms), "")


def _compare(target: Target, gathered: Gathered) -> dict[str, int]:
    """Compare the files with rows that were stored before; return by path how many values differ.

    The days in which any does are audited over REST: a file changes nothing.
    """
    services = target.context.services
    counts: dict[str, int] = {}
    for metric, rows in gathered.rows.items():
        with services.database.open_transaction() as cursor:
            differences, _ = _compare_rows(cursor, target, metric, rows)
        for change in differences:
            path = gathered.find_file(metric, change.ts)
            counts[path] = counts.get(path, 0) + 1
        _enqueue_audits(target, metric, differences)
    return counts


def _enqueue_audits(target: Target, metric: str, differences: Sequence[corrections.Difference]) -> None:
    """Enqueue the audit of the days in which values differ."""
    days = sorted({floor_to(change.ts, DAY_MS) for change in differences})
    tasks = [Task(target.name_series(metric), Window(day, day + DAY_MS)) for day in days]
    enqueue_audits(target.context.services.redis, target.exchange.name, tasks)


def _compare_rows(
    cursor: Cursor, target: Target, metric: str, rows: Block
) -> tuple[list[corrections.Difference], list[int]]:
    """Compare rows with what is stored where the series is covered, day by day.

    Returns the values that differ, and the times of rows that are not stored.
    """
    series, interval = target.name_series(metric), target.get_feed(metric).interval
    differences: list[corrections.Difference] = []
    missing: list[int] = []
    if not rows:
        return differences, missing
    first_ms, last_ms = _find_edges(rows)
    for window in coverage.find_covered(cursor, series, Window(first_ms, last_ms + 1)):
        for day in target.dataset.list_days(window):
            part = _cut(day, window)
            known = rows.cut(part)
            stored = corrections.read_stored_rows(cursor, series, metric, interval, [part])
            differences += corrections.find_differences(metric, stored, known) if stored else []
            missing += known.without(stored).times.tolist()
    return differences, missing


def audit_files(context: JobContext, unit: Tracked, series: Series, window: Window) -> dict[str, int]:
    """Do the work of `reimport_file`: correct what the rewritten files of a window have otherwise, add what they have.

    A file that was not good before corrects nothing, and none what lies behind its own period: where such rows differ,
    the day is audited over REST. Every change is in perp_corrections with the file. Nothing is removed, and coverage
    only grows.
    """
    counts = {"corrected": 0, "added": 0}
    for target in make_targets(context, unit, series, window):
        gathered = Gathered()
        paths = {file.path: file for file in (*target.list_month_files(), *target.list_day_files(window))}
        with context.services.database.open_transaction() as cursor:
            known = files.find(cursor, target.exchange.name, paths=list(paths))
        for record in known:
            if record.window == window and record.instrument == target.instrument.name:
                _take(target, gathered, paths[record.path])
        _raise_refusal(target, gathered)
        gathered.settle()
        if gathered.retry is not None:
            raise gathered.retry
        context.services.writer.make_room(ts for rows in gathered.rows.values() for ts in _find_edges(rows))
        rewritten = {record.path for record in known if record.state in (FileState.OK, FileState.SHORT)}
        corrected, added, others = context.services.database.run(partial(_correct, target, gathered, rewritten))
        for metric, differences in others.items():
            _enqueue_audits(target, metric, differences)
        for download in gathered.downloads:
            download.discard()
        counts = {"corrected": counts["corrected"] + corrected, "added": counts["added"] + added}
    detail = f"{counts['corrected']} values corrected, {counts['added']} rows added"
    unit.report(State.DONE, f"rewritten files of {to_iso(window.start_ms)}: {detail}")
    return counts


def _correct(
    target: Target, gathered: Gathered, rewritten: Collection[str], cursor: Cursor
) -> tuple[int, int, dict[str, list[corrections.Difference]]]:
    """Store what `audit_files` does; return how many values were corrected, rows added, and what else differs.

    `rewritten`: the paths of files that were good before.
    """
    ids = files.save(cursor, gathered.records)
    corrected, added = 0, 0
    others: dict[str, list[corrections.Difference]] = {}
    answers: list[Covered] = []
    for metric, rows in gathered.rows.items():
        series, feed = target.name_series(metric), target.get_feed(metric)
        changes, missing = _compare_rows(cursor, target, metric, rows)
        strays = {ts for _, part in gathered.strays.get(metric, ()) for ts in part}
        for path, file_id in ids.items():
            mine = [change for change in changes if gathered.find_file(metric, change.ts) == path]
            known = [change for change in mine if path in rewritten and change.ts not in strays]
            corrected += corrections.correct(cursor, series, feed.interval, known, file_id)
            others.setdefault(metric, []).extend(sorted({*mine} - {*known}))
        for path, fresh in gathered.split(metric, rows.pick(missing)):
            corrections.record_missing(cursor, series, list(fresh), ids[path])
            added += store_block(cursor, fresh, feed.interval, series, Origin(Way.ARCHIVE, ids[path], None))
        if missing:
            step_ms = feed.interval_ms
            answers.append(Covered(series, merge(Window(ts, ts + step_ms) for ts in missing), interval_ms=step_ms))
    store_rows(cursor, [], answers)
    return corrected, added, others
