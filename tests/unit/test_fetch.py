"""The engine, against a made-up feed."""

import threading
from dataclasses import replace

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, subtract
from fademoe.errors import BadPayload, BudgetSpent, RetryLater
from fademoe.feeds.history import Order, Paging, RestFeed, Retention
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.paging import EXPIRY_MS, split_into_pages
from fademoe.feeds.values import get_element, read_number, read_records, to_ms
from fademoe.jobs.fetch import find_overdue
from fademoe.metrics import Premium
from fademoe.signals import Stopped
from tests.support.pages import confirm_with, fetch_with

START = 1_767_225_600_000
ACME = Instrument(exchange="acme", code="acm", name="BTC-PERP", symbol="BTC")
FEED = RestFeed(
    metric="pfr",
    path="/v1/premium",
    budget="ip",
    paging=Paging(costs=((10, 1), (100, 2), (1000, 50))),
    params=lambda page: {"from": page.start_ms, "to": page.end_ms - 1, "limit": page.limit},
    items=lambda body, page: read_records(body),
    parse=lambda item, instrument: Premium(to_ms(item[0]), item[1]),
    source="made up",
)


class Acme:
    """An exchange that has the given minutes."""

    def __init__(self, minutes, order=Order.OLDEST_FIRST, most=10_000):
        self.minutes = minutes
        self.order = order
        self.most = most
        self.requests = []
        self.cost = 0

    def get(self, request, cost):
        params = request.params
        self.requests.append((params["from"], params["to"]))
        self.cost += cost
        rows = [[m, str(m % 7)] for m in sorted(self.minutes) if params["from"] <= m <= params["to"]]
        limit = min(params["limit"], self.most)
        if self.order is Order.NEWEST_FIRST:
            return rows[::-1][:limit]
        return rows[:limit]


def minutes(count, start=START):
    return [start + i * MINUTE_MS for i in range(count)]


def test_the_page_size_is_the_one_with_most_rows_per_cost():
    assert FEED.paging.rows == 100
    assert FEED.paging.compute_cost(10) == 1
    assert FEED.paging.compute_cost(11) == 2
    with pytest.raises(ValueError, match="more than a page"):
        FEED.paging.compute_cost(1001)


def test_pages_tile_the_window():
    window = Window(START, START + 250 * MINUTE_MS)
    spans = split_into_pages(FEED, window)
    assert [span.end_ms - span.start_ms for span in spans] == [100 * MINUTE_MS, 100 * MINUTE_MS, 50 * MINUTE_MS]
    assert (spans[0].start_ms, spans[-1].end_ms) == window


def test_every_row_of_the_window_comes_once_and_none_of_outside():
    acme = Acme(minutes(500, START - 100 * MINUTE_MS))
    window = Window(START, START + 250 * MINUTE_MS)
    fetched = fetch_with(FEED, ACME, [window], acme.get)
    assert [row.ts for row in fetched.list_rows()] == minutes(250)
    assert fetched.answered == [window]
    assert len(acme.requests) == 3
    assert acme.cost == 6


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("most", [7, 100])
def test_a_feed_whose_answers_hold_fewer_rows_than_asked_is_drained(order, most):
    feed = replace(FEED, paging=replace(FEED.paging, exact=False, order=order))
    acme = Acme(minutes(250), order, most)
    window = Window(START, START + 250 * MINUTE_MS)
    fetched = fetch_with(feed, ACME, [window], acme.get)
    assert [row.ts for row in fetched.list_rows()] == minutes(250)


def test_an_error_keeps_what_was_answered_before():
    acme = Acme(minutes(250))

    def get(request, cost):
        if len(acme.requests) == 2:
            raise RetryLater("busy", retry_after_s=1)
        return acme.get(request, cost)

    fetched = fetch_with(FEED, ACME, [Window(START, START + 250 * MINUTE_MS)], get)
    assert isinstance(fetched.failed, RetryLater)
    assert fetched.answered == [Window(START, START + 200 * MINUTE_MS)]
    assert len(fetched.rows) == 200


