"""The engine: turns a window of a feed into pages, and pages into checked rows. One loop for every exchange."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import chain, repeat
from threading import Lock

from fademoe.clock import LATEST_MS, Window, ceil_to, floor_to, merge, subtract
from fademoe.errors import BODY_EXCERPT, BadPayload, BudgetSpent, SourceError
from fademoe.feeds.history import Order, Page, RestFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.paging import group_gaps, pages, retained_from_ms
from fademoe.feeds.reading import Elements, read_elements
from fademoe.feeds.request import Request
from fademoe.metrics import Row
from fademoe.signals import Stopped

log = logging.getLogger(__name__)

Get = Callable[[Request, int], Json]  # (request, cost) -> decoded answer

CONFIRMED_AFTER_MS = 180_000  # a younger hole may still be filled; of an older one the nightly audit asks again


@dataclass(kw_only=True)
class Fetched:
    """What a window gave: rows by ts, and the ranges that were fully answered; `failed` ended it early.

    `errors` name the elements that were unreadable, `unreadable` are the spans of the pages that held them.
    """

    rows: dict[int, Row] = field(default_factory=dict)
    answered: list[Window] = field(default_factory=list)
    unreadable: list[Window] = field(default_factory=list)
    errors: list[BadPayload] = field(default_factory=list)
    failed: SourceError | Stopped | None = None

    def ordered(self) -> list[Row]:
        """Return the rows, oldest first."""
        return [self.rows[ts] for ts in sorted(self.rows)]


@dataclass(frozen=True, kw_only=True)
class Helpers:
    """Threads that fetch pages beside the caller, as long as the budget has units to spare.

    `hurried` raises BudgetSpent where units are not due soon, `patient` waits for them as the caller does; both are
    called by the threads of `pool`, of which `most` are used. In `breakable` the caller may be broken off by Stopped.
    """

    pool: Executor
    most: int
    hurried: Get
    patient: Get
    breakable: Callable[[], AbstractContextManager[None]]


def fetch(
    feed: RestFeed, instrument: Instrument, windows: Sequence[Window], get: Get, helpers: Helpers | None = None
) -> Fetched:
    """Fetch windows page by page, oldest first; an error ends it and what was answered is kept."""
    task = _Task(feed, instrument, windows)
    helping: set[Future[None]] = set()
    try:
        while task.has_more() or helping:
            if task.has_more():
                if helpers:
                    task.hire(helpers, helping)
                task.do_next(get)
            elif helpers:
                with helpers.breakable():
                    wait(helping, return_when=FIRST_COMPLETED)
            _dismiss(helping)
    except Stopped as stopped:
        task.fail(stopped)  # answers that are on their way are lost
    return task.result()


class _Task:
    """The pages that the caller and its helpers have to fetch, and what came of it."""

    def __init__(self, feed: RestFeed, instrument: Instrument, windows: Sequence[Window]) -> None:
        self._feed = feed
        self._instrument = instrument
        self._todo = deque(_asked(feed, windows))
        self._fetched = Fetched()
        self._lock = Lock()

    def has_more(self) -> bool:
        """Return whether there is a page to fetch."""
        return bool(self._todo) and self._fetched.failed is None

    def fail(self, error: SourceError | Stopped) -> None:
        """End the task; the first error counts."""
        self._fetched.failed = self._fetched.failed or error

    def result(self) -> Fetched:
        """Return what was fetched so far."""
        with self._lock:
            return Fetched(
                rows=dict(self._fetched.rows),
                answered=merge(self._fetched.answered),
                unreadable=merge(self._fetched.unreadable),
                errors=list(self._fetched.errors),
                failed=self._fetched.failed,
            )

    def hire(self, helpers: Helpers, helping: set[Future[None]]) -> None:
        """Let one more helper begin, if there is a page for it, with each page that the caller has but the first."""
        if self._fetched.answered and len(helping) < min(helpers.most, len(self._todo) - 1):
            helping.add(helpers.pool.submit(self._help, helpers))

    def do_next(self, get: Get) -> None:
        """Fetch the next page; an error ends the task, and what helpers are at is waited for. Stopped is raised."""
        try:
            self._next(get)
        except SourceError as error:
            self.fail(error)

    def _help(self, helpers: Helpers) -> None:
        """Fetch pages until none is left, the task has failed or the budget has no units to spare."""
        while self.has_more():
            first_hurried = chain([helpers.hurried], repeat(helpers.patient))
            try:
                self._next(lambda *request, turns=first_hurried: next(turns)(*request))
            except BudgetSpent:
                return
            except (SourceError, Stopped) as error:
                self.fail(error)

    def _next(self, get: Get) -> None:
        """Fetch the next page, if there is still one; it stays to be done when it cannot be had."""
        try:
            page, asked = self._todo.popleft()
        except IndexError:
            return
        try:
            rows, errors = _drain(self._feed, self._instrument, page, get)
        except (SourceError, Stopped):
            self._todo.appendleft((page, asked))
            raise
        with self._lock:
            self._fetched.rows.update((r.ts, r) for r in rows if any(w.start_ms <= r.ts < w.end_ms for w in asked))
            self._fetched.errors += errors
            if errors:
                self._fetched.unreadable.append(page)
            if not (errors and self._feed.sparse):  # of a sparse feed nobody can tell which row is missing
                self._fetched.answered += asked


def _dismiss(helping: set[Future[None]]) -> None:
    """Forget the helpers that have ended; a bug in one is raised here."""
    for done in [future for future in helping if future.done()]:
        helping.remove(done)
        done.result()


def _asked(feed: RestFeed, windows: Sequence[Window]) -> Iterator[tuple[Window, list[Window]]]:
    """Yield the span of each page that windows take, with the parts of them that lie on it."""
    for group in group_gaps(feed, windows):
        for page in pages(feed, Window(group[0].start_ms, group[-1].end_ms)):
            parts = [Window(max(page.start_ms, each.start_ms), min(page.end_ms, each.end_ms)) for each in group]
            yield page, parts


def confirm_holes(
    feed: RestFeed,
    instrument: Instrument,
    fetched: Fetched,
    exchange_now_ms: int,
    get: Get,
    helpers: Helpers | None = None,
) -> list[Window]:
    """Ask again for every hole; return those that stay, take young ones back out of what was answered.

    A hole is a range of the feed's grid inside the answered ranges for which no row came. The exchange gets a second
    question before it is believed, and a third by whoever comes next when the hole is younger than three minutes.
    Holes that lie on one page are asked for together: where many rows are missing each would cost a request. An
    exchange that sends fewer rows than were asked for is asked until no more come. A hole whose page holds an
    unreadable element stays missing. A hole older than what is kept for certain is believed at once. A sparse feed has
    no holes, but what is that old and before its first row is unknown.
    """
    kept_ms = retained_from_ms(feed, exchange_now_ms)
    if feed.sparse:
        known = Window(min([kept_ms, *fetched.rows]), LATEST_MS)
        return [part for window in fetched.answered for part in subtract(window, [known])]
    kept = Window(kept_ms, LATEST_MS)
    holes = [hole for window in fetched.answered for hole in _holes(feed, window, fetched.rows)]
    gone = [part for hole in holes for part in subtract(hole, [kept])]
    holes = [part for hole in holes for part in subtract(hole, gone)]
    vain: list[Window] = []  # asked for again, and nothing came
    unreadable: list[Window] = []  # asked for again, and what came cannot be read
    alone: list[Window] = []  # to be asked for one by one: which of them is unreadable is not known
    while (holes or alone) and fetched.failed is None:
        asked = _on_pages(feed, holes) + [(hole, [hole]) for hole in alone]
        holes, alone = [], []
        again = fetch(feed, instrument, [page for page, _ in asked], get, helpers)
        fetched.rows.update(again.rows)
        fetched.errors += again.errors
        fetched.failed = again.failed
        for page, before in asked:
            left = [part for hole in before for part in _holes(feed, hole, again.rows)]
            readable = [part for hole in left for part in subtract(hole, again.unreadable)]
            if readable != left and len(before) > 1:
                alone.extend(left)
                continue
            unreadable += [part for hole in left for part in subtract(hole, readable)]
            is_vain = left == before and not subtract(page, again.answered)
            (vain if is_vain else holes).extend(readable)
    young_ms = exchange_now_ms - CONFIRMED_AFTER_MS
    doubtful = holes + alone + unreadable + [hole for hole in vain if hole.end_ms > young_ms]
    fetched.answered = [left for window in fetched.answered for left in subtract(window, doubtful)]
    return sorted(gone + [hole for hole in vain if hole.end_ms <= young_ms])


def _drain(feed: RestFeed, instrument: Instrument, span: Window, get: Get) -> tuple[list[Row], list[BadPayload]]:
    """Return all rows of a span and what was unreadable, in as many requests as needed; each turn shrinks the span."""
    found: list[Row] = []
    errors: list[BadPayload] = []
    start_ms, end_ms = span
    if not feed.sparse and ceil_to(start_ms, feed.interval_ms) >= end_ms:
        return found, errors  # between two points of the grid there is no row
    while start_ms < end_ms:
        limit = min(feed.paging.rows, -(-(end_ms - start_ms) // feed.interval_ms))
        page = Page(instrument=instrument, start_ms=start_ms, end_ms=end_ms, limit=limit)
        request = feed.request(page)
        body = get(request, feed.paging.cost(limit))
        rows, unreadable = read_page(feed, page, request, body)
        found += rows
        errors += unreadable
        if feed.paging.exact or not rows:
            break
        if feed.paging.order is Order.OLDEST_FIRST:
            start_ms = max(row.ts for row in rows) + 1
        else:
            end_ms = min(row.ts for row in rows)
    return found, errors


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
        elements: Elements[Row] = read_elements(items, read)
        if not all(_is_placed(feed, page, row.ts) for row in elements.readable):
            elements = read_elements(items, read_placed)
        rows, errors = _distinct(elements.readable)
        errors += elements.errors(exchange, str(request))
        inside = [row for row in rows if page.start_ms <= row.ts < page.end_ms]
        is_newer = any(row.ts > page.end_ms for row in rows)  # not at it: ends may belong to the range
        if rows and not inside and not feed.sparse and (feed.paging.exact or is_newer):
            raise BadPayload(f"none of {len(items)} rows lies in the requested range")
    except BadPayload as error:
        error.locate(exchange, str(request), body)
        raise
    for unreadable in errors:
        unreadable.locate(exchange, str(request), body)
    return inside, errors


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


def _on_pages(feed: RestFeed, holes: Sequence[Window]) -> list[tuple[Window, list[Window]]]:
    """Join holes, ascending, to spans of a page at most; return each span with its holes."""
    spans: list[tuple[Window, list[Window]]] = []
    for hole in sorted(holes):
        if spans and hole.end_ms - spans[-1][0].start_ms <= feed.page_span_ms:
            span, before = spans.pop()
            spans.append((Window(span.start_ms, hole.end_ms), [*before, hole]))
        else:
            spans.append((hole, [hole]))
    return spans


def _holes(feed: RestFeed, window: Window, rows: Mapping[int, Row]) -> list[Window]:
    """Return the ranges of the grid inside `window` without a row, ascending."""
    step_ms = feed.interval_ms
    first, last = ceil_to(window.start_ms, step_ms), floor_to(window.end_ms - 1, step_ms)
    gone = [Window(ts, ts + step_ms) for ts in range(first, last + 1, step_ms) if ts not in rows]
    return merge(gone)
