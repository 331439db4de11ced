"""History endpoints: what a page is, and how a metric's rows are asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from fademoe.clock import DAY_MS, MINUTE_MS, SECOND_MS, Window
from fademoe.feeds.instrument import Instrument, Json, ParseItem
from fademoe.feeds.request import Params, Request, to_request
from fademoe.metrics import Row


class Order(StrEnum):
    """Which row of a full answer comes first, so where the next page continues."""

    OLDEST_FIRST = "oldest first"
    NEWEST_FIRST = "newest first"


@dataclass(frozen=True, kw_only=True)
class Page:
    """One request of a feed: rows with start_ms <= ts < end_ms, at most `limit` of them."""

    instrument: Instrument
    start_ms: int
    end_ms: int
    limit: int


PageParams = Callable[[Page], Params]  # the parameters that ask for a page


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How far back from now an endpoint's rows reach; None: to the listing of the contract.

    `certain_ms`: the exchange keeps rows at least that long. `possible_ms`: it may have rows up to that age, where that
    is further back; older rows are not requested.
    """

    certain_ms: int | None = None
    possible_ms: int | None = None

    @property
    def requested_ms(self) -> int | None:
        """Return how far back rows are requested; None: to the listing."""
        return self.possible_ms or self.certain_ms


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How soon a row is available, and how soon it is requested.

    `settle_ms`: how long after its interval's end a row may still change or be missing; younger rows are not requested.
    `live_edge_ms`: a gap at the newest end is requested only when it is longer: a stream fills it, or a later request
    that fills more.
    """

    settle_ms: int = 10 * SECOND_MS
    live_edge_ms: int = 3 * MINUTE_MS


@dataclass(frozen=True, kw_only=True)
class Paging:
    """How a span is split into requests.

    `costs`: (most rows of the request, its cost in the budget), ascending. The page size is the one with the most rows
    per unit of cost. `order`: which row of a full answer comes first.
    `exact`: a request asks for no more rows than one answer holds, so one answer completes its span. Otherwise the next
    request continues from the last row, until an answer is empty.
    `whole`: every answer has all rows that the exchange keeps of the contract, as no range can be asked for; those
    outside of a page are passed over. A long `window_ms`, and a page of as many rows, then save requests.
    `window_ms`: the longest window of one job. `coalesce_ms`: merge gaps younger than this into one request, where a
    request costs the same whatever its span; 0: never.
    """

    costs: tuple[tuple[int, int], ...]
    order: Order = Order.OLDEST_FIRST
    exact: bool = True
    whole: bool = False
    window_ms: int = 10 * DAY_MS
    coalesce_ms: int = 0

    def __post_init__(self) -> None:
        """Refuse a table that contradicts itself."""
        is_table = isinstance(self.costs, tuple | list) and all(isinstance(band, tuple | list) for band in self.costs)
        rows = [most_rows for most_rows, _ in self.costs] if is_table else []
        if not rows or rows != sorted(set(rows)) or min(min(band) for band in self.costs) < 1:
            raise ValueError(f"costs are a tuple of (most rows, cost), ascending and above zero, not {self.costs!r}")
        if self.window_ms < 1:
            raise ValueError(f"a window is longer than {self.window_ms} ms")

    @property
    def rows(self) -> int:
        """Return the rows of a page: the size with the most rows per unit of cost."""
        return max(self.costs, key=lambda band: band[0] / band[1])[0]

    def compute_cost(self, rows: int) -> int:
        """Return the cost of a request for `rows` rows; raise ValueError above the largest page."""
        for most_rows, cost in self.costs:
            if rows <= most_rows:
                return cost
        raise ValueError(f"{rows} rows are more than a page holds")


@dataclass(frozen=True, kw_only=True)
class Together:
    """A request for the rows of all contracts: `params(window)` asks for those of a window, the oldest win.

    `name` and `time` are the members of an element that hold the exchange's name of its contract and its time, in ms.
    `rows`: of a full answer; the next request continues from its last row.
    """

    params: Callable[[Window], Params]
    name: str
    time: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Newest:
    """How the newest rows of a metric are requested: once a minute, by one job for all contracts that lack some.

    Where a stream brings the metric too, these are the rows that it did not bring, for a minute without trades or a
    lost message: what waits for the minute waits for seconds then, not until the gap is looked at.
    `rows`: the most rows of a request, which begins at the first one that is missing. What is missing before them comes
    as every gap does.
    `at_s`: the second of each minute at which the job is enqueued.
    `settle_ms`: how long after its end a row is requested, where an answer tells itself which rows are final; None: as
    `Latency` says.
    `grid_ms`, of a sparse feed: rows lie on its multiples and nowhere else. Then rows are requested when one may be
    new, until it is there (jobs/newest_settlements.py); `rows` counts multiples, and `together` asks for all contracts
    at once.
    """

    rows: int
    grid_ms: int = 0
    together: Together | None = None
    at_s: float = 20.0
    settle_ms: int | None = None


class ParseAll(Protocol):
    """Reads all elements of an answer at once; raises BadPayload when any is not as expected."""

    def __call__(self, items: Sequence[Json], instrument: Instrument) -> list[Row]:
        """Return the rows of the elements."""


@dataclass(frozen=True, kw_only=True)
class RestFeed:
    """A history endpoint of one metric.

    `params(page)` are the query parameters of a request; `body(page)` is its JSON body, where the endpoint takes one by
    POST. `items(answer, page)` are the elements of its answer; it raises BadPayload when the answer is not one for the
    page, not for a fault of one element. `parse(item, instrument)` reads one element, None where it holds no row.
    `parse_all(items, instrument)` reads all elements of a good answer at once, see `read_elements`.
    `sparse`: an interval without a row is a fact (no settlement, no liquidation), not a gap; a doubtful one is asked
    for twice (jobs/silences.py). `due_every_ms`: a sparse feed has a row at least that often while the contract
    trades, so a longer range without one is a gap; 0: never.
    `recent`: the endpoint for rows younger than `recent_ms`, where this one lags behind or does not reach.
    `newest`: how the newest rows are requested each minute; None: not before they are a gap (`live_edge_ms`).
    `link(row, previous_ms)` completes a row by the time of the row before, which may come after it.
    `serves`: whether the exchange has the metric of an instrument in a unit that can be stored.
    `lag_ms`: how long after the end of a row's span our database has it on a healthy host; None: what follows from
    `latency` and `paging` (see feeds.lags). `lag_why` is where a stated one comes from.
    """

    metric: str
    path: str
    budget: str
    items: Callable[[Json, Page], Sequence[Json]]
    parse: ParseItem
    source: str
    paging: Paging
    parse_all: ParseAll | None = None
    params: PageParams = lambda page: {}
    body: Callable[[Page], Json] = lambda page: None
    latency: Latency = Latency()
    retention: Retention = Retention()
    interval: str = "1m"
    interval_ms: int = MINUTE_MS
    sparse: bool = False
    due_every_ms: int = 0
    recent: "RestFeed | None" = None
    recent_ms: int = 0
    newest: Newest | None = None
    link: Callable[[Row, int | None], Row] | None = None
    serves: Callable[[Instrument], bool] = lambda instrument: True
    lag_ms: int | None = None
    lag_why: str = ""

    def __post_init__(self) -> None:
        """Refuse a table that contradicts itself."""
        if self.interval_ms < 1:
            raise ValueError(f"history of {self.metric}: interval_ms is {self.interval_ms}")
        if (self.due_every_ms or (self.newest and self.newest.grid_ms)) and not self.sparse:
            raise ValueError(f"history of {self.metric}: due_every_ms and grid_ms are of sparse feeds")
        if self.newest and self.newest.rows < 1:
            raise ValueError(f"history of {self.metric}: newest asks for {self.newest.rows} rows")
        alike = [(each.metric, each.interval, each.interval_ms, each.sparse) for each in (self, self.recent or self)]
        if alike[0] != alike[1]:
            raise ValueError(f"history of {self.metric}: recent has other rows, of {alike[1]}, not of {alike[0]}")
        if bool(self.recent) != bool(self.recent_ms):
            raise ValueError(f"history of {self.metric}: recent and recent_ms belong together")

    @property
    def page_span_ms(self) -> int:
        """Return the longest span of one request."""
        return self.paging.rows * self.interval_ms

    def make_request(self, page: Page) -> Request:
        """Return the request for a page."""
        return to_request(self.path, self.params(page), self.body(page))