def test_holes_are_requested_twice_and_then_confirmed():
    gone = {START + 3 * MINUTE_MS, START + 4 * MINUTE_MS, START + 150 * MINUTE_MS}
    acme = Acme([m for m in minutes(250) if m not in gone])
    window = Window(START, START + 250 * MINUTE_MS)
    fetched = fetch_with(FEED, ACME, [window], acme.get)
    fetched = confirm_with(FEED, ACME, fetched, START + DAY_MS, acme.get)
    assert fetched.absent == [
        Window(START + 3 * MINUTE_MS, START + 5 * MINUTE_MS),
        Window(START + 150 * MINUTE_MS, START + 151 * MINUTE_MS),
    ]
    assert fetched.answered == [window]
    assert len(acme.requests) == 5


def test_a_hole_that_fills_on_the_second_question_is_none():
    acme = Acme([m for m in minutes(100) if m != START + 7 * MINUTE_MS])
    fetched = fetch_with(FEED, ACME, [Window(START, START + 100 * MINUTE_MS)], acme.get)
    acme.minutes = minutes(100)
    fetched = confirm_with(FEED, ACME, fetched, START + DAY_MS, acme.get)
    assert fetched.absent == []
    assert [row.ts for row in fetched.list_rows()] == minutes(100)


def test_rows_at_the_edges_of_pages_that_lack_them_are_found_by_the_second_question():
    """They were absent: holes on one page are asked for together, and lay at the edges of that answer, too."""
    acme = Acme(minutes(400, START - 50 * MINUTE_MS))
    window = Window(START, START + 250 * MINUTE_MS)
    lack_edges = lambda request, cost: acme.get(request, cost)[1:-1]  # noqa: E731
    fetched = fetch_with(FEED, ACME, [window], lack_edges)
    assert len(fetched.rows) == 250 - 2 * 3
    fetched = confirm_with(FEED, ACME, fetched, START + DAY_MS, lack_edges)
    assert (fetched.absent, fetched.answered) == ([], [window])
    assert [row.ts for row in fetched.list_rows()] == minutes(250)


@pytest.mark.parametrize("order", list(Order))
def test_an_exchange_that_cuts_its_pages_short_is_asked_until_nothing_more_comes(order):
    acme = Acme(minutes(100), order, most=30)
    window = Window(START, START + 101 * MINUTE_MS)
    fetched = fetch_with(FEED, ACME, [window], acme.get)
    fetched = confirm_with(FEED, ACME, fetched, START + DAY_MS, acme.get)
    assert [row.ts for row in fetched.list_rows()] == minutes(100)
    assert fetched.absent == [Window(START + 100 * MINUTE_MS, window.end_ms)]


def test_what_is_older_than_the_certain_retention_is_absent_at_once():
    feed = replace(FEED, retention=Retention(certain_ms=200 * MINUTE_MS, possible_ms=DAY_MS))
    acme = Acme(minutes(100, START + 50 * MINUTE_MS))
    fetched = fetch_with(feed, ACME, [Window(START, START + 100 * MINUTE_MS)], acme.get)
    acme.requests.clear()
    kept_ms = START + 40 * MINUTE_MS
    fetched = confirm_with(feed, ACME, fetched, kept_ms + 200 * MINUTE_MS - EXPIRY_MS, acme.get)
    assert fetched.absent == [Window(START, kept_ms), Window(kept_ms, START + 50 * MINUTE_MS)]
    assert acme.requests == [(kept_ms, START + 51 * MINUTE_MS - 1)], "with a row behind it, and none that is not kept"
    assert feed.retention.requested_ms == DAY_MS


def test_a_sparse_feed_is_unknown_before_what_is_kept_for_certain_and_its_first_row():
    feed = replace(FEED, sparse=True, retention=Retention(certain_ms=200 * MINUTE_MS, possible_ms=DAY_MS))
    window, now_ms = Window(START, START + 100 * MINUTE_MS), START + 240 * MINUTE_MS - EXPIRY_MS
    for first, known in ((30, 30), (60, 40)):
        acme = Acme([START + first * MINUTE_MS, START + 70 * MINUTE_MS])
        fetched = fetch_with(feed, ACME, [window], acme.get)
        fetched = confirm_with(feed, ACME, fetched, now_ms, acme.get)
        assert fetched.absent == [Window(START, START + known * MINUTE_MS)]
        assert len(acme.requests) == 1


