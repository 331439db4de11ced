"""The words an exchange's table is written in. Everything is data or a pure function; nothing here does I/O."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from fademoe.clock import DAY_MS, MINUTE_MS, SECOND_MS, Window
from fademoe.errors import SourceError
from fademoe.metrics import METRICS, Row, perpspec

Json = Any  # a decoded JSON value of an exchange: checked by the parser that reads it


class Order(StrEnum):
    """Which row of a full answer comes first, so where the next page continues."""

    OLDEST_FIRST = "oldest first"
    NEWEST_FIRST = "newest first"


class Reduce(StrEnum):
    """How the messages of a channel become at most one row a minute."""

    CLOSED = "closed"  # the message of a closed bar is the row
    LAST = "last"  # the last sample of the minute is the row
    SUM = "sum"  # the events of the minute are added up


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """An exchange's contract on a coin.

    `multiplier`: coins in one unit of the quoted price (1000 for 1000PEPEUSDT). `contract_value`: coins in one contract
    where sizes are counted in contracts. Times are ms; `delisted_ms` is None while it trades.
    """

    exchange: str
    code: str  # first part of its perpspecs
    name: str  # the exchange's own name
    symbol: str  # our name of the coin
    multiplier: int = 1
    contract_value: str = "1"
    listed_ms: int | None = None
    delisted_ms: int | None = None


ParseItem = Callable[[Json, Instrument], Row | None]  # reads one item of an answer, None where it is no row


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A rate limit: `limit` units of cost in a window of `period_ms`, for one egress address (or one key).

    `aligned`: the windows lie side by side from the epoch on, as the minutes of the clock; otherwise the limit holds in
    every window of that length, wherever it begins. `jitter_ms`: for aligned windows by how much the exchange's clock
    may be off, so that requests near the turn count for both windows; for others how much longer than the period a
    unit is held after its answer. `used_header` names the answer's header with the exchange's own count of the running
    aligned window.
    """

    name: str
    limit: int
    period_ms: int
    jitter_ms: int
    aligned: bool = False
    used_header: str | None = None
    per_key: bool = False  # counted for the key, so that all egress addresses share it

    def __post_init__(self) -> None:
        """Refuse a table that contradicts itself."""
        if self.limit < 1 or not 0 <= self.jitter_ms * 2 < self.period_ms:
            raise ValueError(f"budget {self.name}: it needs a limit, and a jitter below half of its period")
        if self.used_header and not self.aligned:
            raise ValueError(f"budget {self.name}: only the count of an aligned window can be compared with ours")

    @property
    def span_ms(self) -> int:
        """The length of a window as we keep it, so that the limit holds in the exchange's."""
        return self.period_ms + self.jitter_ms * (2 if self.aligned else 1)


@dataclass(frozen=True, kw_only=True)
class Page:
    """One request of a feed: rows with start_ms <= ts < end_ms, at most `limit` of them."""

    instrument: Instrument
    start_ms: int
    end_ms: int
    limit: int


Ask = Callable[[Page], Mapping[str, str | int]]  # the parameters that ask for a page


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
    params: Ask
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


@dataclass(frozen=True, kw_only=True)
class PollFeed:
    """An endpoint of current values, asked once in each `every_ms`; a sample's ts is floored to its interval.

    One request asks for up to `batch` instruments and costs `cost` for each; without a batch it asks for all and costs
    `cost` once. `items` sorts the answer by the exchange's name of the instrument; `parse` reads one sample with its
    own ts, None where the exchange has none. `share`: the most instruments of one round, where the budget has no more
    for it; the next round goes on behind them. `serves`: see RestFeed.
    Where a stream has the metric too, a sample counts only for a minute of which the stream has none.
    """

    metric: str
    path: str
    budget: str
    params: Callable[[Sequence[Instrument]], Mapping[str, str | int]]
    items: Callable[[Json], Sequence[tuple[str, Json]]]
    parse: ParseItem
    source: str
    cost: int = 1
    batch: int | None = None
    share: int | None = None
    interval: str = "1m"
    interval_ms: int = MINUTE_MS
    every_ms: int = MINUTE_MS
    serves: Callable[[Instrument], bool] = lambda instrument: True


@dataclass(frozen=True, kw_only=True)
class StreamFeed:
    """A channel of one metric: `topic` names it for an instrument, `parse` reads the rows of one message.

    Reduce.CLOSED: `parse` returns the final rows, mostly none. LAST and SUM: it returns samples or events with their
    own ts; the runner sorts them into minutes by that ts. LAST: the newest sample of a minute watched to its end is the
    row. SUM: a minute watched from its first moment is added up, and has no row where nothing happened.
    `split`: the topic is one for all instruments; it sorts a message into (exchange's name of the instrument, item).
    `merged`: messages tell changes only; `parse` gets the topic's merged state (see Frame.partial).
    `distinct`: the exchange may repeat an event, so equal events of a minute count once.
    `steady`: the channel always has messages, so a topic that has none for three intervals is taken for broken; on a
    socket with such topics only data prove that a minute was watched.
    """

    metric: str
    socket: str
    topic: Callable[[Instrument], str]
    parse: Callable[[Json, Instrument], Sequence[Row]]
    source: str
    reduce: Reduce = Reduce.CLOSED
    split: Callable[[Json], Sequence[tuple[str, Json]]] | None = None
    interval: str = "1m"
    interval_ms: int = MINUTE_MS
    merged: bool = False
    distinct: bool = False
    steady: bool = True


class Frame(NamedTuple):
    """One message of a socket, sorted: data of a topic, or a fault, or something to pass over (both None).

    `partial`: `data`, an object, holds only what changed since the message before of this topic.
    `fault` with a `topic`: its request was refused for that topic; others that are not served are asked for again.
    `acked`: the topic whose subscription the exchange confirms.
    `renew`: the exchange announces that it will close the connection, so another one should take over.
    """

    topic: str | None = None
    data: Json = None
    partial: bool = False
    renew: bool = False
    fault: str | None = None
    acked: str | None = None


