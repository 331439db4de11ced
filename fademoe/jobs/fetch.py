"""The engine: turns windows of a feed into pages, and pages into checked rows. One loop for every exchange."""

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat
from operator import attrgetter, mod
from typing import Protocol

from fademoe.clock import LATEST_MS, Window, ceil_to, floor_to, merge, subtract
from fademoe.errors import BODY_EXCERPT, BadPayload, BudgetSpent, SourceError
from fademoe.feeds.history import Order, Page, RestFeed
from fademoe.feeds.instrument import Instrument, Json, clip_to_listing
from fademoe.feeds.paging import PageParts, compute_retained_from_ms, group_on_pages, list_pages, split_into_pages
from fademoe.feeds.reading import Elements, read_elements
from fademoe.feeds.request import Request
from fademoe.metrics import Row
from fademoe.signals import Stopped

DUE_TOLERANCE_MS = 60_000  # stamps of settlements vary by seconds
YOUNG_HOLE_MS = 180_000  # a younger hole may still be filled; of an older one the nightly audit asks again
_ts = attrgetter("ts")


class PageClient(Protocol):
    """Sends the requests for pages of one feed, from any thread."""

    def get(self, feed: RestFeed, page: Page, *, opportunistic: bool = False) -> Json:
        """Return the decoded answer; raise SourceError or Stopped.

        `opportunistic`: use spare units of the rate limit only; raises BudgetSpent where there are none.
        """

    def allow_interrupt(self) -> AbstractContextManager[None]:
        """Let a stop raise Stopped in the block, for the thread that waits for others."""


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What windows gave.

    `rows` by ts. `answered`: the ranges that were fully answered, ascending. `absent`: what of them the exchange does
    not have. `errors` name the elements that were unreadable, `unreadable` are the spans of the pages that held them.
    `failed` is the error that ended it early.
    """

    rows: Mapping[int, Row] = field(default_factory=dict)
    answered: Sequence[Window] = ()
    absent: Sequence[Window] = ()
    unreadable: Sequence[Window] = ()
    errors: Sequence[BadPayload] = ()
    failed: SourceError | Stopped | None = None

    def list_rows(self) -> list[Row]:
        """Return the rows, oldest first."""
        return [self.rows[ts] for ts in sorted(self.rows)]


def fetch(
    feed: RestFeed, instrument: Instrument, windows: Sequence[Window], client: PageClient, *, helpers: int = 0
) -> Fetched:
    """Fetch ascending windows page by page, oldest first, with up to `helpers` threads beside this one.

    Returns the rows inside `windows`. The first error ends it and is returned as `failed`; what was answered before is
    kept. A bug in a helper is raised.
    """
    return _fetch_pages(feed, instrument, list_pages(feed, windows), client, helpers)


def _fetch_pages(
    feed: RestFeed, instrument: Instrument, pages: Sequence[PageParts], client: PageClient, helpers: int
) -> Fetched:
    """Fetch pages; see `fetch`."""
    queue = PageQueue(feed, pages)
    prefetcher = Prefetcher(feed, instrument, queue, client, helpers)
    try:
        while queue.has_pages():
            prefetcher.submit()
            try:
                _fetch_next(feed, instrument, queue, client)
            except SourceError as error:
                queue.fail(error)
            if not queue.has_pages():
                prefetcher.collect()  # a helper without units to spare puts its page back
    except Stopped as stopped:
        queue.fail(stopped)  # answers that are on their way are lost
    finally:
        prefetcher.close()
    return queue.get_result()


class PageQueue:
    """The pages that several threads fetch, and what came of them."""

    def __init__(self, feed: RestFeed, pages: Sequence[PageParts]) -> None:
        self._is_sparse = feed.sparse
        self._pages = deque(pages)
        self._rows: dict[int, Row] = {}
        self._answered: list[Window] = []
        self._unreadable: list[Window] = []
        self._errors: list[BadPayload] = []
        self._failed: SourceError | Stopped | None = None
        self._lock = threading.Lock()

    def has_pages(self) -> bool:
        """Return whether there is a page to fetch and nothing has failed."""
        return bool(self._pages) and self._failed is None

    def has_room(self, helpers: int) -> bool:
        """Return whether one more helper finds a page: the first answer is there, and pages for all are left."""
        return bool(self._answered) and helpers < len(self._pages) - 1 and self._failed is None

    def take(self) -> PageParts | None:
        """Return the next page, None when there is none."""
        with self._lock:
            return self._pages.popleft() if self.has_pages() else None

    def put_back(self, page: PageParts) -> None:
        """Return a page that could not be fetched."""
        self._pages.appendleft(page)

    def add(self, page: PageParts, rows: Sequence[Row], errors: Sequence[BadPayload]) -> None:
        """Add what came of an answered page: the rows inside its requested parts, and what was unreadable."""
        span, parts = page
        with self._lock:
            if parts != [span]:  # mostly the whole page is requested, and all its rows lie inside
                rows = [row for row in rows if any(part.start_ms <= row.ts < part.end_ms for part in parts)]
            self._rows.update(zip(map(_ts, rows), rows, strict=True))
            self._errors += errors
            if errors:
                self._unreadable.append(span)
            if not (errors and self._is_sparse):  # of a sparse feed it is not known which row is missing
                self._answered += parts

    def fail(self, error: SourceError | Stopped) -> None:
        """End the work; the first error counts."""
        self._failed = self._failed or error

    def get_result(self) -> Fetched:
        """Return what was fetched so far."""
        with self._lock:
            return Fetched(
                rows=dict(self._rows),
                answered=merge(self._answered),
                unreadable=merge(self._unreadable),
                errors=list(self._errors),
                failed=self._failed,
            )


class Prefetcher:
    """Threads that fetch pages of a queue beside its owner, as long as the rate limit has units to spare."""

    def __init__(
        self, feed: RestFeed, instrument: Instrument, queue: PageQueue, client: PageClient, max_threads: int
    ) -> None:
        self._feed = feed
        self._instrument = instrument
        self._queue = queue
        self._client = client
        self._pool = ThreadPoolExecutor(max_threads) if max_threads else None
        self._max_threads = max_threads
        self._running: list[Future[None]] = []

    def submit(self) -> None:
        """Start one more thread if there is a page for it."""
        self._drop_finished()
        if self._pool and len(self._running) < self._max_threads and self._queue.has_room(len(self._running)):
            self._running.append(self._pool.submit(self._run))

    def collect(self) -> None:
        """Wait for the threads; raise Stopped when a stop is requested, or the bug that ended one of them."""
        with self._client.allow_interrupt():
            wait(self._running)
        self._drop_finished()

    def close(self) -> None:
        """Let the threads end by themselves; nothing more is fetched."""
        if self._pool:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _drop_finished(self) -> None:
        """Forget the threads that have ended; a bug in one is raised here."""
        for future in [future for future in self._running if future.done()]:
            self._running.remove(future)
            future.result()

    def _run(self) -> None:
        """Fetch pages until none is left; the first one only with units to spare, the others as its owner does."""
        try:
            _fetch_next(self._feed, self._instrument, self._queue, self._client, opportunistic=True)
            while self._queue.has_pages():
                _fetch_next(self._feed, self._instrument, self._queue, self._client)
        except BudgetSpent:
            return
        except (SourceError, Stopped) as error:
            self._queue.fail(error)


def _fetch_next(
    feed: RestFeed, instrument: Instrument, queue: PageQueue, client: PageClient, *, opportunistic: bool = False
) -> None:
    """Fetch the next page of a queue, if there is one; it is put back when the request fails."""
    page = queue.take()
    if page is None:
        return
    answer = None
    try:
        answer = _drain(feed, instrument, page.span, client, opportunistic=opportunistic)
    finally:
        if answer is None:
            queue.put_back(page)
    queue.add(page, *answer)


def request_holes_again(
    feed: RestFeed,
    instrument: Instrument,
    fetched: Fetched,
    exchange_now_ms: int,
    client: PageClient,
    *,
    helpers: int = 0,
) -> Fetched:
    """Request each hole again and return what is known then; `fetched` is not changed.

    A hole is a range of the feed's grid inside `answered` without a row. What of it is older than YOUNG_HOLE_MS is
    `absent` when it stays; what is younger, and a hole whose page holds an unreadable element, is taken out of
    `answered`, so that it stays missing. What is older than the exchange certainly retains is absent without another
    request. A sparse feed has holes only where rows are due (`due_every_ms`); what it may not retain, before its first
    row, is absent.
    """
    expired = find_expired_ranges(feed, fetched, exchange_now_ms)
    alive = [clip_to_listing(instrument, window) for window in fetched.answered] if feed.sparse else fetched.answered
    holes = [part for hole in find_holes(feed, alive, fetched.rows) for part in subtract(hole, expired)]
    retained_ms = compute_retained_from_ms(feed, exchange_now_ms)
    again, unfilled, unanswered = _request_again(feed, instrument, fetched, holes, client, helpers, retained_ms)
    absent, young = classify(feed, unfilled, exchange_now_ms)
    answered = [part for window in fetched.answered for part in subtract(window, [*unanswered, *young])]
    return replace(again, answered=answered, absent=sorted([*expired, *absent]))


def find_holes(feed: RestFeed, windows: Sequence[Window], rows: Mapping[int, Row]) -> list[Window]:
    """Return the ranges of the feed's grid inside ascending windows that have no row.

    Of a sparse feed: the ranges in which a row was due, see `find_overdue`.
    """
    if feed.sparse:
        due_ms = feed.due_every_ms
        return [hole for window in windows for hole in find_overdue(rows, window, due_ms)] if due_ms else []
    step_ms = feed.interval_ms
    return [
        hole
        for window in windows
        for hole in merge(
            Window(ts, ts + step_ms)
            for ts in range(ceil_to(window.start_ms, step_ms), floor_to(window.end_ms - 1, step_ms) + 1, step_ms)
            if ts not in rows
        )
    ]


def find_overdue(times: Iterable[int], window: Window, due_every_ms: int, *, at_edges: bool = False) -> list[Window]:
    """Return the ranges of a window in which a row of a sparse feed was due and none came.

    Two rows are at most `due_every_ms` apart. They may be due more often: where they are farther apart than the two
    before them and the two behind them, one is missing, too. Where the interval changes one side is as long. Beside the
    edges of the window, which may lie between two rows, that is not judged, unless `at_edges`.
    """
    inside = sorted(ts for ts in times if window.start_ms <= ts < window.end_ms)
    edges = list(zip([window.start_ms, *(ts + 1 for ts in inside)], [*inside, window.end_ms], strict=True))
    longest = [due_every_ms] * len(edges)
    for number in range(len(edges)) if at_edges else range(2, len(edges) - 2):
        beside = [*edges[max(0, number - 1) : number], *edges[number + 1 : number + 2]]
        longest[number] = min([due_every_ms, max(map(_measure_span, beside), default=due_every_ms)])
    return [
        Window(*edge)
        for edge, longest_ms in zip(edges, longest, strict=True)
        if _measure_span(edge) > longest_ms + DUE_TOLERANCE_MS
    ]


def _measure_span(edge: tuple[int, int]) -> int:
    return edge[1] - edge[0]


def find_expired_ranges(feed: RestFeed, fetched: Fetched, exchange_now_ms: int) -> list[Window]:
    """Return the answered ranges without a row that are older than what the exchange certainly retains."""
    retained_ms = compute_retained_from_ms(feed, exchange_now_ms)
    if not retained_ms:
        return []
    if feed.sparse:
        since_first_row = Window(min([retained_ms, *fetched.rows]), LATEST_MS)
        return [part for window in fetched.answered for part in subtract(window, [since_first_row])]
    retained = Window(retained_ms, LATEST_MS)
    holes = find_holes(feed, fetched.answered, fetched.rows)
    return [part for hole in holes for part in subtract(hole, [retained])]


def classify(feed: RestFeed, holes: Sequence[Window], exchange_now_ms: int) -> tuple[list[Window], list[Window]]:
    """Return (absent, unconfirmed) of holes that were requested twice: rows that are young may still come."""
    old = Window(0, floor_to(exchange_now_ms - YOUNG_HOLE_MS, feed.interval_ms))
    young = [part for hole in holes for part in subtract(hole, [old])]
    return [part for hole in holes for part in subtract(hole, young)], young


def _request_again(
    feed: RestFeed,
    instrument: Instrument,
    fetched: Fetched,
    holes: Sequence[Window],
    client: PageClient,
    helpers: int,
    retained_ms: int,
) -> tuple[Fetched, list[Window], Sequence[Window]]:
    """Request holes until nothing more comes, each with a row before it and one behind it, not before `retained_ms`.

    Returns `fetched` with the new rows, the holes that an answer brought nothing for, and those without an answer or
    with an unreadable one. Holes that lie on one page share a request, and of a hole that is longer each page is
    answered by itself, except for a sparse feed; an exchange that sends fewer rows than were requested is asked until
    an answer brings none.
    """
    rows, errors, failed = dict(fetched.rows), list(fetched.errors), fetched.failed
    unfilled: list[Window] = []
    unreadable: list[Window] = []
    alone: list[Window] = []  # to be requested one by one: which of them is unreadable is not known
    while (holes or alone) and failed is None:
        requested = _join_on_pages(feed, holes) + [PageParts(hole, [hole]) for hole in alone]
        spans = [page for span, _ in requested for page in split_into_pages(feed, span)]
        pages = [PageParts(_widen(feed, page, retained_ms), [page]) for page in spans]
        again = _fetch_pages(feed, instrument, pages, client, helpers)
        rows.update(again.rows)
        errors += again.errors
        failed, unanswered, alone = again.failed, list[Window](), list[Window]()
        for span, before in requested:
            left = _find_left(feed, before, again.rows)
            readable = [part for hole in left for part in subtract(hole, again.unreadable)]
            if readable != left and len(before) > 1:
                alone += left
                continue
            unreadable += [part for hole in left for part in subtract(hole, readable)]
            is_unfilled = left == before and not subtract(span, again.answered)
            (unfilled if is_unfilled else unanswered).extend(readable)
        holes = unanswered
    return replace(fetched, rows=rows, errors=errors, failed=failed), merge(unfilled), [*holes, *alone, *unreadable]


def _widen(feed: RestFeed, page: Window, earliest_ms: int) -> Window:
    """Return a page with its neighbours, if they fit: a hole may be there because its row is the first or the last."""
    step_ms = feed.interval_ms
    wide = Window(max(page.start_ms - step_ms, min(page.start_ms, earliest_ms)), page.end_ms + step_ms)
    is_wider = not feed.sparse and not feed.paging.whole and wide.end_ms - wide.start_ms <= feed.page_span_ms
    return wide if is_wider else page


def _find_left(feed: RestFeed, holes: Sequence[Window], rows: Mapping[int, Row]) -> list[Window]:
    """Return what is left of holes that were requested again; one of a sparse feed stays whole until a row comes."""
    if not feed.sparse:
        return find_holes(feed, holes, rows)
    unchanged = [hole for hole in holes if not any(hole.start_ms <= ts < hole.end_ms for ts in rows)]
    changed = [hole for hole in holes if hole not in unchanged]
    return sorted([*unchanged, *find_holes(feed, changed, rows)])


def _join_on_pages(feed: RestFeed, holes: Sequence[Window]) -> list[PageParts]:
    """Join holes to spans of a page at most, and cut those of a dense feed that are longer.

    A hole of a sparse feed is one as a whole only: rows may be due in it, and in no part of it.
    """
    if not feed.sparse:
        return list_pages(feed, sorted(holes))
    groups = group_on_pages(feed, sorted(holes))
    return [PageParts(Window(group[0].start_ms, group[-1].end_ms), group) for group in groups]


def _drain(
    feed: RestFeed, instrument: Instrument, span: Window, client: PageClient, *, opportunistic: bool
) -> tuple[list[Row], list[BadPayload]]:
    """Return all rows of a span and what was unreadable, in as many requests as needed; each turn shrinks the span."""
    rows: list[Row] = []
    errors: list[BadPayload] = []
    start_ms, end_ms = span
    if not feed.sparse and ceil_to(start_ms, feed.interval_ms) >= end_ms:
        return rows, errors  # between two points of the grid there is no row
    while start_ms < end_ms:
        limit = min(feed.paging.rows, -(-(end_ms - start_ms) // feed.interval_ms))
        page = Page(instrument=instrument, start_ms=start_ms, end_ms=end_ms, limit=limit)
        body = client.get(feed, page, opportunistic=opportunistic and not rows)
        answer, unreadable = read_page(feed, page, feed.make_request(page), body)
        rows += answer
        errors += unreadable
        if feed.paging.exact or not answer:
            break
        if feed.paging.order is Order.OLDEST_FIRST:
            start_ms = max(row.ts for row in answer) + 1
        else:
            end_ms = min(row.ts for row in answer)
    return rows, errors


def read_page(feed: RestFeed, page: Page, request: Request, body: Json) -> tuple[list[Row], list[BadPayload]]:
    """Return the rows of one answer that lie inside the page, and an error for each element that is unreadable.

    Raises BadPayload when the answer is not one for this page, or when most of its elements are unreadable.
    """
    exchange, instrument, parse = page.instrument.exchange, page.instrument, feed.parse

    def read(item: Json) -> Row | None:
        return parse(item, instrument)

    def read_placed(item: Json) -> Row | None:
        return _placed(feed, page, parse(item, instrument))

    try:
        items = feed.items(body, page)
        read_all = partial(feed.parse_all, instrument=instrument) if feed.parse_all else None
        elements: Elements[Row] = read_elements(items, read, read_all)
        times = list(map(_ts, elements.readable))
        if not elements.unreadable and _are_rows_of(feed, page, times):
            return elements.readable, []
        is_whole = feed.paging.whole
        is_newer = not is_whole and max(times, default=0) > page.end_ms  # not at it: ends may belong to the range
        if is_newer if feed.sparse else any(ts % feed.interval_ms for ts in times):
            elements = read_elements(items, read_placed)
        rows, errors = _distinct(elements.readable)
        errors += elements.make_errors(exchange, str(request))
        inside = [row for row in rows if page.start_ms <= row.ts < page.end_ms]
        if rows and not inside and not feed.sparse and not is_whole and (feed.paging.exact or is_newer):
            raise BadPayload(f"none of {len(items)} rows lies in the requested range")
    except BadPayload as error:
        error.locate(exchange, str(request), body)
        raise
    for unreadable in errors:
        unreadable.locate(exchange, str(request), body)
    return inside, errors


def _are_rows_of(feed: RestFeed, page: Page, times: Sequence[int]) -> bool:
    """Return whether all times lie inside the page and on the grid, each once: nearly every answer is so."""
    return (
        len(set(times)) == len(times)
        and page.start_ms <= min(times, default=page.start_ms)
        and max(times, default=page.start_ms) < page.end_ms
        and (feed.sparse or not any(map(mod, times, repeat(feed.interval_ms))))
    )


def _is_placed(feed: RestFeed, page: Page, ts: int) -> bool:
    """Return whether a row of the page may have this ts: on the grid; of a sparse feed not after the page."""
    if feed.sparse:
        return ts <= page.end_ms
    return not ts % feed.interval_ms or not page.start_ms <= ts < page.end_ms


def _placed(feed: RestFeed, page: Page, row: Row | None) -> Row | None:
    if row is not None and not _is_placed(feed, page, row.ts):
        place = "after the requested range" if feed.sparse else f"not on the grid of {feed.interval}"
        raise BadPayload(f"ts {row.ts} is {place}")
    return row


def _distinct(rows: Sequence[Row]) -> tuple[list[Row], list[BadPayload]]:
    """Return the rows, each once, without those of one ts that differ; and an error for each such ts."""
    by_ts = {row.ts: row for row in rows}
    if len(by_ts) == len(rows):
        return list(rows), []
    differing = {row.ts: row for row in rows if by_ts[row.ts] != row}
    errors = [
        BadPayload(f"two rows of ts {ts} differ", body=f"{by_ts[ts]} {other}"[:BODY_EXCERPT])
        for ts, other in differing.items()
    ]
    return [row for ts, row in by_ts.items() if ts not in differing], errors
