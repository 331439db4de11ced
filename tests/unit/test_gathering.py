"""Gaps that wait for each other, where a request costs the same whatever its span."""

from dataclasses import replace

from fademoe.clock import HOUR_MS, MINUTE_MS, Window
from fademoe.feeds import registry
from fademoe.feeds.history import Latency, Paging, RestFeed
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.values import read_records, to_ms
from fademoe.jobs.plan import FeedState, plan_gaps, select_due_gaps, subtract_queued
from fademoe.metrics import Premium
from fademoe.store.coverage import Series
from tests.support.pages import confirm_with, fetch_with

START = 1_767_225_600_000
BTC = Instrument(exchange="acme", code="acm", name="BTC", symbol="BTC")
SERIES, OTHER = Series("acm-pfr", "BTC"), Series("acm-pfr", "ETH")
FEED = RestFeed(
    metric="pfr",
    path="/premium",
    budget="key",
    paging=Paging(costs=((6 * 60, 1),), coalesce_ms=HOUR_MS),
    params=lambda page: {"from": page.start_ms, "to": page.end_ms - 1},
    items=lambda body, page: read_records(body),
    parse=lambda item, instrument: Premium(to_ms(item[0]), item[1]),
    source="made up",
    latency=Latency(live_edge_ms=HOUR_MS),
)


STATE = FeedState(
    exchange=registry.load_exchanges()["coinalyze"], feed=FEED, now_ms=START + 20 * HOUR_MS, queued={}, instruments={}
)


def minutes(start, end):
    return Window(START + start * MINUTE_MS, START + end * MINUTE_MS)


def test_what_grows_behind_a_queued_window_is_no_window_of_its_own():
    for feed in (FEED, replace(FEED, paging=replace(FEED.paging, coalesce_ms=0))):
        gaps = [(SERIES, minutes(0, 1000))]
        assert select_due_gaps(feed, subtract_queued(gaps, {SERIES: [minutes(0, 990)]}), START + 1000 * MINUTE_MS) == []
        rest = subtract_queued(gaps, {SERIES: [minutes(0, 900)]})
        assert select_due_gaps(feed, rest, START + 1000 * MINUTE_MS) == rest == [(SERIES, minutes(900, 1000))]


def test_gaps_between_polls_wait_until_one_is_old_and_are_then_asked_for_together():
    gaps = [(SERIES, minutes(at, at + 4)) for at in range(0, 60, 5)]
    assert select_due_gaps(FEED, gaps, START + 63 * MINUTE_MS) == []
    assert select_due_gaps(FEED, [*gaps, (OTHER, minutes(60, 65))], START + 65 * MINUTE_MS) == gaps
    assert (
        select_due_gaps(replace(FEED, paging=replace(FEED.paging, coalesce_ms=0)), gaps, START + 60 * MINUTE_MS) == gaps
    )
    (planned,) = plan_gaps(STATE, gaps, with_live_edge=True)
    assert (planned.task.window, planned.effort.requests) == (minutes(0, 59), 1)
    far = [*gaps, (SERIES, minutes(500, 501))]
    assert len(plan_gaps(STATE, far, with_live_edge=True)) == 2


def test_one_request_closes_many_gaps_and_tells_nothing_of_what_lies_between():
    asked = []

    def get(request, cost):
        asked.append(request)
        minutes = range(request.params["from"], request.params["to"], MINUTE_MS)
        return [[ts, "1"] for ts in minutes if ts != START + 21 * MINUTE_MS]

    gaps = [minutes(0, 2), minutes(20, 23), minutes(300, 301), minutes(1000, 1001)]
    fetched = fetch_with(FEED, BTC, gaps, get)
    assert [(row.ts - START) // MINUTE_MS for row in fetched.list_rows()] == [0, 1, 20, 22, 300, 1000]
    assert fetched.answered == gaps
    assert len(asked) == 2
    assert confirm_with(FEED, BTC, fetched, START + 2000 * MINUTE_MS, get).absent == [minutes(21, 22)]
    assert len(asked) == 3
