"""What the contract of exchanges finds in a table that is wrong."""

from dataclasses import replace
from typing import NamedTuple

import pytest

from fademoe.clock import MINUTE_MS, to_iso
from fademoe.exchanges.bybit import EXCHANGE
from fademoe.feeds.answers import Answer, close_budget, evaluate
from fademoe.feeds.history import Newest
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.poll import PollFeed
from fademoe.feeds.request import Request
from fademoe.metrics import METRICS, Column, Funding, Metric, PredictedFunding, Premium
from fademoe.testing.contract import ExchangeContract
from fademoe.testing.damage import is_good
from fademoe.testing.samples import make_sample

BTC = Instrument(exchange="bybit", code="byb", name="BTCUSDT", symbol="BTC")
FEED = EXCHANGE.find_rest_feed("pfr")
START_MS = 29453760 * MINUTE_MS
LATER_MS = START_MS + 10 * MINUTE_MS


class Contract(ExchangeContract):
    """The contract of a table with one feed."""

    def __init__(self, **changes):
        feed = replace(FEED, items=lambda body, page: body, **changes)
        self.exchange = replace(EXCHANGE, rest_feeds=(feed,), judge=lambda answer: None)

    def list_contracts(self):
        return [BTC]

    def list_samples(self):
        return [make_sample(self.exchange, "history pfr", [{"ts": 29453760 * MINUTE_MS, "p": "0.1"}], {}, BTC)]


@pytest.mark.parametrize(
    "parse",
    [
        lambda item, instrument: Premium(item["ts"], item["p"]),
        lambda item, instrument: Premium(int(item["ts"]), "0.1"),
    ],
)
def test_a_reader_that_checks_nothing_is_found(parse):
    contract = Contract(parse=parse)
    contract.test_samples_are_read()
    with pytest.raises((AssertionError, TypeError, KeyError, ValueError)):
        contract.test_damaged_samples_give_good_rows_or_none()


class Basis(NamedTuple):
    """A row of a metric of another package."""

    ts: int
    basis: str
    levels: int | None


def test_values_of_a_metric_of_another_package_are_negative_where_it_says_so(monkeypatch):
    """Three metrics were known by name: for any other, a package with negative values could not pass."""
    columns = (
        Column(name="basis", unit="fraction", title="Basis", signed=True),
        Column(name="levels", unit="levels", title="Levels", whole=True),
    )
    metric = Metric(name="basis", title="Basis", row_type=Basis, columns=columns)
    monkeypatch.setitem(METRICS, "basis", metric)
    assert is_good(Basis(START_MS, "-0.5", None), "basis")
    assert not is_good(Basis(START_MS, "-0.5", -1), "basis")
    monkeypatch.setitem(METRICS, "basis", replace(metric, columns=(replace(columns[0], signed=False), columns[1])))
    assert not is_good(Basis(START_MS, "-0.5", None), "basis")
    assert not is_good(Funding(START_MS, "-0.1", 8, "-5"), "fr")


def test_a_page_that_asks_for_other_times_is_found():
    contract = Contract(params=lambda page: {"from": page.start_ms - MINUTE_MS})
    with pytest.raises(AssertionError):
        contract.test_a_page_requests_no_time_outside_of_it()


def test_a_page_without_a_time_is_found_unless_its_answers_are_whole():
    contract = Contract(params=lambda page: {"symbol": page.instrument.name})
    with pytest.raises(AssertionError, match="whole"):
        contract.test_a_page_requests_no_time_outside_of_it()
    whole = replace(FEED.paging, whole=True)
    Contract(params=lambda page: {}, paging=whole).test_a_page_requests_no_time_outside_of_it()


def test_times_in_iso_8601_are_times_of_a_page():
    def params(page, earlier_ms=0):
        return {"from": to_iso(page.start_ms - earlier_ms), "to": to_iso(page.end_ms)}

    Contract(params=params).test_a_page_requests_no_time_outside_of_it()
    with pytest.raises(AssertionError):
        Contract(params=lambda page: params(page, MINUTE_MS)).test_a_page_requests_no_time_outside_of_it()


def test_a_column_that_never_has_a_value_is_to_be_declared():
    contract = Contract()
    feed = EXCHANGE.find_rest_feed("ohlcv")
    contract.exchange = replace(EXCHANGE, rest_feeds=(feed,), judge=lambda answer: None, unsent=frozenset({"fr_mark"}))
    answer = {"time": LATER_MS, "result": {"list": [[str(START_MS), "1", "1", "1", "1", "2", "2"]]}}
    contract.list_samples = lambda: [make_sample(contract.exchange, "history ohlcv", answer, {}, BTC)]
    with pytest.raises(AssertionError, match="declare tbv as unsent"):
        contract.test_columns_without_a_value_are_declared_unsent()
    contract.exchange = replace(contract.exchange, unsent=frozenset({"tbv"}))
    contract.test_columns_without_a_value_are_declared_unsent()
    contract.exchange = replace(contract.exchange, unsent=frozenset({"tbv", "qv"}))
    with pytest.raises(AssertionError, match="qv: unsent, but sent"):
        contract.test_columns_without_a_value_are_declared_unsent()


