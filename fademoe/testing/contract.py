"""The contract of every exchange, as a class of tests.

    class TestAcme(ExchangeContract):
        exchange = EXCHANGE
        recordings = Path(__file__).parent / "recordings"

`pytest` then runs all of it. fademoe.testing.samples describes the recordings.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from fademoe.clock import DAY_MS, MINUTE_MS, SECOND_MS
from fademoe.errors import BadPayload, Refused, RetryLater
from fademoe.feeds.answers import Answer, Closes, Refusal
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import Page, RestFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.stream import Frame
from fademoe.feeds.symbols import find_power_of_ten
from fademoe.feeds.values import iso_to_ms
from fademoe.metrics import METRICS, Derived
from fademoe.testing.damage import WRONG, is_good, make_damaged
from fademoe.testing.samples import Sample, list_feed_titles, load_contracts, load_samples

DECLARED = (BadPayload, Refused, RetryLater)
START_MS = 1_767_225_600_000
EARLY_MS = 2 * DAY_MS  # a page of a sparse feed may begin earlier: rows before it show what its own rows mean


class ExchangeContract:
    """Tests that hold for every exchange; subclasses set `exchange` and `recordings`."""

    exchange: Exchange
    recordings: Path

    def list_samples(self) -> list[Sample]:
        """Return at least one payload of every feed."""
        return load_samples(self.exchange, self.recordings)

    def list_contracts(self) -> Sequence[Instrument]:
        """Return contracts of the exchange."""
        return load_contracts(self.exchange, self.recordings)

    def test_addresses_are_scheme_and_host(self) -> None:
        """Paths belong to the feeds, for users set other addresses."""
        for url, scheme in ((self.exchange.rest_url, "https"), (self.exchange.stream_url, "wss")):
            parts = urlsplit(url)
            assert not url or (parts.scheme, parts.path) == (scheme, ""), f"{url}: {scheme}:// and a host"
        assert self.exchange.stream_url or not self.exchange.sockets, "sockets need a stream_url"

    def test_every_cost_fits_its_budget(self) -> None:
        """A request that costs more than its budget holds would never be sent."""
        exchange = self.exchange
        costs = [(feed.budget, feed.paging.compute_cost(feed.paging.rows)) for feed in _histories(exchange)]
        costs += [(feed.budget, feed.cost * (feed.batch or 1)) for feed in exchange.poll_feeds]
        costs += [(feed.budget, feed.cost) for feed in exchange.terms_feeds]
        costs += [(each.budget, each.cost) for each in (exchange.clock, exchange.instruments) if each]
        costs += [(socket.endpoint.budget, socket.endpoint.cost) for socket in exchange.sockets if socket.endpoint]
        for name, cost in costs:
            assert 1 <= cost <= exchange.get_budget(name).limit, f"a cost of {cost} in the budget {name}"

    def test_durations_are_ones_that_the_engine_can_work_with(self) -> None:
        """Windows lie on the grid, and no row is requested before it is final."""
        for feed in _histories(self.exchange):
            assert feed.interval_ms >= MINUTE_MS
            assert feed.paging.window_ms % feed.interval_ms == 0, feed.path
            assert DAY_MS % feed.interval_ms == 0 or feed.sparse, feed.path
            assert feed.latency.settle_ms >= 2 * SECOND_MS, f"{feed.path}: bars may change for two seconds"

    def test_a_page_requests_no_time_outside_of_it(self) -> None:
        """Rows of other times would be paid for and passed over."""
        instrument = self.list_contracts()[0]
        for feed in _histories(self.exchange):
            end_ms = START_MS + feed.page_span_ms
            page = Page(instrument=instrument, start_ms=START_MS, end_ms=end_ms, limit=feed.paging.rows)
            request = feed.make_request(page)
            times = list(_times(request.params)) + list(_times(request.json))
            assert times or feed.paging.whole, f"{request}: no time, and its paging does not say `whole`"
            earliest_ms = START_MS - (EARLY_MS if feed.sparse else 1)
            assert all(earliest_ms <= ms <= end_ms + feed.interval_ms for ms in times), str(request)

    def test_contracts_can_be_followed(self) -> None:
        """Each has a code of the exchange, a name of its own and a multiplier that is a power of ten."""
        contracts = self.list_contracts()
        names = {(each.code, each.name) for each in contracts}
        assert len(names) == len(contracts) > 0, "no contract, or one twice"
        for each in contracts:
            assert each.code in self.exchange.codes and each.exchange == self.exchange.name, each
            assert each.symbol == each.symbol.upper().strip() != "", each
            find_power_of_ten(each.multiplier)

    def test_subscriptions_fit_their_requests(self) -> None:
        """Topics of different contracts differ, unless one topic serves them all."""
        contracts = self.list_contracts()
        for feed in self.exchange.stream_feeds:
            topics = {feed.topic(each) for each in contracts}
            assert len(topics) == (1 if feed.name else len(contracts)), f"topics of {feed.metric}"
        for socket in self.exchange.sockets:
            feeds = [feed for feed in self.exchange.stream_feeds if feed.socket == socket.name]
            topics = {feed.topic(each) for feed in feeds for each in contracts}
            request = sorted(topics)[: socket.topics_per_request]
            assert request and isinstance(socket.subscribe(request, 1), str), f"socket {socket.name} has no topic"

    def test_refusals_are_recognised(self) -> None:
        """What is not data is never taken for it, and a rate limit closes the budget."""
        busy = self._judge(429, None, "")
        assert busy and busy.error is RetryLater and busy.closes is not Closes.NOTHING, "HTTP 429 is a rate limit"
        down = self._judge(503, None, "<html>")
        assert down and down.error is RetryLater, "HTTP 503 is a temporary server error"
        for status, body in ((404, None), (400, {}), (200, None)):
            assert self._judge(status, body, "<html>"), f"HTTP {status} with {body} is an error"

    def test_every_feed_has_a_sample(self) -> None:
        """A parser that never read a real payload is a guess."""
        missing = list_feed_titles(self.exchange) - {sample.title for sample in self.list_samples()}
        assert not missing, f"no recording of {', '.join(sorted(missing))}"

    def test_samples_are_read(self) -> None:
        """Each gives rows that may be stored, or contracts, or a time."""
        for sample in self.list_samples():
            rows = sample.read(sample.payload)
            assert rows, f"{sample.title}: nothing was read"
            bad = [row for row in rows if sample.metric and not is_good(row, sample.metric)]
            assert not bad, f"{sample.title}: {bad}, where only a column that is `signed` may be negative"

    def test_columns_without_a_value_are_declared_unsent(self) -> None:
        """Of others, metrics are derived: without a value in any row, and complete by their certificates."""
        rows = [row for sample in self.list_samples() if sample.metric for row in sample.read(sample.payload)]
        columns = {(name, value is not None) for row in rows for name, value in row._asdict().items()}
        sent = {name for name, is_sent in columns if is_sent}
        needed = {name for metric in METRICS.values() if isinstance(metric, Derived) for name in metric.requires}
        never = {name for name, _ in columns if name in needed and name not in sent}
        assert never <= self.exchange.unsent, f"declare {', '.join(sorted(never))} as unsent: no recording has a value"
        assert not sent & self.exchange.unsent, f"{', '.join(sorted(sent & self.exchange.unsent))}: unsent, but sent"

    def test_damaged_samples_give_good_rows_or_none(self) -> None:
        """One wrong value must never become a false row, nor an undeclared error."""
        for sample in self.list_samples():
            for payload in make_damaged(sample.payload):
                try:
                    rows = sample.read(payload)
                except DECLARED:
                    continue
                if sample.metric:
                    bad = [row for row in rows if not is_good(row, sample.metric)]
                    assert not bad, f"{sample.title}: {str(payload)[:300]} became {bad}"

    def test_messages_of_any_kind_are_sorted_or_refused(self) -> None:
        """A message that is not one of the documented ones is a BadPayload."""
        for socket in self.exchange.sockets:
            for message in WRONG:
                try:
                    frame = socket.route(message)
                except DECLARED:
                    continue
                assert isinstance(frame, Frame)
            for content in (b"", b"\xff", b"{"):
                try:
                    socket.decode(content)
                except (ValueError, BadPayload):
                    continue
                raise AssertionError(f"socket {socket.name} decodes {content!r}")

    def _judge(self, status: int, body: Json, text: str) -> Refusal | None:
        return self.exchange.judge(Answer(status=status, headers={}, body=body, text=text, now_ms=START_MS))


def _histories(exchange: Exchange) -> Iterator[RestFeed]:
    for feed in exchange.rest_feeds:
        yield feed
        if feed.recent:
            yield feed.recent


def _times(value: Json) -> Iterator[int]:
    """Yield the times in ms of a query or body: numbers as large as seconds or ms of this century, and ISO texts."""
    if isinstance(value, dict | list | tuple):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _times(member)
    elif str(value).isdigit() and int(value) > 10**9:
        yield int(value) if int(value) > 10**12 else int(value) * SECOND_MS
    elif isinstance(value, str) and "T" in value:
        with suppress(BadPayload):
            yield iso_to_ms(value)