def test_rows_after_the_range_show_that_a_sparse_feed_was_not_asked_for_it():
    feed = replace(FEED, sparse=True)
    fetched = fetch_with(feed, ACME, [Window(START, START + MINUTE_MS)], lambda *_: [[START + 2 * MINUTE_MS, "1"]])
    assert "after the requested range" in str(fetched.errors[0])
    assert (fetched.answered, fetched.rows) == ([], {})
    at_its_end = fetch_with(feed, ACME, [Window(START, START + MINUTE_MS)], lambda *_: [[START + MINUTE_MS, "1"]])
    assert (at_its_end.failed, at_its_end.rows) == (None, {})


@pytest.mark.parametrize("sparse", [True, False])
def test_of_an_answer_that_holds_all_rows_those_outside_of_the_page_are_passed_over(sparse):
    feed = replace(FEED, sparse=sparse, paging=replace(FEED.paging, whole=True))
    rows = [[START + n * MINUTE_MS, str(n)] for n in reversed(range(10))]
    fetched = fetch_with(feed, ACME, [Window(START + 3 * MINUTE_MS, START + 5 * MINUTE_MS)], lambda *_: rows)
    assert ([row.pfr for row in fetched.list_rows()], fetched.errors, fetched.failed) == (["3", "4"], [], None)
    before = fetch_with(feed, ACME, [Window(START - 3 * MINUTE_MS, START)], lambda *_: rows)
    assert (before.rows, before.failed, len(before.answered)) == ({}, None, 1)


def test_two_rows_of_one_time_must_agree():
    window = Window(START, START + MINUTE_MS)
    twice = fetch_with(FEED, ACME, [window], lambda *_: [[START, "1"], [START, "1"]])
    assert [row.pfr for row in twice.list_rows()] == ["1"]
    differing = fetch_with(FEED, ACME, [window], lambda *_: [[START, "1"], [START, "2"]])
    assert "differ" in str(differing.errors[0])
    assert differing.rows == {}


def test_between_two_points_of_the_grid_nothing_is_asked_for():
    acme = Acme(minutes(100))
    gap = Window(START + 1, START + MINUTE_MS)
    fetched = fetch_with(FEED, ACME, [gap], acme.get)
    assert (fetched.answered, fetched.rows, acme.requests) == ([gap], {}, [])


def test_a_young_hole_stays_missing():
    acme = Acme([m for m in minutes(100) if m != START + 95 * MINUTE_MS])
    window = Window(START, START + 100 * MINUTE_MS)
    fetched = fetch_with(FEED, ACME, [window], acme.get)
    fetched = confirm_with(FEED, ACME, fetched, START + 98 * MINUTE_MS, acme.get)
    assert fetched.absent == []
    young = START + 95 * MINUTE_MS
    assert fetched.answered == [Window(START, young), Window(young + MINUTE_MS, window.end_ms)]


def test_of_a_hole_that_reaches_the_present_only_the_young_part_stays_missing():
    """A contract that trades no more had its whole hole asked for every minute, and it grew."""
    acme = Acme(minutes(10))
    window = Window(START, START + 100 * MINUTE_MS)
    fetched = fetch_with(FEED, ACME, [window], acme.get)
    fetched = confirm_with(FEED, ACME, fetched, START + 100 * MINUTE_MS + 10_000, acme.get)
    edge_ms = START + 97 * MINUTE_MS
    assert fetched.absent == [Window(START + 10 * MINUTE_MS, edge_ms)]
    assert fetched.answered == [Window(START, edge_ms)]


