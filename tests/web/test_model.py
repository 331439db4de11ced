"""Formats of numbers and times, heat map, queue rates, fill plan: the parts of the pages without a server."""

from pathlib import Path

import pytest
from redis import Redis

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, now_ms
from fademoe.settings import Settings
from fademoe.store.read.completeness import SeriesRanges
from fademoe.store.read.series import ListingPeriod
from fademoe.web.model import format as formatting
from fademoe.web.model.fill import plan_gaps
from fademoe.web.model.heatmap import build_cells, find_window, list_groups
from fademoe.web.model.queue_rates import QueueRates

DAY = 1_767_225_600_000  # 2026-01-01


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 s"),
        (400, "under 1 s"),
        (40_000, "40 s"),
        (61_000, "1 min 1 s"),
        (2 * HOUR_MS, "2 h"),
        (3 * DAY_MS + 4 * HOUR_MS + 5, "3 d 4 h"),
        (DAY_MS + 5 * MINUTE_MS, "1 d"),
        (None, "–"),
    ],
)
def test_durations_have_two_units_at_most(ms: int | None, text: str):
    assert formatting.format_duration(ms) == text


@pytest.mark.parametrize("ms", [0, 4_102_444_800_000, 1791383040000 * 1000, 10**30, -(10**18)])
def test_any_time_and_any_wait_can_be_written(ms: int):
    """A time in the year 56,804 broke the Limits page."""
    assert formatting.format_time(ms)
    assert formatting.format_duration(ms)
    assert formatting.format_age(ms)


@pytest.mark.parametrize(
    ("value", "text"),
    [("1234567.0010", "1\u2009234\u2009567.0010"), ("-1234", "-1\u2009234"), ("0.5", "0.5"), (None, "–"), ("x1", "x1")],
)
def test_numbers_keep_every_digit(value: str | None, text: str):
    assert formatting.group_digits(value) == text


def test_decimal_points_of_a_column_are_aligned():
    text = formatting.align_decimals(["1.25", "10", None, "3.5"])
    assert text == ["1.25", "10\u2007\u2007\u2008", "–", "3.5\u2007"]


def test_heat_map_has_a_state_for_each_cell():
    window = find_window(DAY + 3 * DAY_MS - 5, "day", 4)
    assert window == Window(DAY - DAY_MS, DAY + 3 * DAY_MS)
    wanted = [Window(DAY, DAY + 3 * DAY_MS)]
    ranges = SeriesRanges("s", "BTC", wanted, [], [], [Window(DAY + HOUR_MS, DAY + 2 * DAY_MS)])
    cells = build_cells(ranges, ListingPeriod(DAY, None), window, DAY_MS, DAY + 3 * DAY_MS)
    assert [(cell.wanted_ms // HOUR_MS, cell.missing_ms // HOUR_MS) for cell in cells] == [
        (0, 0),
        (24, 23),
        (24, 24),
        (24, 0),
    ]
    assert [cell.state for cell in cells] == ["unlisted", "partial", "missing", "complete"]
    assert (cells[1].sign, cells[1].words) == ("4", "4 % stored")
    assert list_groups(window, "day") == [("2025-12", 1), ("2026-01", 3)]


def test_a_partial_cell_never_looks_complete_or_empty():
    window = Window(DAY, DAY + DAY_MS)
    for missing in (1, DAY_MS - 1):
        ranges = SeriesRanges("s", "BTC", [window], [], [], [Window(DAY, DAY + missing)])
        [cell] = build_cells(ranges, None, window, DAY_MS, DAY + DAY_MS)
        assert cell.sign in ("1", "99")


def test_one_column_of_an_hour_is_an_hour():
    """A contract listed at noon was not listed in the hour before."""
    hour = Window(DAY + 11 * HOUR_MS, DAY + 12 * HOUR_MS)
    listing = ListingPeriod(DAY + 12 * HOUR_MS, None)
    [cell] = build_cells(SeriesRanges("s", "BTC", [], [], [], []), listing, hour, HOUR_MS, DAY + DAY_MS)
    assert cell.state == "unlisted"


def test_rate_is_known_after_twenty_seconds():
    rates = QueueRates()
    for second, depth in ((0, 100), (10, 90), (30, 70)):
        rates.add(second * 1000, [("q", depth)])
        assert (rates.find_rate("q") is None) == (second < 20)
    rate = rates.find_rate("q")
    assert (rate.per_minute, rate.left_ms) == (60.0, 70_000)
    rates.add(60_000, [("q", 200)])
    assert rates.find_rate("q").left_ms is None
    assert rates.find_rate("other") is None


def test_plan_counts_what_the_gaps_take(redis: Redis):
    gap, settings = Window(DAY, DAY + 10 * DAY_MS), Settings(home=Path("var"), workers=8)
    plan = plan_gaps("bin-ohlcv", [[gap], []], now_ms=DAY + 20 * DAY_MS, settings=settings, redis=redis)
    assert (plan.series, plan.rows, plan.reason) == (1, 14_400, None)
    assert 0 < plan.minutes < 60
    assert plan.requests >= plan.windows >= 1
    fields = {"closed_until": now_ms() + 7_200_000, "closed_why": "HTTP 418"}
    redis.hset("budget:slots1:binance:weight:home", mapping=fields)
    closed = plan_gaps("bin-ohlcv", [[gap]], now_ms=DAY + 20 * DAY_MS, settings=settings, redis=redis)
    assert closed.minutes == pytest.approx(plan.minutes + 120, abs=1)
    assert plan_gaps("bin-ohlcv", [[gap]], now_ms=DAY + DAY_MS, settings=settings, redis=redis).rows <= 1440
    keeps = Settings(home=Path("var"), workers=8, retention_days=15)
    assert plan_gaps("bin-ohlcv", [[gap]], now_ms=DAY + 20 * DAY_MS, settings=keeps, redis=redis).rows == 5 * 1440
    assert "valid are" in plan_gaps("nope-ohlcv", [[gap]], now_ms=DAY, settings=settings, redis=redis).reason
