"""Decides which of the missing ranges come from files of an archive, the rest being left to REST."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import zip_longest

from fademoe.clock import DAY_MS, Window, ceil_to, floor_to, subtract
from fademoe.feeds import registry
from fademoe.feeds.archive import Archive, Dataset
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.paging import Effort, compute_requested_from_ms, compute_retained_from_ms, measure
from fademoe.jobs.archive_target import cut, find_span, sort_lives
from fademoe.jobs.plan import Gap
from fademoe.metrics import name_perpspec
from fademoe.queue.enqueue import enqueue_imports
from fademoe.queue.ids import Task
from fademoe.runtime.services import Services
from fademoe.store import files
from fademoe.store import instruments as store
from fademoe.store.coverage import Series

MOSTLY = 0.4  # of a period is missing: then its file is taken rather than many requests
SEAM_MS = 2 * DAY_MS  # beyond REST's edge: a window that was planned now may be requested a day later
OVERHEAD_S = 0.1  # of a file, beside its bytes
BYTES_PER_S = 5_000_000.0  # of a connection, for estimates
CONNECTIONS = 8
ROWS_PER_S = 60_000.0  # that are read and stored by one worker, for estimates


@dataclass(frozen=True, kw_only=True)
class PlannedPeriod:
    """A period to import: its job, the files that it takes at most, their bytes, and what REST would take for it.

    `effort` is None where REST does not have it any more.
    """

    task: Task
    dataset: str
    period: Window
    files: int
    bytes: float
    rows: int
    feed: RestFeed
    effort: Effort | None


@dataclass(frozen=True, kw_only=True)
class ArchiveState:
    """What planning the files of one exchange code depends on; see `load_state`.

    `lives`: by symbol, every life of its contracts, in the order in which they began. `unlisted`: (name, life) of those
    that the exchange's list does not have any more, so that REST does not answer for them. `seen_ms`: of those whose
    end is not known yet, although they may have ended, when a list last had them; flat bars go on in the files.
    `requested`: by metric and contract, for which ranges files were requested. `now_ms` is the exchange's time.
    """

    exchange: Exchange
    archive: Archive
    code: str
    lives: Mapping[str, Sequence[Instrument]]
    unlisted: Set[tuple[str, int]]
    seen_ms: Mapping[tuple[str, int], int]
    requested: Mapping[str, Mapping[str, Sequence[Window]]]
    now_ms: int

    def list_spans(self, symbol: str) -> list[tuple[Instrument, Window]]:
        """Return the lives of a symbol, each with the days that are its own, as the jobs of its files have them."""
        lives = self.lives.get(symbol, ())
        return [(life, find_span(life, after, self.now_ms)) for life, after in zip_longest(lives, lives[1:])]


def load_state(
    services: Services, exchange: Exchange, code: str, *, is_allowed_only: bool = True
) -> ArchiveState | None:
    """Return what planning depends on, None where the exchange has no archive, or none that is allowed."""
    archive = registry.select_archives(services.settings).get(exchange.name)
    archive = archive if is_allowed_only else exchange.archive
    if archive is None:
        return None
    lives: dict[str, list[Instrument]] = {}
    with services.database.open_transaction() as cursor:
        for life in store.read_lives(cursor, [code]):
            lives.setdefault(life.symbol, []).append(life)
        unlisted = files.find_unlisted(cursor, code)
        seen_ms = store.find_undated(cursor, [code]) if archive.list_url else {}  # else no end can be found either
        requested = {
            metric: files.read_requested(cursor, exchange.name, metric)
            for dataset in archive.datasets
            for metric in dataset.metrics
        }
    now_ms = services.clocks.now_ms(exchange)
    return ArchiveState(
        exchange=exchange,
        archive=archive,
        code=code,
        lives={symbol: sort_lives(each_of) for symbol, each_of in lives.items()},
        unlisted=unlisted,
        seen_ms=seen_ms,
        requested=requested,
        now_ms=now_ms,
    )


def split_gaps(
    state: ArchiveState | None, feed: RestFeed, gaps: Iterable[Gap]
) -> tuple[list[PlannedPeriod], list[Gap]]:
    """Return the periods whose files close gaps of a feed, and the gaps that are left to REST."""
    dataset = None if state is None else state.archive.find_dataset(feed.metric)
    gaps = list(gaps)
    if state is None or dataset is None:
        return [], gaps
    by_series: dict[Series, list[Window]] = {}
    for series, gap in gaps:
        by_series.setdefault(series, []).append(gap)
    planned: list[PlannedPeriod] = []
    rest: list[Gap] = []
    for series, windows in by_series.items():
        taken: list[Window] = []
        for life, span in state.list_spans(series.symbol):
            available = cut(span, find_available(state, dataset, feed, life))
            for part in _find_parts(state, dataset, feed, life, available, windows):
                planned.append(_plan(state, dataset, feed, series, life, part))
                taken.append(part)
        rest += [(series, left) for window in windows for left in subtract(window, taken)]
    return planned, rest


def _find_parts(
    state: ArchiveState,
    dataset: Dataset,
    feed: RestFeed,
    life: Instrument,
    available: Window,
    windows: Sequence[Window],
) -> list[Window]:
    """Return for each period of a life the window that its files are asked for, newest first."""
    requested = state.requested.get(feed.metric, {}).get(life.name, ())
    missing = [
        part
        for window in windows
        for part in subtract(cut(window, available), requested)
        if window.start_ms < available.end_ms and window.end_ms > available.start_ms
    ]
    kept_ms = compute_requested_from_ms(feed, state.now_ms)
    by_period: dict[Window, list[Window]] = {}
    for part in missing:
        for period in dataset.list_periods(part):
            by_period.setdefault(period, []).append(cut(part, period))
    parts = []
    for period, inside in sorted(by_period.items(), reverse=True):
        whole = cut(period, available)
        missing_ms = sum(part.end_ms - part.start_ms for part in inside)
        is_left_to_files = (life.name, life.life) in state.unlisted or inside[0].start_ms < kept_ms
        is_worth = dataset.use != "bulk" or is_left_to_files
        if not is_worth and missing_ms >= max(DAY_MS / 2, MOSTLY * (whole.end_ms - whole.start_ms)):
            is_worth = not _is_rest_quicker(state, dataset, feed, period, inside)
        if is_worth:
            parts.append(Window(inside[0].start_ms, max(part.end_ms for part in inside)))
    return parts


def _is_rest_quicker(
    state: ArchiveState, dataset: Dataset, feed: RestFeed, period: Window, missing: Sequence[Window]
) -> bool:
    """Return whether REST brings a period whose month's file is not there yet sooner than the files of its days."""
    if dataset.month is not None and period.end_ms + dataset.month_after_ms <= state.now_ms:
        return False
    files_budget, rest_budget = state.archive.budget, state.exchange.get_budget(feed.budget)
    count = sum(len(dataset.list_days(part)) for part in missing) * _count_requests(state.archive)
    by_files = count * files_budget.span_ms / files_budget.limit
    return measure(feed, missing).cost * rest_budget.span_ms / rest_budget.limit < by_files


