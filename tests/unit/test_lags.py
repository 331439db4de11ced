"""When rows are known, by the declarations of the feeds."""

import pytest

from fademoe.clock import MINUTE_MS, SECOND_MS
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.feeds.lags import compute_known_ms, find_lag, find_lags, list_intervals, list_lags

T = 1_767_225_600_000  # a full hour


def test_what_is_declared_of_three_exchanges():
    lags = {
        (lag.source, lag.interval): lag.lag_ms // SECOND_MS
        for name in ("binance", "bybit", "okx")
        for lag in list_lags(registry.load_exchanges()[name])
    }
    assert all(lags[f"{code}-ohlcv", "1m"] == 2 for code in ("bin", "byb", "okx"))
    assert all(lags[f"{code}-oi", "1m"] == 2 for code in ("bin", "byb", "okx"))
    assert lags["bin-oi", "5m"] == lags["bin-lsr", "5m"] == 201
    assert lags["okx-pfr", "1m"] == 2, "it is streamed"
    assert all(2 * 60 <= lags[f"{code}-pfr", "1m"] <= 6 * 60 for code in ("bin", "byb")), "by REST, in minutes"
    assert all(300 < lags[f"{code}-oi", "5m"] <= 600 for code in ("byb", "okx")), "requested after the next sample"


@pytest.mark.parametrize("exchange", registry.load_exchanges().values(), ids=lambda exchange: exchange.name)
def test_every_feed_has_a_lag_and_a_reason(exchange):
    lags = list_lags(exchange)
    assert len({(lag.source, lag.interval) for lag in lags}) == len(lags)
    feeds = (*exchange.rest_feeds, *exchange.poll_feeds, *exchange.stream_feeds)
    assert {(lag.source.rpartition("-")[2], lag.interval) for lag in lags} == {
        (feed.metric, feed.interval) for feed in feeds
    }
    assert all(lag.lag_ms >= 2 * SECOND_MS and lag.why for lag in lags)


def test_a_bar_is_known_after_its_end_and_a_sample_after_its_instant():
    assert compute_known_ms("bin-ohlcv", "1m", T) == T + 62 * SECOND_MS
    assert compute_known_ms("bin-oi", "5m", T) == T + 201 * SECOND_MS
    assert compute_known_ms("bin-oi", "1m", T) == T + 2 * SECOND_MS
    settlement = find_lag("bin-fr", "settlement")
    assert settlement.compute_known_ms(T) == T + settlement.lag_ms


def test_the_candle_of_the_minute_that_ends_counts_as_known_where_it_is_streamed():
    end_ms = T + MINUTE_MS
    assert find_lag("bin-ohlcv", "1m").find_last_known(end_ms, MINUTE_MS) == T
    assert find_lag("c-bin-ohlcv", "1m").find_last_known(end_ms, MINUTE_MS) < T - 30 * MINUTE_MS
    assert find_lag("okx-pfr", "1m").find_last_known(end_ms, MINUTE_MS) == T - MINUTE_MS
    assert find_lag("bin-lq", "1m").find_last_known(end_ms, MINUTE_MS) == T - MINUTE_MS
    assert find_lag("bin-oi", "1m").find_last_known(end_ms, MINUTE_MS) == T
    # 201 s after the mark of T: at the end of the fourth minute behind it
    statistics = find_lags("bin-oi")[-1]
    assert [statistics.find_last_known(T + i * MINUTE_MS, 5 * MINUTE_MS) for i in (3, 4)] == [T - 5 * MINUTE_MS, T]


def test_a_poll_in_turns_does_not_speak_for_every_row():
    assert find_lag("c-bin-ppr", "1m").lag_ms > 3600 * SECOND_MS
    assert find_lag("c-bin-oi", "1m").lag_ms == 2 * SECOND_MS, "no other feed has this interval"


def test_intervals_are_listed_by_the_slowest_lag_of_any_source():
    assert list_intervals(["okx-oi", "bin-oi"]) == ["1m", "5m"]
    assert list_intervals(["bin-oi", "bin-fr"]) == ["1m", "settlement", "5m"]
    assert list_intervals([]) == []


def test_unknown_sources_and_intervals_are_named():
    with pytest.raises(ConfigError, match="no rows of interval '7m': valid are 1m"):
        find_lag("bin-ohlcv", "7m")
    with pytest.raises(ConfigError, match="unknown perpspec"):
        find_lags("bin-nothing")
