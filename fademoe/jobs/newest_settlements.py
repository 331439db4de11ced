"""The newest settlements, as soon as they are public: requested when one may be new, once a minute until it is there.

Settlements lie on the points of a grid (Newest.grid_ms, whole hours) and nowhere else. So between two points nothing
can be missing, and no request is needed to know it. A point is answered by its settlement. Of a contract that was not
to settle then, it is also answered by an answer without one, given when the settlement would have been public. A point
that is not answered stays a gap, and is fetched as every gap is, later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from fademoe.clock import HOUR_MS, MINUTE_MS, SECOND_MS, Window, ceil_to, floor_to
from fademoe.errors import BadPayload
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import Newest, Page, RestFeed, Together
from fademoe.feeds.instrument import Instrument, Json, clip_to_listing
from fademoe.feeds.reading import Elements, read_elements
from fademoe.feeds.request import to_request
from fademoe.feeds.values import get_member, read_records, read_text, to_ms
from fademoe.jobs.fetch import read_page
from fademoe.jobs.rounds import Answer
from fademoe.metrics import Row, name_perpspec
from fademoe.runtime.services import Services
from fademoe.store import coverage, settlements
from fademoe.store.coverage import Covered, Series
from fademoe.store.settlements import Settled

PUBLIC_MS = 60 * SECOND_MS  # after a point: what is not public then did not happen, unless it was to
PAGES_MOST = 10  # of a request for all contracts


@dataclass(kw_only=True)
class Candidate:
    """A contract that may have new settlements: what of its newest range is missing, and what is known of it.

    `settled`: its newest settlements, ascending. `requested_ms`: when it was last requested, 0 for never.
    """

    instrument: Instrument
    series: Series
    gaps: list[Window]
    settled: list[Settled] = field(default_factory=list)
    requested_ms: int = 0

    def add(self, rows: Sequence[Row], requested_ms: int) -> None:
        """Take an answer that was requested at `requested_ms`."""
        found = {floor_to(row.ts, MINUTE_MS): getattr(row, "fr_hours", None) for row in rows}
        known = {each.ts: each.hours for each in self.settled}
        self.settled = [Settled(ts, hours) for ts, hours in sorted((known | found).items())]
        self.requested_ms = requested_ms

    def is_expected(self, point: int) -> bool:
        """Return whether a settlement is to come at a point, by the one before it; without one it may."""
        before = [each for each in self.settled if each.ts < point]
        return not before or before[-1].hours is None or before[-1].ts + before[-1].hours * HOUR_MS <= point

    def list_answered(self, newest: Newest) -> list[Window]:
        """Return what of the gaps is known: up to the first point that is not answered."""
        times = {each.ts for each in self.settled}
        answered = []
        for gap in self.gaps:
            end_ms = gap.end_ms
            for point in range(ceil_to(gap.start_ms, newest.grid_ms), gap.end_ms, newest.grid_ms):
                if point not in times and (self.requested_ms < point + PUBLIC_MS or self.is_expected(point)):
                    end_ms = point
                    break
            if end_ms > gap.start_ms:
                answered.append(Window(gap.start_ms, end_ms))
        return answered

    def may_be_new(self, newest: Newest, time_ms: int) -> bool:
        """Return whether an answer at `time_ms` can tell of a point that is missing."""
        points = chain.from_iterable(
            range(ceil_to(gap.start_ms, newest.grid_ms), gap.end_ms, newest.grid_ms) for gap in self.gaps
        )
        return any(self.is_expected(point) or time_ms >= point + PUBLIC_MS for point in points)


def find_range(newest: Newest, time_ms: int) -> Window:
    """Return the newest range at the exchange's time: closed minutes, and the one of the newest point."""
    until_ms = max(floor_to(time_ms, MINUTE_MS), floor_to(time_ms, newest.grid_ms) + MINUTE_MS)
    return Window(floor_to(time_ms, newest.grid_ms) - newest.rows * newest.grid_ms, until_ms)


def plan(
    services: Services, feed: RestFeed, newest: Newest, followed: Sequence[Instrument], time_ms: int
) -> list[Candidate]:
    """Return the contracts that lack a part of the newest range, those first that lack it longest."""
    span = find_range(newest, time_ms)
    by_series = {Series(name_perpspec(each.code, feed.metric), each.symbol): each for each in followed}
    candidates: dict[Series, Candidate] = {}
    with services.database.open_transaction() as cursor:
        for source in {series.source for series in by_series}:
            for series, gap in coverage.find_gaps(cursor, source, span.end_ms):
                if series in by_series and gap.end_ms > span.start_ms:
                    part = clip_to_listing(by_series[series], Window(max(gap.start_ms, span.start_ms), gap.end_ms))
                    if part.start_ms < part.end_ms:
                        candidate = Candidate(instrument=by_series[series], series=series, gaps=[])
                        candidates.setdefault(series, candidate).gaps.append(part)
            for symbol, settled in settlements.list_newest(cursor, source, span).items():
                if Series(source, symbol) in candidates:
                    candidates[Series(source, symbol)].settled = [settled]
    return sorted(candidates.values(), key=lambda each: (each.gaps[0].start_ms, each.instrument.name))


