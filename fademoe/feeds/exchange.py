"""An exchange as one table. Everything is data or a pure function; nothing here does I/O."""

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from fademoe.feeds.answers import Answer, Refusal
from fademoe.feeds.archive import Archive
from fademoe.feeds.history import RestFeed
from fademoe.feeds.instrument import NO_TERMS, Instrument, Json, Terms, Tiers
from fademoe.feeds.limits import Budget
from fademoe.feeds.poll import PollFeed
from fademoe.feeds.request import Params, Request, to_request
from fademoe.feeds.stream import Socket, StreamFeed
from fademoe.metrics import ACROSS_CODE, INTERVALS_MS, METRICS, Derived, Instant, list_stored, name_perpspec

NAME = re.compile(r"[a-z][a-z0-9]*")
CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


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

    `params(contract)`, or `body(contract)` by POST, ask for one contract; with `is_for_all` one request, that for any
    contract, tells of all of them.
    `items(answer)` are the elements; `name(element)` is the exchange's name of its contract. `parse(elements,
    contract)` reads all elements of a contract, in its stored unit; a contract without one has the terms `unnamed`, of
    which only the funding interval may be told.
    """

    path: str
    budget: str
    items: Callable[[Json], Sequence[Json]]
    name: Callable[[Json], Json]
    parse: Callable[[Sequence[Json], Instrument], Terms]
    source: str
    params: Callable[[Instrument], Params] = lambda contract: {}
    body: Callable[[Instrument], Json] = lambda contract: None
    cost: int = 1
    is_for_all: bool = False
    unnamed: Terms = NO_TERMS

    def make_request(self, instrument: Instrument) -> Request:
        """Return the request for the terms of a contract."""
        return to_request(self.path, self.params(instrument), self.body(instrument))


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
        if not NAME.fullmatch(self.name):
            raise self._fault("a name is small letters and digits")
        if not isinstance(self.codes, tuple) or not all(map(CODE.fullmatch, self.codes)):
            raise self._fault(f"codes are a tuple of small letters and digits, and minuses between, not {self.codes!r}")
        if not self.codes or ACROSS_CODE in self.codes:
            raise self._fault(f"it needs a code, and {ACROSS_CODE!r} is of metrics across exchanges")
        for kind, names in (
            ("budgets", [budget.name for budget in self.budgets]),
            ("sockets", [socket.name for socket in self.sockets]),
            ("histories", [feed.metric for feed in self.rest_feeds]),
            ("polls", [feed.metric for feed in self.poll_feeds]),
            ("streams", [feed.metric for feed in self.stream_feeds]),
        ):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise self._fault(f"two {kind} of {twice[0]}")
        self._check_requests()
        feeds: tuple[RestFeed | PollFeed | StreamFeed, ...] = (*self.rest_feeds, *self.poll_feeds, *self.stream_feeds)
        for feed in feeds:
            self._check_feed(feed)
        for channel in self.stream_feeds:
            known = [socket.name for socket in self.sockets]
            if channel.socket not in known:
                raise self._fault(f"a stream of {channel.metric} names the socket {channel.socket!r}, not of {known}")
        columns = {column.name for metric in list_stored() for column in METRICS[metric].columns}
        if not isinstance(self.unsent, Set):
            raise self._fault(f"unsent is a set of columns, not {self.unsent!r}")
        if unknown := sorted(self.unsent - columns):
            raise self._fault(f"{unknown[0]!r} is unsent, and no column of any metric")

    def _check_requests(self) -> None:
        """Refuse an endpoint of an unknown rate limit, without a source, or whose path is none."""
        known = [budget.name for budget in self.budgets]
        recent = [feed.recent for feed in self.rest_feeds if feed.recent]
        sourced: list[InstrumentsFeed | RestFeed | PollFeed | TermsFeed] = [self.instruments, *self.rest_feeds, *recent]
        sourced += [*self.poll_feeds, *self.terms_feeds]
        asked = [(each.path, each.budget) for each in sourced]
        asked += [(self.clock.path, self.clock.budget)] if self.clock else []
        asked += [(each.endpoint.request.path, each.endpoint.budget) for each in self.sockets if each.endpoint]
        for path, budget in asked:
            if budget not in known:
                raise self._fault(f"{path} names the budget {budget!r}, not of {known}")
            if not path.startswith("/"):
                raise self._fault(f"the path {path!r} does not begin with /")
        unsourced = [each.path for each in sourced if not each.source]
        unsourced += [f"a stream of {feed.metric}" for feed in self.stream_feeds if not feed.source]
        if unsourced:
            raise self._fault(f"{unsourced[0]} does not say where its facts come from")

    def _check_feed(self, feed: RestFeed | PollFeed | StreamFeed) -> None:
        """Refuse a feed whose rows would not be those of its metric.

        Rows of a range of time have the interval of their metric, from every feed: those of another one would overlap
        them, and liquidations would count twice.
        """
        if feed.metric not in list_stored():
            raise self._fault(f"unknown metric {feed.metric!r}: valid are {', '.join(list_stored())}")
        metric, what = METRICS[feed.metric], f"a feed of {feed.metric} has rows of interval {feed.interval!r}"
        if metric.instant is Instant.START and feed.interval != metric.interval:
            raise self._fault(f"{what}, the metric of {metric.interval!r}")
        is_event = isinstance(feed, RestFeed) and feed.sparse
        if feed.interval_ms != INTERVALS_MS.get(feed.interval, feed.interval_ms if is_event else None):
            raise self._fault(f"{what}, and interval_ms is {feed.interval_ms}: valid are {INTERVALS_MS}")

    def _fault(self, what: str) -> ValueError:
        return ValueError(f"exchange {self.name}: {what}")

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
