"""History endpoints: what a page is, and how a metric's rows are asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from fademoe.clock import DAY_MS, MINUTE_MS, SECOND_MS
from fademoe.feeds.instrument import Instrument, Json
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


PageParams = Callable[[Page], Mapping[str, str | int]]  # the parameters that ask for a page


@dataclass(frozen=True, kw_only=True)
class RestFeed:
    """A history endpoint of one metric.

    `costs`: (rows asked for at most, cost in the budget), ascending; the page size is the one with most rows per cost.
    `settle_ms`: how long after its close a row may still change or be absent; younger rows are not asked for.
    `history_ms`: how far back the exchange keeps rows for certain; None: to the listing.
    `reach_ms`: how far back it may have rows at most, where that is further: older ones are not asked for.
    `exact_pages`: a page asks for no more rows than one answer holds, so one answer settles its span; otherwise the
    engine goes on from the last row until an answer is empty.
    `sparse`: a minute without a row is a fact (no settlement, no liquidation), not a hole.
    `edge_ms`: rows missing at the newest end are asked for only when they span more: a stream brings them, or the wait.
    `gather_ms`: a request costs the same whatever its span, so gaps of the last so long wait to be asked for together.
    `recent`: the endpoint for rows younger than `recent_ms`, where this one lags behind or does not reach.
    `serves`: whether the exchange has the metric of an instrument in a unit that can be stored.
    """

    metric: str
    path: str
    budget: str
    costs: tuple[tuple[int, int], ...]
    params: PageParams
    items: Callable[[Json, Page], Sequence[Json]]
    parse: Callable[[Json, Instrument], Row]
    source: str
    order: Order = Order.OLDEST_FIRST
    interval: str = "1m"
    interval_ms: int = MINUTE_MS
    settle_ms: int = 10 * SECOND_MS
    history_ms: int | None = None
    reach_ms: int | None = None
    window_ms: int = 10 * DAY_MS
    exact_pages: bool = True
    sparse: bool = False
    recent: "RestFeed | None" = None
    recent_ms: int = 0
    edge_ms: int = 3 * MINUTE_MS
    gather_ms: int = 0
    serves: Callable[[Instrument], bool] = lambda instrument: True

    @property
    def asked_ms(self) -> int | None:
        """How far back rows are asked for; None: to the listing."""
        return self.reach_ms or self.history_ms

    @property
    def page_rows(self) -> int:
        """Rows of a page: the size with most rows per cost."""
        return max(self.costs, key=lambda band: band[0] / band[1])[0]

    def cost(self, rows: int) -> int:
        """Return what a request for `rows` rows costs; raise ValueError above the largest page."""
        for most, cost in self.costs:
            if rows <= most:
                return cost
        raise ValueError(f"{self.path}: {rows} rows are more than a page holds")