def change_first(feeds, **changes):
    return (replace(feeds[0], **changes), *feeds[1:])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "By Bit"}, "a name is small letters and digits"),
        ({"codes": "byb"}, "a tuple of small letters"),
        ({"codes": ("BYB",)}, "a tuple of small letters"),
        ({"codes": ()}, "it needs a code"),
        ({"codes": ("x",)}, "metrics across exchanges"),
        ({"budgets": EXCHANGE.budgets * 2}, "two budgets of ip"),
        ({"rest_feeds": (FEED, FEED)}, "two histories of pfr"),
        ({"clock": replace(EXCHANGE.clock, budget="op")}, r"names the budget 'op', not of \['ip'\]"),
        ({"instruments": replace(EXCHANGE.instruments, budget="op")}, "names the budget 'op'"),
        ({"instruments": replace(EXCHANGE.instruments, source="")}, "does not say where its facts come from"),
        ({"rest_feeds": (replace(FEED, path="v5/kline"),)}, "'v5/kline' does not begin with /"),
        ({"rest_feeds": (replace(FEED, metric="premium"),)}, "unknown metric 'premium': valid are ohlcv"),
        ({"rest_feeds": (replace(FEED, interval="5m", interval_ms=5 * MINUTE_MS),)}, "rows of interval '5m'"),
        ({"rest_feeds": (replace(FEED, interval_ms=5 * MINUTE_MS),)}, "interval_ms is 300000"),
        ({"stream_feeds": change_first(EXCHANGE.stream_feeds, socket="none")}, "names the socket 'none', not of"),
        ({"stream_feeds": change_first(EXCHANGE.stream_feeds, source="")}, "a stream of .* does not say where"),
        ({"stream_feeds": EXCHANGE.stream_feeds[:1] * 2}, "two streams of ohlcv"),
        ({"unsent": "qv"}, "unsent is a set of columns, not 'qv'"),
        ({"unsent": frozenset({"price"})}, "'price' is unsent, and no column"),
    ],
)
def test_a_table_that_contradicts_itself_says_where(changes, said):
    with pytest.raises(ValueError, match=f"^exchange .*: .*{said}"):
        replace(EXCHANGE, **changes)


@pytest.mark.parametrize(
    ("table", "changes", "said"),
    [
        *((FEED.paging, {"costs": costs}, "costs are a tuple of") for costs in ((), (500, 1), ((0, 1),), ((9, 0),))),
        (FEED.paging, {"costs": ((100, 2), (10, 1))}, "ascending"),
        (FEED.paging, {"window_ms": 0}, "a window is longer than 0 ms"),
        (FEED, {"interval_ms": 0}, "history of pfr: interval_ms is 0"),
        (FEED, {"due_every_ms": MINUTE_MS}, "of sparse feeds"),
        (FEED, {"newest": Newest(rows=3, grid_ms=MINUTE_MS)}, "of sparse feeds"),
        (FEED, {"newest": Newest(rows=0)}, "newest asks for 0 rows"),
        (FEED, {"recent": FEED}, "recent and recent_ms belong together"),
        (FEED, {"recent": replace(FEED, metric="mark"), "recent_ms": MINUTE_MS}, "recent has other rows"),
        (EXCHANGE.sockets[0], {"path": "ws"}, "socket linear: the path 'ws' does not begin with /"),
        (EXCHANGE.sockets[0], {"topics_per_request": 0}, "socket linear: it needs topics"),
        (EXCHANGE.sockets[0], {"ping_every_s": 0.0}, "socket linear: it needs topics"),
    ],
)
def test_a_part_of_a_table_that_contradicts_itself_says_so(table, changes, said):
    """Jobs and streams ended with a ZeroDivisionError, a ValueError of max(), or an address without a slash."""
    with pytest.raises(ValueError, match=said):
        replace(table, **changes)


def test_terms_are_asked_for_by_post_where_they_have_a_body():
    feed = replace(EXCHANGE.terms_feeds[0], params=lambda contract: {}, body=lambda contract: {"coin": contract.name})
    assert feed.make_request(BTC) == Request(path=feed.path, json={"coin": "BTCUSDT"}, method="POST")
    assert EXCHANGE.terms_feeds[0].make_request(BTC).method == "GET"


def test_a_sample_without_a_time_is_of_the_moment_of_its_answer():
    feed = PollFeed(
        metric="ppr",
        path="/tickers",
        budget="ip",
        items=lambda answer: answer,
        name="name",
        parse=lambda item, instrument: PredictedFunding(0, item["p"]) if item["p"] else None,
        source="made up",
        untimed=True,
    )
    assert feed.parse_at({"p": "0.1"}, BTC, MINUTE_MS) == PredictedFunding(MINUTE_MS, "0.1")
    assert feed.parse_at({"p": ""}, BTC, MINUTE_MS) is None
    assert replace(feed, untimed=False).parse_at({"p": "0.1"}, BTC, MINUTE_MS) == PredictedFunding(0, "0.1")


@pytest.mark.parametrize(("message", "said"), [("too many", "code 7: too many"), (None, "code 7"), ("", "code 7")])
def test_a_refusal_says_what_the_exchange_says(message, said):
    answer = Answer(status=200, headers={}, body={}, text="", now_ms=START_MS)
    refusal = evaluate(answer, 7, message, errors={7: close_budget(wait_s=1.0)}, statuses={})
    assert refusal.message == f"rate limit: HTTP 200, {said}"


def test_a_feed_without_a_recording_and_a_judge_that_accepts_all_are_found():
    contract = Contract()
    with pytest.raises(AssertionError, match="no recording of clock, instruments, stream"):
        contract.test_every_feed_has_a_sample()
    with pytest.raises(AssertionError, match="429"):
        contract.test_refusals_are_recognised()
