"""Which of the missing ranges come from files, and which are left to REST."""

from dataclasses import replace

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, Window, parse_time
from fademoe.feeds import registry
from fademoe.feeds.instrument import Instrument
from fademoe.jobs.archive_plan import ArchiveState, estimate_files_s, join_periods, split_gaps
from fademoe.jobs.archive_target import sort_lives
from fademoe.store.coverage import Series

NOW = parse_time("2026-11-20T12:00Z")
LISTED = parse_time("2021-01-01")


def make_state(
    exchange="binance", code="bin", name="LTCUSDT", *, requested=None, delisted_ms=None, unlisted=(), seen=None
):
    table = registry.load_exchanges()[exchange]
    life = Instrument(exchange=exchange, code=code, name=name, symbol="LTC", listed_ms=LISTED, delisted_ms=delisted_ms)
    return ArchiveState(
        exchange=table,
        archive=table.archive,
        code=code,
        lives={"LTC": [life]},
        unlisted=set(unlisted),
        seen_ms={} if seen is None else {(name, 1): parse_time(seen)},
        requested=requested or {},
        now_ms=NOW,
    )


def plan(state, metric, since, until):
    feed = state.exchange.find_rest_feed(metric)
    gap = Window(parse_time(since), parse_time(until))
    periods, rest = split_gaps(state, feed, [(Series(f"{state.code}-{metric}", "LTC"), gap)])
    return [item.task.window for item in periods], [window for _, window in rest]


def window(since, until):
    return Window(parse_time(since), parse_time(until))


def test_whole_months_come_from_files_and_the_running_one_over_rest():
    periods, rest = plan(make_state(), "ohlcv", "2026-09-01", "2026-11-20T12:00Z")
    assert periods == [window("2026-10-01", "2026-11-01"), window("2026-09-01", "2026-10-01")]
    assert rest == [window("2026-11-01", "2026-11-20T12:00Z")]


def test_a_small_part_of_a_month_comes_over_rest():
    assert plan(make_state(), "ohlcv", "2026-09-01", "2026-09-12") == ([], [window("2026-09-01", "2026-09-12")])
    periods, rest = plan(make_state(), "ohlcv", "2026-09-01", "2026-09-14")
    assert (periods, rest) == ([window("2026-09-01", "2026-09-14")], [])


def test_where_rest_is_slow_the_days_of_the_running_month_come_from_files():
    state = make_state("okx", "okx", "LTC-USDT-SWAP")
    periods, rest = plan(state, "ohlcv", "2026-11-01", "2026-11-20T12:00Z")
    assert periods == [window("2026-11-01", "2026-11-17T16:00Z")]  # days of UTC+8, two days after their end
    assert rest == [window("2026-11-17T16:00Z", "2026-11-20T12:00Z")]


def test_what_rest_keeps_no_longer_comes_from_files_only():
    periods, rest = plan(make_state(), "oi", "2021-11-01", "2026-11-20")
    assert len(periods) == 59  # December 2021, the first month of metrics, to October 2026
    edge_ms = NOW - 30 * DAY_MS
    assert 2 * DAY_MS <= periods[0].end_ms - edge_ms < 3 * DAY_MS + HOUR_MS, "REST may be asked a day later"
    assert periods[0].end_ms % DAY_MS == 0
    assert rest == [window("2021-11-01", "2021-12-01"), Window(periods[0].end_ms, parse_time("2026-11-20"))]


def test_a_small_part_of_a_month_comes_from_files_for_contracts_that_no_list_has():
    gone = make_state(delisted_ms=parse_time("2026-09-12"), unlisted=[("LTCUSDT", 1)])
    assert plan(gone, "ohlcv", "2026-09-01", "2026-09-03") == ([window("2026-09-01", "2026-09-03")], [])


def test_rest_is_no_way_to_a_contract_that_no_list_has():
    """What it answered of it before is asked of the archive again (see seed)."""
    gap = window("2026-08-01", "2026-09-01")
    for unlisted in ([], [("LTCUSDT", 1)]):
        state = make_state(delisted_ms=parse_time("2026-09-12"), unlisted=unlisted)
        feed = state.exchange.find_rest_feed("ohlcv")
        (period,), _ = split_gaps(state, feed, [(Series("bin-ohlcv", "LTC"), gap)])
        assert (period.effort is None) == bool(unlisted)