def test_after_a_stop_only_ranges_without_holes_count_as_answered():
    acme = Acme([m for m in minutes(200) if m != START + 7 * MINUTE_MS])

    def get(request, cost):
        if acme.requests:
            raise Stopped
        return acme.get(request, cost)

    fetched = fetch_with(FEED, ACME, [Window(START, START + 200 * MINUTE_MS)], get)
    fetched = confirm_with(FEED, ACME, fetched, START + DAY_MS, get)
    assert fetched.absent == []
    assert isinstance(fetched.failed, Stopped)
    hole = START + 7 * MINUTE_MS
    assert fetched.answered == [Window(START, hole), Window(hole + MINUTE_MS, START + 100 * MINUTE_MS)]


def test_a_sparse_feed_has_no_holes():
    feed = replace(FEED, sparse=True)
    acme = Acme(minutes(3))
    fetched = fetch_with(feed, ACME, [Window(START, START + 100 * MINUTE_MS)], acme.get)
    fetched = confirm_with(feed, ACME, fetched, START + DAY_MS, acme.get)
    assert fetched.absent == []
    assert len(acme.requests) == 1


def test_a_page_with_no_row_of_the_window_is_a_bad_payload():
    fetched = fetch_with(FEED, ACME, [Window(START, START + 100 * MINUTE_MS)], lambda *_: [[START - MINUTE_MS, "1"]])
    assert isinstance(fetched.failed, BadPayload)
    assert "none of 1 rows" in str(fetched.failed)
    assert fetched.rows == {}


@pytest.mark.parametrize("item", [[1767225600, "1"], ["x", "1"], [START + 1, "1"]])
def test_a_bad_row_is_named_and_costs_no_other_row(item):
    """The fault: one odd row among good ones voided its page, and the window rested after five tries."""
    fetched = fetch_with(FEED, ACME, [Window(START, START + 100 * MINUTE_MS)], lambda *_: [[START, "1"], item])
    (error,) = fetched.errors
    assert error.exchange == "acme"
    assert error.request.startswith("/v1/premium")
    assert error.body == str(item)
    assert (fetched.failed, list(fetched.rows)) == (None, [START])


@pytest.mark.parametrize("bad", [[START, None], ["x"], [START + 1, "1"], [START - DAY_MS * 20_000, "1"]])
def test_a_page_of_which_most_is_bad_is_refused(bad):
    window = Window(START, START + 100 * MINUTE_MS)
    feed = replace(
        FEED, parse=lambda item, instrument: Premium(to_ms(get_element(item, 0)), read_number(get_element(item, 1)))
    )
    fetched = fetch_with(feed, ACME, [window], lambda *_: [[START, "1"], [START + MINUTE_MS, "1"], bad, bad, bad])
    assert "3 of 5 elements" in str(fetched.failed)
    assert (fetched.failed.exchange, fetched.rows, fetched.answered) == ("acme", {}, [])


def test_a_bad_row_stays_missing_and_only_its_page_is_requested_again():
    """What is unreadable is neither absent nor a failure of the window."""
    odd_ms, absent_ms = START + 150 * MINUTE_MS, START + 170 * MINUTE_MS
    acme = Acme([ts for ts in minutes(300) if ts != absent_ms])

    def get(request, cost):
        return [[ts, None if ts == odd_ms else value] for ts, value in acme.get(request, cost)]

    feed = replace(FEED, parse=lambda item, instrument: Premium(to_ms(item[0]), read_number(item[1])))
    fetched = fetch_with(feed, ACME, [Window(START, START + 300 * MINUTE_MS)], get)
    fetched = confirm_with(feed, ACME, fetched, START + DAY_MS, get)
    assert fetched.absent == [Window(absent_ms, absent_ms + MINUTE_MS)]
    assert len(fetched.rows) == 298
    assert fetched.failed is None
    odd = Window(odd_ms, odd_ms + MINUTE_MS)
    assert fetched.answered == subtract(Window(START, START + 300 * MINUTE_MS), [odd])
    assert {error.body for error in fetched.errors} == {str([odd_ms, None])}
    assert len(acme.requests) == 3 + 1 + 2, "three pages, both holes together, and each by itself"


