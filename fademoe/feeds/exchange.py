"""An exchange as one table. Everything is data or a pure function; nothing here does I/O."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fademoe.feeds.answers import Answer, Refusal
from fademoe.feeds.archive import Archive
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import NO_TERMS, Instrument, Json, Terms, Tiers
from fademoe.feeds.limits import Budget
from fademoe.feeds.poll import PollFeed
from fademoe.feeds.request import Params, Request, to_request
from fademoe.feeds.stream import Socket, StreamFeed
from fademoe.metrics import METRICS, Derived, list_stored, name_perpspec


@dataclass(frozen=True, kw_only=True)
class InstrumentsFeed:
    """The exchange's own list of contracts.

    `params` and `body` ask for the first page (see RestFeed). `items(answer)` are the contracts of one page;
    `parse(item)` reads one, None where it is not a crypto perpetual that FadeMoe follows. `next_page(answer, request)`
    returns the request for the page after the one that `request` asked for, None after the last. All pages together are
    the whole list: a contract that is on none of them is delisted. One that trades and whose element is suddenly of
    another kind stays as it is, unless `has_ended(item)`; one that has ended though no time of its end is told counts
    as missing. `name_member` is the member with the exchange's name of a contract. `read_announced(item)` returns when
    a contract will be listed that is announced without its details, which `parse` leaves out until it has them; None
    for any other.
    """

    path: str
    budget: str
    items: Callable[[Json], Sequence[Json]]
    parse: Callable[[Json], Instrument | None]
    source: str
    params: Params = field(default_factory=dict)
    body: Json = None
    cost: int = 1
    next_page: Callable[[Json, Request], Request | None] = lambda answer, request: None
    name_member: str = "symbol"
    has_ended: Callable[[Json], bool] = lambda item: False
    read_announced: Callable[[Json], int | None] = lambda item: None

    @property
    def request(self) -> Request:
        """The request for the first page."""
        return to_request(self.path, self.params, self.body)


@dataclass(frozen=True, kw_only=True)
class TermsFeed:
    """An endpoint that tells terms of contracts which their list does not, such as the tiers of margin.

    `params(contract)` ask for one contract; with `is_for_all` one request, that for any contract, tells of all of them.
    `items(answer)` are the elements; `name(element)` is the exchange's name of its contract. `parse(elements,
    contract)` reads all elements of a contract, in its stored unit; a contract without one has the terms `unnamed`, of
    which only the funding interval may be told.
    """

    path: str
    budget: str
    params: Callable[[Instrument], Params]
    items: Callable[[Json], Sequence[Json]]
    name: Callable[[Json], Json]
    parse: Callable[[Sequence[Json], Instrument], Terms]
    source: str
    cost: int = 1
    is_for_all: bool = False
    unnamed: Terms = NO_TERMS

    def make_request(self, instrument: Instrument) -> Request:
        """Return the request for the terms of a contract."""
        return to_request(self.path, self.params(instrument))


@dataclass(frozen=True, kw_only=True)
class ClockFeed:
    """The exchange's clock: `parse` returns its time in ms."""

    path: str
    budget: str
    parse: Callable[[Json], int]
    params: Params = field(default_factory=dict)
    body: Json = None
    cost: int = 1

    @property
    def request(self) -> Request:
        """The request for the time."""
        return to_request(self.path, self.params, self.body)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Everything FadeMoe knows of an exchange.

    `codes` are the first parts of its perpspecs (one, except for an aggregator). `judge` says what an answer means:
    None when it holds data. `headers(key)` are sent with every request. Nothing is derived from columns that are
    `unsent`. `tiers_file` reads the tiers of margin from a JSON file that a user exports, where their endpoint needs a
    key: by the exchange's name of a contract.
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
    archive: Archive | None = None
    terms_feeds: tuple[TermsFeed, ...] = ()
    tiers_file: Callable[[Json], Mapping[str, Tiers]] | None = None
    needs_key: bool = False
    headers: Callable[[str], Mapping[str, str]] = lambda key: {}
    unsent: frozenset[str] = frozenset()  # columns of its metrics for which it never sends a value

    def __post_init__(self) -> None:
        """Refuse a table that contradicts itself."""
        budgets = {budget.name for budget in self.budgets}
        sockets = {socket.name for socket in self.sockets}
        if not re.fullmatch(r"[a-z][a-z0-9]*", self.name):
            raise ValueError(f"exchange {self.name!r}: a name is small letters and digits")
        feeds: tuple[RestFeed | PollFeed, ...] = (*self.rest_feeds, *self.poll_feeds)
        for feed in feeds:
            if feed.metric not in list_stored() or feed.budget not in budgets:
                raise ValueError(f"exchange {self.name}: {feed.path} names an unknown metric or budget")
            if not feed.source:
                raise ValueError(f"exchange {self.name}: {feed.path} does not say where its facts come from")
        endpoints = [socket.endpoint.budget for socket in self.sockets if socket.endpoint]
        if not budgets.issuperset(endpoints):
            raise ValueError(f"exchange {self.name}: a socket's endpoint names an unknown budget")
        for channel in self.stream_feeds:
            if channel.metric not in list_stored() or channel.socket not in sockets:
                raise ValueError(
                    f"exchange {self.name}: a stream of {channel.metric} names an unknown metric or socket"
                )

    def get_budget(self, name: str) -> Budget:
        """Return the budget called `name`."""
        return next(budget for budget in self.budgets if budget.name == name)

    def find_rest_feed(self, metric: str) -> RestFeed | None:
        """Return the history feed of a metric, None where the exchange has none."""
        return next((feed for feed in self.rest_feeds if feed.metric == metric), None)

    def list_metrics(self) -> tuple[str, ...]:
        """Return the metrics that the exchange serves in any way, in the order of METRICS."""
        feeds: tuple[RestFeed | PollFeed | StreamFeed, ...] = (*self.rest_feeds, *self.poll_feeds, *self.stream_feeds)
        served = {feed.metric for feed in feeds}
        return tuple(name for name in METRICS if name in served)

    def list_perpspecs(self) -> tuple[str, ...]:
        """Return the values of `source` that the exchange writes."""
        return tuple(name_perpspec(code, metric) for code in self.codes for metric in self.list_metrics())

    def list_derived(self) -> tuple[Derived, ...]:
        """Return the metrics that are derived from its own rows alone, in the order of METRICS."""
        served = set(self.list_metrics())
        return tuple(
            metric
            for metric in METRICS.values()
            if isinstance(metric, Derived)
            and not metric.is_across
            and served.issuperset(metric.inputs)
            and not self.unsent.intersection(metric.requires)
        )

    @property
    def is_aggregator(self) -> bool:
        """Whether it serves the data of other exchanges, under a code for each."""
        return len(self.codes) > 1