def test_settlements_come_from_files_for_contracts_that_no_list_has():
    range_ = ("2026-01-01", "2026-03-01")
    end_ms = parse_time("2026-02-10T09:00Z")
    alive = make_state()
    listed = make_state(delisted_ms=end_ms)
    gone = make_state(delisted_ms=end_ms, unlisted=[("LTCUSDT", 1)])
    assert plan(alive, "fr", *range_) == plan(listed, "fr", *range_) == ([], [window(*range_)])
    periods, rest = plan(gone, "fr", *range_)
    assert periods == [window("2026-02-01", "2026-02-11"), window("2026-01-01", "2026-02-01")]
    assert rest == [window("2026-02-11", "2026-03-01")]


def test_what_files_were_asked_for_is_left_to_rest():
    requested = {"ohlcv": {"LTCUSDT": [window("2026-09-01", "2026-10-01")]}}
    periods, rest = plan(make_state(requested=requested), "ohlcv", "2026-09-01", "2026-11-01")
    assert periods == [window("2026-10-01", "2026-11-01")]
    assert rest == [window("2026-09-01", "2026-10-01")]


@pytest.mark.parametrize("metric", ["lq", "ppr"])
def test_without_an_archive_all_is_left_to_rest(metric):
    feed = registry.load_exchanges()["bybit"].find_rest_feed("ohlcv")
    gaps = [(Series("byb-ohlcv", "LTC"), window("2026-01-01", "2026-03-01"))]
    assert split_gaps(None, feed, gaps) == ([], gaps)
    assert make_state().archive.find_dataset(metric) is None


def test_files_are_asked_for_until_the_last_list_that_had_a_contract_that_may_have_ended():
    state = make_state(delisted_ms=parse_time("2026-10-20"), unlisted=[("LTCUSDT", 1)], seen="2026-10-11T15:00Z")
    assert plan(state, "ohlcv", "2026-09-01", "2026-11-01") == (
        [window("2026-10-01", "2026-10-11"), window("2026-09-01", "2026-10-01")],
        [window("2026-10-11", "2026-11-01")],
    )


def test_what_rest_keeps_for_a_while_comes_from_files_for_contracts_that_no_list_has():
    """REST answers without rows for a contract that it does not have any more."""
    state = make_state(delisted_ms=parse_time("2026-11-12T09:00Z"), unlisted=[("LTCUSDT", 1)])
    assert plan(state, "oi", "2026-11-01", "2026-11-14") == (
        [window("2026-11-01", "2026-11-13")],
        [window("2026-11-13", "2026-11-14")],
    )


def test_the_day_on_which_a_contract_of_another_name_follows_is_shared_at_its_begin():
    """What follows was taken of the dead one's files each minute, and their job has nothing to do with it."""
    dead, day = "1000LTCUSDT", window("2026-09-10", "2026-09-11")
    state = make_state(unlisted=[(dead, 1)])
    (traded,) = state.lives["LTC"]
    ended = replace(traded, name=dead, delisted_ms=day.start_ms + 10 * HOUR_MS)
    follows = replace(traded, listed_ms=day.start_ms + 12 * HOUR_MS)
    state = replace(state, lives={"LTC": sort_lives([follows, ended])})
    assert plan(state, "ohlcv", "2026-09-10", "2026-09-11") == (
        [Window(day.start_ms, follows.listed_ms)],
        [Window(follows.listed_ms, day.end_ms)],
    )


def test_metrics_of_one_dataset_are_one_job():
    state = make_state()
    planned = []
    for metric, since in (("oi", "2026-05-03"), ("lsr", "2026-05-01")):
        feed = state.exchange.find_rest_feed(metric)
        gap = Window(parse_time(since), parse_time("2026-06-01"))
        planned += split_gaps(state, feed, [(Series(f"bin-{metric}", "LTC"), gap)])[0]
    [joined] = join_periods(planned)
    assert joined.task == (Series("bin-oi", "LTC"), window("2026-05-01", "2026-06-01"))
    assert joined.files == 64  # each day and the one before, with their checksums
    assert estimate_files_s([joined], share=0.9, limit=10, workers=2) == pytest.approx(64 / 9)