def test_missing_rows_that_lie_on_one_page_share_a_request():
    acme = Acme(minutes(300))
    missing = [Window(START + at * MINUTE_MS, START + (at + 1) * MINUTE_MS) for at in range(0, 300, 7)]
    fetched = fetch_with(FEED, ACME, missing, acme.get)
    assert sorted(fetched.rows) == [window.start_ms for window in missing]
    assert fetched.answered == missing
    assert len(acme.requests) == 3


def test_each_page_of_a_long_hole_is_confirmed_by_itself():
    acme = Acme([])
    units = iter(range(7))

    def get(request, cost):
        if next(units, None) is None:
            raise RetryLater("the time is up", retry_after_s=0)
        return acme.get(request, cost)

    fetched = fetch_with(FEED, ACME, [Window(START, START + 450 * MINUTE_MS)], get)
    fetched = confirm_with(FEED, ACME, fetched, START + DAY_MS, get)
    confirmed = Window(START, START + 200 * MINUTE_MS)
    assert isinstance(fetched.failed, RetryLater)
    assert (fetched.absent, fetched.answered) == ([confirmed], [confirmed])


def test_a_long_hole_that_is_confirmed_is_one():
    window = Window(START, START + 450 * MINUTE_MS)
    fetched = fetch_with(FEED, ACME, [window], Acme([]).get)
    fetched = confirm_with(FEED, ACME, fetched, START + DAY_MS, Acme([]).get)
    assert (fetched.absent, fetched.answered) == ([window], [window])


def test_a_long_hole_of_a_sparse_feed_is_confirmed_as_a_whole():
    feed = replace(FEED, sparse=True, due_every_ms=80 * MINUTE_MS)
    window = Window(START, START + 450 * MINUTE_MS)
    fetched = fetch_with(feed, ACME, [window], Acme([]).get)
    fetched = confirm_with(feed, ACME, fetched, START + DAY_MS, Acme([]).get)
    assert (fetched.absent, fetched.answered) == ([window], [window])


EVERY_40 = [START + each * MINUTE_MS for each in range(0, 400, 40)]


@pytest.mark.parametrize("has_it_then", [True, False])
def test_a_row_that_a_sparse_feed_lacks_between_nearer_ones_is_asked_for_again(has_it_then):
    """A contract that settles every four hours lacked one: that was no hole, because eight hours may be none."""
    feed = replace(FEED, sparse=True, due_every_ms=80 * MINUTE_MS)
    window, lost = Window(START, START + 400 * MINUTE_MS), EVERY_40[4]
    acme = Acme([ts for ts in EVERY_40 if ts != lost])
    fetched = fetch_with(feed, ACME, [window], acme.get)
    assert lost not in fetched.rows
    later = Acme(EVERY_40) if has_it_then else acme
    fetched = confirm_with(feed, ACME, fetched, START + DAY_MS, later.get)
    assert fetched.answered == [window]
    assert sorted(fetched.rows) == (EVERY_40 if has_it_then else [ts for ts in EVERY_40 if ts != lost])
    assert fetched.absent == ([] if has_it_then else [Window(EVERY_40[3] + 1, EVERY_40[5])])


@pytest.mark.parametrize(
    ("at_hours", "holes"),
    [
        ((0, 4, 8, 12, 16), []),
        ((0, 4, 8, 16, 20, 24), [(8, 16)]),
        ((0, 1, 2, 4, 5, 6), [(2, 4)]),
        ((0, 4, 8, 16, 24, 32), []),  # the interval changes
        ((0, 8, 16, 20, 24), []),
        ((0, 1, 2, 7, 15, 23), []),  # a change from one to eight within an interval
        ((0, 4, 12, 16), [(4, 12)]),
        ((0, 8, 12, 16), []),  # at the edges two neighbours are not known
        ((0, 4, 8, 16), []),
        ((0, 4, 8, 17, 21, 25), [(8, 17)]),
        ((4, 13, 21), [(4, 13)]),
    ],
)
def test_where_rows_of_a_sparse_feed_were_due(at_hours, holes):
    hours = [START + each * HOUR_MS for each in at_hours]
    window = Window(START, hours[-1] + 1)
    expected = [Window(START + begin * HOUR_MS + 1, START + end * HOUR_MS) for begin, end in holes]
    assert find_overdue(hours, window, 8 * HOUR_MS) == expected