def _count_requests(archive: Archive) -> int:
    """Return how many requests a file takes: one, and one for its checksum."""
    return 1 if archive.checksum("") is None else 2


def find_available(state: ArchiveState, dataset: Dataset, feed: RestFeed, life: Instrument) -> Window:
    """Return the range of a life for which files of a dataset are asked at all, it may be empty."""
    now_ms = state.now_ms
    start_ms = max(floor_to(life.listed_ms or 0, DAY_MS), dataset.since_ms(life.name))
    if dataset.day is None:
        end_ms = dataset.find_period(now_ms - dataset.month_after_ms).start_ms
    else:
        end_ms = floor_to(now_ms - dataset.day_after_ms + dataset.zone_ms, DAY_MS) - dataset.zone_ms
    ended_ms = life.delisted_ms if life.delisted_ms is not None and life.delisted_ms <= now_ms else None
    if ended_ms is not None:
        end_ms = min(end_ms, ceil_to(ended_ms, DAY_MS))
    seen_ms = state.seen_ms.get((life.name, life.life))
    if seen_ms is not None:
        end_ms = min(end_ms, floor_to(seen_ms + dataset.zone_ms, DAY_MS) - dataset.zone_ms)
    is_listed = (life.name, life.life) not in state.unlisted
    if dataset.use == "expired" and is_listed:
        end_ms = min(end_ms, _find_seam(dataset, feed, now_ms))
    if dataset.use == "ended" and (ended_ms is None or is_listed):
        end_ms = start_ms
    return Window(start_ms, max(start_ms, end_ms))


