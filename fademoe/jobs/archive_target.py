"""What the job of an archive's period works on: a dataset of a life of a contract, and what of it is missing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from psycopg2.extensions import cursor as Cursor

from fademoe.archives.reading import find_holes
from fademoe.clock import DAY_MS, MINUTE_MS, Window, ceil_to, floor_to, merge, subtract
from fademoe.errors import Refused
from fademoe.feeds import registry
from fademoe.feeds.archive import Archive, ArchiveFile, Dataset
from fademoe.feeds.blocks import Times
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import Instrument
from fademoe.jobs.fetch import find_overdue
from fademoe.metrics import name_perpspec
from fademoe.runtime.job_context import JobContext
from fademoe.store import coverage, files
from fademoe.store import instruments as instrument_store
from fademoe.store.coverage import Series
from fademoe.store.status import Tracked

TRIES = 3  # a minute apart, then a file that is broken or does not fit its checksum is put into quarantine
BAD_FILE_S = 60.0
REFUSALS = 10  # of one file, then the others are asked for without it: where those are answered, it is in quarantine
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
    mine = sort_lives(life for life in stored.lives if life.symbol == series.symbol)
    if dataset is None or not mine:
        raise Refused(f"the archive of {exchange.name} has no {metric} of {series.symbol}", exchange=exchange.name)
    targets = []
    for life, following in zip_longest(mine, mine[1:]):
        span = cut(window, find_span(life, following, time_ms))
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
                if (inside := cut(gap, span)).start_ms < inside.end_ms
                for part in subtract(inside, self.requested[metric].get(life.name, ()))
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


def sort_lives(lives: Iterable[Instrument]) -> list[Instrument]:
    """Return the lives of a symbol in the order in which they began; they may be of several names."""
    return sorted(lives, key=lambda life: (life.listed_ms or 0, life.life))


def find_span(life: Instrument, following: Instrument | None, time_ms: int) -> Window:
    """Return the days of a life: lists err by hours, so the whole days of the listing and of the end belong to it.

    A day on which a life ends and the following one begins is shared at that begin.
    """
    ended_ms = life.delisted_ms if life.delisted_ms is not None and life.delisted_ms <= time_ms else None
    end_ms = time_ms if ended_ms is None else ceil_to(ended_ms, DAY_MS)
    if ended_ms is not None and following is not None and following.listed_ms is not None:
        end_ms = min(end_ms, max(following.listed_ms, ended_ms))
    return Window(floor_to(life.listed_ms or 0, DAY_MS), end_ms)


def find_life(target: Target) -> Window:
    """Return the contract's life as far as it is over."""
    return Window(target.instrument.listed_ms or 0, min(target.end_ms or target.time_ms, target.time_ms))


def find_metric_holes(target: Target, times: Times, window: Window) -> list[Window]:
    """Return the parts of a window that have no row; of a sparse dataset, the ranges in which one was due."""
    dataset = target.dataset
    inside = cut_times(times, window)
    if dataset.sparse:
        return find_overdue(inside.tolist(), window, dataset.due_every_ms)
    if len(inside) == dataset.count_rows(window):  # all of them lie on the grid
        return []
    start_ms = ceil_to(window.start_ms, dataset.interval_ms)
    return find_holes(inside.tolist(), Window(start_ms, window.end_ms), dataset.interval_ms)


def cut(window: Window, by: Window) -> Window:
    """Return what two windows share; it may be empty."""
    return Window(max(window.start_ms, by.start_ms), min(window.end_ms, by.end_ms))


def cut_times(times: Times, window: Window) -> Times:
    """Return the times inside a window."""
    start, end = times.searchsorted(window).tolist()
    return times[start:end]


def overlap(one: Window, other: Window) -> bool:
    """Return whether two windows share anything."""
    return one.start_ms < other.end_ms and other.start_ms < one.end_ms


def is_answering(context: JobContext, archive: Archive) -> bool:
    """Return whether the archive has answered this run of a job for any file."""
    return archive.exchange in context.services.archive_client.answered
