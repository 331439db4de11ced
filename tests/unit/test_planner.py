"""Which windows are fetched, and in which order, against a made-up exchange."""

from dataclasses import replace
from decimal import Decimal

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window
from fademoe.feeds.estimate import estimate_s
from fademoe.feeds.exchange import Exchange, InstrumentsFeed
from fademoe.feeds.history import Latency, Retention
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.limits import Budget
from fademoe.feeds.paging import Effort, compute_closed_until_ms
from fademoe.jobs.plan import FeedState, plan_gaps, select_due_gaps, sort_by_priority
from fademoe.store.coverage import Series
from tests.unit.test_fetch import FEED

NOW = 20_505 * DAY_MS + 7 * HOUR_MS
CANDLES = replace(FEED, metric="ohlcv", path="/v1/candles")
MONTH = replace(FEED, metric="oi", retention=Retention(certain_ms=30 * DAY_MS))
HALF_YEAR = replace(FEED, retention=Retention(certain_ms=180 * DAY_MS))
ACME = Exchange(
    name="acme",
    title="Acme",
    codes=("acm",),
    rest_url="http://acme.test",
    budgets=(Budget(name="ip", limit=100, period_ms=MINUTE_MS, jitter_ms=0),),
    instruments=InstrumentsFeed(
        path="/", budget="ip", parse=lambda item: None, items=lambda body: body, source="made up"
    ),
    clock=None,
    judge=lambda answer: None,
    rest_feeds=(CANDLES, MONTH, HALF_YEAR),
)
INSTRUMENTS = {
    symbol: Instrument(exchange="acme", code="acm", name=f"{symbol}-PERP", symbol=symbol) for symbol in ("BTC", "ETH")
}


def planned(feed, *gaps, queued=None):
    wanted = [(Series(f"acm-{feed.metric}", symbol), Window(start_ms, end_ms)) for symbol, start_ms, end_ms in gaps]
    state = FeedState(
        exchange=ACME, feed=feed, now_ms=NOW + feed.latency.settle_ms, queued=queued or {}, instruments=INSTRUMENTS
    )
    return plan_gaps(state, wanted, with_live_edge=True)


def names(windows):
    return [
        (item.task.series.source, item.task.series.symbol, (NOW - item.task.window.end_ms) // DAY_MS)
        for item in windows
    ]


def test_windows_are_newest_first():
    windows = planned(CANDLES, ("ETH", NOW - 25 * DAY_MS, NOW), ("BTC", NOW - 25 * DAY_MS, NOW))
    assert names(sort_by_priority(windows)) == [
        ("acm-ohlcv", "BTC", 0),
        ("acm-ohlcv", "ETH", 0),
        ("acm-ohlcv", "BTC", 5),
        ("acm-ohlcv", "ETH", 5),
        ("acm-ohlcv", "BTC", 15),
        ("acm-ohlcv", "ETH", 15),
    ]


def test_what_an_exchange_drops_is_first_by_how_soon_its_oldest_minute_is_lost():
    windows = [
        *planned(CANDLES, ("BTC", NOW - 2 * DAY_MS, NOW)),
        *planned(HALF_YEAR, ("BTC", NOW - 15 * DAY_MS, NOW)),
        *planned(MONTH, ("BTC", NOW - 5 * DAY_MS, NOW), ("ETH", NOW - 25 * DAY_MS, NOW)),
    ]
    order = names(sort_by_priority(windows))
    assert [name[:2] for name in dict.fromkeys((source, symbol) for source, symbol, _ in order)] == [
        ("acm-oi", "ETH"),
        ("acm-oi", "BTC"),
        ("acm-pfr", "BTC"),
        ("acm-ohlcv", "BTC"),
    ]
    assert [age for source, symbol, age in order if (source, symbol) == ("acm-oi", "ETH")] == [0, 5, 15]


def test_what_is_lost_within_a_day_is_before_everything():
    windows = planned(MONTH, ("BTC", NOW - 30 * DAY_MS + HOUR_MS, NOW), ("ETH", NOW - 30 * DAY_MS + 2 * HOUR_MS, NOW))
    assert [symbol for _, symbol, _ in names(sort_by_priority(windows))[:2]] == ["BTC", "ETH"]
    assert all(item.window_ttl_ms < DAY_MS for item in sort_by_priority(windows)[:2])


def test_windows_that_are_under_way_are_left_out():
    gap = ("BTC", NOW - 3 * HOUR_MS, NOW)
    under_way = {Series("acm-ohlcv", "BTC"): [Window(NOW - 2 * HOUR_MS, NOW - HOUR_MS)]}
    left = [item.task.window for item in planned(CANDLES, gap, queued=under_way)]
    assert left == [Window(NOW - 3 * HOUR_MS, NOW - 2 * HOUR_MS), Window(NOW - HOUR_MS, NOW)]


def test_the_open_bar_is_not_asked_for():
    feed = replace(CANDLES, latency=Latency(settle_ms=10_000))
    assert compute_closed_until_ms(feed, NOW + 9_999) == NOW - MINUTE_MS
    assert compute_closed_until_ms(feed, NOW + 10_000) == NOW


def test_the_newest_minutes_have_a_grace_time_and_lost_ones_before_them_have_none():
    series = Series("acm-ohlcv", "BTC")
    newest = (series, Window(NOW - 3 * MINUTE_MS, NOW))
    lost = (series, Window(NOW - 5 * MINUTE_MS, NOW - 4 * MINUTE_MS))
    assert select_due_gaps(CANDLES, [lost, newest], NOW) == [lost]
    too_long = (series, Window(NOW - 4 * MINUTE_MS, NOW))
    assert select_due_gaps(CANDLES, [too_long], NOW) == [too_long]


def test_the_slowest_rate_limit_decides_how_long_fetching_takes():
    budget = ACME.get_budget("ip")
    effort = Effort(requests=1000, cost=2000, rows=100_000)
    alone = estimate_s(ACME, [(CANDLES, effort)], share=Decimal(1), workers=8, delays_s={})
    assert alone == pytest.approx(2000 / budget.limit * 60 + 1)
    assert (
        estimate_s(ACME, [(CANDLES, effort), (MONTH, effort)], share=Decimal("0.5"), workers=8, delays_s={})
        == 4 * (alone - 1) + 1
    )
    assert estimate_s(
        ACME, [(CANDLES, Effort(800, 8, 800))], share=Decimal(1), workers=8, delays_s={}
    ) == pytest.approx(16)
    assert estimate_s(ACME, [], share=Decimal(1), workers=8, delays_s={}) == 0
    closed = estimate_s(ACME, [(CANDLES, effort)], share=Decimal(1), workers=8, delays_s={"ip": 60.0, "other": 900.0})
    assert closed == alone + 60