@dataclass(frozen=True, kw_only=True)
class Socket:
    """How an exchange's sockets are spoken to.

    `subscribe(topics, request_id)` gives the text of a subscription; `route` sorts a decoded message. `ping_text` is
    sent every `ping_every_s` where the exchange wants text pings; protocol pings are answered everywhere.
    `renew_after_s`: the exchange cuts every connection at that age, so a fresh one replaces it before.
    `acks`: the exchange confirms each topic by itself (Frame.acked), so one that is not is asked for again.
    """

    name: str
    path: str
    subscribe: Callable[[Sequence[str], int], str]
    route: Callable[[Json], Frame]
    topics_per_socket: int
    topics_per_request: int
    request_pause_s: float
    ping_text: str | None = None
    ping_every_s: float = 20.0
    renew_after_s: float | None = None
    acks: bool = False


@dataclass(frozen=True, kw_only=True)
class InstrumentsFeed:
    """The exchange's own list of contracts; `parse` returns the crypto perpetuals that FadeMoe follows.

    `following(body, params)`: the parameters of the page after the one that was asked for with `params`, None after the
    last. All pages together are the whole list: a contract that is on none of them is not listed any more.
    """

    path: str
    budget: str
    params: Mapping[str, str | int]
    parse: Callable[[Json], Sequence[Instrument]]
    source: str
    cost: int = 1
    following: Callable[[Json, Mapping[str, str | int]], Mapping[str, str | int] | None] = lambda body, params: None


@dataclass(frozen=True, kw_only=True)
class ClockFeed:
    """The exchange's clock: `parse` returns its time in ms."""

    path: str
    budget: str
    parse: Callable[[Json], int]
    cost: int = 1


class Closes(StrEnum):
    """What a refusal shuts for everyone behind the same egress address."""

    NOTHING = "nothing"
    BUDGET = "budget"  # the budget of the request
    EXCHANGE = "exchange"  # every budget of the exchange


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What an answer that is not data means.

    `error` is the class to raise. `retry_after_s` goes with RetryLater; None: until the budget's aligned window turns.
    """

    error: type[SourceError]
    message: str
    retry_after_s: float | None = 5.0
    closes: Closes = Closes.NOTHING


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An exchange's answer as its `judge` sees it; `body` is None when it was not JSON."""

    status: int
    headers: Mapping[str, str]
    body: Json
    text: str
    now_ms: int


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Everything FadeMoe knows of an exchange.

    `codes` are the first parts of its perpspecs (one, except for an aggregator). `judge` says what an answer means:
    None when it holds data. `headers(key)` are sent with every request.
    """

    name: str
    title: str
    codes: tuple[str, ...]
    rest_url: str
    budgets: tuple[Budget, ...]
    instruments: InstrumentsFeed
    clock: ClockFeed | None  # None: the exchange does not tell its time, the host's clock has to do
    judge: Callable[[Answer], Refusal | None]
    rest_feeds: tuple[RestFeed, ...]
    stream_url: str = ""
    poll_feeds: tuple[PollFeed, ...] = ()
    sockets: tuple[Socket, ...] = ()
    stream_feeds: tuple[StreamFeed, ...] = ()
    needs_key: bool = False
    headers: Callable[[str], Mapping[str, str]] = lambda key: {}

    def __post_init__(self) -> None:
        """Refuse a table that contradicts itself."""
        budgets = {budget.name for budget in self.budgets}
        sockets = {socket.name for socket in self.sockets}
        if not re.fullmatch(r"[a-z][a-z0-9]*", self.name):
            raise ValueError(f"exchange {self.name!r}: a name is small letters and digits")
        feeds: tuple[RestFeed | PollFeed, ...] = (*self.rest_feeds, *self.poll_feeds)
        for feed in feeds:
            if feed.metric not in METRICS or feed.budget not in budgets:
                raise ValueError(f"exchange {self.name}: {feed.path} names an unknown metric or budget")
            if not feed.source:
                raise ValueError(f"exchange {self.name}: {feed.path} does not say where its facts come from")
        for channel in self.stream_feeds:
            if channel.metric not in METRICS or channel.socket not in sockets:
                raise ValueError(
                    f"exchange {self.name}: a stream of {channel.metric} names an unknown metric or socket"
                )

    def budget(self, name: str) -> Budget:
        """Return the budget called `name`."""
        return next(budget for budget in self.budgets if budget.name == name)

    def rest_feed(self, metric: str) -> RestFeed | None:
        """Return the history feed of a metric, None where the exchange has none."""
        return next((feed for feed in self.rest_feeds if feed.metric == metric), None)

    def metrics(self) -> tuple[str, ...]:
        """Return the metrics that the exchange serves in any way, in the order of METRICS."""
        feeds: tuple[RestFeed | PollFeed | StreamFeed, ...] = (*self.rest_feeds, *self.poll_feeds, *self.stream_feeds)
        served = {feed.metric for feed in feeds}
        return tuple(name for name in METRICS if name in served)

    def perpspecs(self) -> tuple[str, ...]:
        """Return the values of `source` that the exchange writes."""
        return tuple(perpspec(code, metric) for code in self.codes for metric in self.metrics())


def life(instrument: Instrument, window: Window) -> Window:
    """Cut a window to the life of an instrument; the result may be empty (start >= end)."""
    start_ms = max(window.start_ms, instrument.listed_ms or window.start_ms)
    end_ms = min(window.end_ms, instrument.delisted_ms or window.end_ms)
    return Window(start_ms, end_ms)