def request_one(
    services: Services, exchange: Exchange, feed: RestFeed, newest: Newest, candidate: Candidate, max_wait_s: float
) -> Answer:
    """Ask for one contract; see `read_answer`."""
    time_ms = services.clocks.now_ms(exchange)
    request = feed.make_request(_make_page(feed, newest, candidate, time_ms))
    body = services.rest.send(exchange, request, budget=feed.budget, cost=1, live=True, max_wait_s=max_wait_s)
    return read_answer(feed, newest, candidate, body, time_ms)


def request_together(
    services: Services,
    exchange: Exchange,
    feed: RestFeed,
    newest: Newest,
    wanted: Sequence[Candidate],
    max_wait_s: float,
) -> Iterator[Answer]:
    """Ask for all contracts at once; yield the answer of each one that is wanted, and what names no contract.

    One that cannot be read costs the others nothing. While an element names no contract, only settlements are an answer
    to a point, not that there is none.
    """
    assert newest.together is not None
    time_ms = services.clocks.now_ms(exchange)
    span = find_range(newest, time_ms)
    earlier_ms = newest.rows * newest.grid_ms  # as much before, for the settlement before the first one
    longer = Window(span.start_ms - earlier_ms, span.end_ms)
    elements, unnamed = _fetch_all(services, exchange, feed, newest.together, longer, max_wait_s)
    for candidate in wanted:
        try:
            rows, errors = read_answer(feed, newest, candidate, elements.get(candidate.instrument.name, []), time_ms)
        except BadPayload as error:
            rows, errors = [], [error]
        if unnamed:
            candidate.requested_ms = 0  # one of them may be the settlement that this contract lacks
        yield rows, errors
    yield [], unnamed


def read_answer(feed: RestFeed, newest: Newest, candidate: Candidate, body: Json, requested_ms: int) -> Answer:
    """Return the settlements of a contract and an error for each unreadable element; `candidate` notes what they tell.

    The settlements of the hours before the gaps come again, so one that came late is stored all the same. An answer
    with an unreadable element proves nothing.
    """
    page = _make_page(feed, newest, candidate, requested_ms)
    rows, errors = read_page(feed, page, feed.make_request(page), body)
    if not errors:
        candidate.add(rows, requested_ms)
    return [(candidate.series, row) for row in rows], errors


def _make_page(feed: RestFeed, newest: Newest, candidate: Candidate, time_ms: int) -> Page:
    span = clip_to_listing(candidate.instrument, find_range(newest, time_ms))
    return Page(instrument=candidate.instrument, start_ms=span.start_ms, end_ms=span.end_ms, limit=feed.paging.rows)


def _fetch_all(
    services: Services, exchange: Exchange, feed: RestFeed, together: Together, span: Window, max_wait_s: float
) -> tuple[dict[str, list[Json]], list[BadPayload]]:
    """Return the elements of a window by contract, page after page, and an error for each that names none."""
    elements: dict[str, list[Json]] = {}
    errors: list[BadPayload] = []
    for _ in range(PAGES_MOST):
        request = to_request(feed.path, together.params(span), None)
        with services.stop.allow_interrupt():
            body = services.rest.send(exchange, request, budget=feed.budget, cost=1, live=True, max_wait_s=max_wait_s)
        try:
            named, newest_ms = read_together(together, body, span)
        except BadPayload as error:
            error.locate(exchange.name, str(request), body)
            raise
        for name, element in named.readable:
            elements.setdefault(name, []).append(element)
        errors += named.make_errors(exchange.name, str(request))
        if len(body) < together.rows:
            return elements, errors
        if newest_ms <= span.start_ms:
            break
        span = Window(newest_ms, span.end_ms)
    raise BadPayload(f"{PAGES_MOST} answers do not hold the settlements of {span}")


def read_together(together: Together, body: Json, span: Window) -> tuple[Elements[tuple[str, Json]], int]:
    """Return the elements of an answer with the contracts that they name, and the newest time in them, of the span.

    A time that cannot be read, or lies after the span, does not count. Raises BadPayload when most elements have no
    name or no time.
    """
    items = read_records(body)
    named = read_elements(items, lambda item: (read_text(get_member(item, together.name)), item))
    times = read_elements(items, lambda item: to_ms(get_member(item, together.time))).readable
    return named, max((ts for ts in times if ts <= span.end_ms), default=span.start_ms)


def list_answers(newest: Newest, candidates: Sequence[Candidate]) -> list[Covered]:
    """Return what is known of the contracts now."""
    answers = [Covered(each.series, each.list_answered(newest)) for each in candidates]
    return [answer for answer in answers if answer.windows]