@pytest.mark.parametrize(
    ("at_hours", "holes"),
    [
        ((0, 4, 8), []),
        ((0, 8, 12, 16), [(0, 8)]),
        ((0, 4, 12), [(4, 12)]),
        ((0, 4, 6, 8, 10), [(0, 4)]),  # the interval may have changed: it is asked for all the same
        ((0, 9), [(0, 9)]),
    ],
)
def test_where_rows_may_be_lost_beside_the_edges(at_hours, holes):
    hours = [START + each * HOUR_MS for each in at_hours]
    window = Window(START, hours[-1] + HOUR_MS)
    expected = [Window(START + begin * HOUR_MS + 1, START + end * HOUR_MS) for begin, end in holes]
    assert find_overdue(hours, window, 8 * HOUR_MS, at_edges=True) == expected


class Spare:
    """A rate limit with units to spare for so many requests."""

    def __init__(self, acme, units):
        self.acme = acme
        self.units = iter(range(units))
        self.lock = threading.Lock()
        self.threads = set()

    def get(self, request, cost):
        with self.lock:
            self.threads.add(threading.get_ident())
            if next(self.units, None) is None:
                raise BudgetSpent("spent", retry_after_s=1)
        return self.acme.get(request, cost)


THOUSAND = Window(START, START + 1000 * MINUTE_MS)


@pytest.mark.parametrize("units", (0, 1, 5, 1000))
@pytest.mark.parametrize("order", Order)
def test_helpers_fetch_what_one_alone_would(units, order):
    feed = replace(FEED, paging=replace(FEED.paging, exact=False, order=order))
    window = Window(START, START + 2050 * MINUTE_MS)
    acme = Acme(minutes(2050), order, most=40)
    fetched = fetch_with(feed, ACME, [window], acme.get, helpers=4, spare=Spare(acme, units).get)
    assert fetched.failed is None
    assert [row.ts for row in fetched.list_rows()] == minutes(2050)
    assert fetched.answered == [window]


def test_helpers_end_when_nothing_is_to_spare_and_the_caller_goes_on_alone():
    acme = Acme(minutes(1000))
    spare = Spare(acme, 0)
    fetched = fetch_with(FEED, ACME, [THOUSAND], acme.get, helpers=4, spare=spare.get)
    assert len(fetched.rows) == 1000
    assert len(acme.requests) == 10
    assert threading.get_ident() not in spare.threads


def test_an_error_of_a_helper_ends_the_work_and_keeps_what_was_answered():
    acme = Acme(minutes(1000))

    def down(request, cost):
        raise RetryLater("down", retry_after_s=1)

    fetched = fetch_with(FEED, ACME, [THOUSAND], acme.get, helpers=4, spare=down)
    assert isinstance(fetched.failed, RetryLater)
    assert sum(window.end_ms - window.start_ms for window in fetched.answered) == len(fetched.rows) * MINUTE_MS


def test_a_bug_in_a_helper_is_raised():
    acme = Acme(minutes(1000))

    def broken(request, cost):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fetch_with(FEED, ACME, [THOUSAND], acme.get, helpers=4, spare=broken)


def test_a_stop_does_not_wait_for_helpers():
    acme, requested, released = Acme(minutes(1000)), threading.Event(), threading.Event()
    answers = iter([acme.get])  # a helper begins with the second page

    def slow(request, cost):
        requested.set()
        released.wait(60)
        return acme.get(request, cost)

    def stopping(request, cost):
        for get in answers:
            return get(request, cost)
        requested.wait(60)
        raise Stopped

    fetched = fetch_with(FEED, ACME, [THOUSAND], stopping, helpers=4, spare=slow)
    assert isinstance(fetched.failed, Stopped)
    assert len(fetched.rows) == 100
    released.set()