def _find_seam(dataset: Dataset, feed: RestFeed, now_ms: int) -> int:
    """Return until when files are taken of what REST keeps for a while: to the end of a day beyond its certain edge."""
    seam_ms = compute_retained_from_ms(feed, now_ms) + SEAM_MS
    return ceil_to(seam_ms + dataset.zone_ms, DAY_MS) - dataset.zone_ms


def _plan(
    state: ArchiveState, dataset: Dataset, feed: RestFeed, series: Series, life: Instrument, part: Window
) -> PlannedPeriod:
    """Plan one period; its job is named by the first metric of the dataset, so that all metrics are one job."""
    first = Series(name_perpspec(state.code, dataset.metrics[0]), series.symbol)
    period = dataset.find_period(part.start_ms)
    has_month = dataset.month is not None and period.end_ms + dataset.month_after_ms <= state.now_ms
    count = 1 if has_month else len(dataset.list_days(part)) + dataset.reaches_next_day
    span = period if has_month else part
    rows = dataset.count_rows(cut(span, Window(life.listed_ms or 0, span.end_ms)))
    is_listed = (life.name, life.life) not in state.unlisted
    is_kept = dataset.use != "expired" and part.start_ms >= compute_requested_from_ms(feed, state.now_ms)
    return PlannedPeriod(
        task=Task(first, part),
        dataset=dataset.name,
        period=period,
        files=count * _count_requests(state.archive),
        bytes=rows * dataset.bytes_per_row,
        rows=rows,
        feed=feed,
        effort=measure(feed, [part]) if is_kept and is_listed else None,
    )


def join_periods(planned: Iterable[PlannedPeriod]) -> list[PlannedPeriod]:
    """Return the periods with those of one dataset and contract joined: its metrics come in the same files."""
    joined: dict[tuple[Series, str, Window], PlannedPeriod] = {}
    for item in planned:
        key = item.task.series, item.dataset, item.period
        before = joined.get(key)
        if before is not None:
            windows = before.task.window, item.task.window
            hull = Window(min(window.start_ms for window in windows), max(window.end_ms for window in windows))
            longer = max(before, item, key=lambda each: each.files)
            item = replace(longer, task=Task(item.task.series, hull))
        joined[key] = item
    return list(joined.values())


def estimate_files_s(planned: Sequence[PlannedPeriod], *, share: float, limit: int, workers: int) -> float:
    """Return about how long the files take: their rate limit, their bytes, or reading and storing, what is longest."""
    count, rows = sum(item.files for item in planned), sum(item.rows for item in planned)
    size = sum(item.bytes for item in planned)
    by_rate_s = count / (limit * share)
    by_bytes_s = (size / BYTES_PER_S + count * OVERHEAD_S) / CONNECTIONS
    by_rows_s = rows / (ROWS_PER_S * max(1, workers))
    return max(by_rate_s, by_bytes_s, by_rows_s)


def enqueue_periods(services: Services, planned: Sequence[PlannedPeriod], *, at_front: bool = False) -> int:
    """Enqueue the jobs of periods, newest first; return how many were new to the queue.

    Candles go before what is measured by them.
    """
    ordered = sorted(planned, key=_priority)
    if at_front:
        ordered.reverse()
    return enqueue_imports(services.redis, [item.task for item in ordered], at_front=at_front)


def _priority(item: PlannedPeriod) -> tuple[int, int, Series]:
    return -item.task.window.end_ms // (31 * DAY_MS), 0 if item.effort is not None else 1, item.task.series
