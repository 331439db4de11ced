"""When a connection is given up: for silence of the socket, of a topic, or of a feed of events."""

import pytest

from fademoe.feeds.stream import Reduce, StreamFeed
from fademoe.streams.liveness import MAX_EMPTY_SESSIONS, MIN_EVENT_TOPICS, Broken, Expected, Liveness

HOUR_S = 3600.0


def feed(metric="ohlcv", **options):
    return StreamFeed(
        metric=metric,
        socket="s",
        topic=lambda instrument: instrument.name,
        parse=lambda item, instrument: None,
        source="made up",
        **options,
    )


BARS = feed()
QUIET_BARS = feed(continuous=False)
EVENTS = feed("lq", reduce=Reduce.SUM, continuous=False)
PROVING = feed("lq", reduce=Reduce.SUM, continuous=False, max_silence_s=HOUR_S)


def liveness(**topics):
    expected = {name: Expected(feeds=feeds if isinstance(feeds, tuple) else (feeds,)) for name, feeds in topics.items()}
    found = Liveness(expected)
    found.begin(0.0)
    return found


def keep_alive(line, now_s, *topics):
    line.on_frame(now_s)
    for topic in topics:
        line.on_data(topic, now_s)


def test_the_patience_with_a_topic_that_often_has_nothing_to_send_doubles():
    line = liveness(bars=BARS, other=QUIET_BARS)
    waits, now_s = [], 1000.0
    for _ in range(8):
        line.begin(now_s)
        line.on_data("bars", now_s)
        waited_s = 0
        with pytest.raises(Broken, match="bars is silent"):
            while waited_s < 10_000:
                waited_s += 10
                keep_alive(line, now_s + waited_s, "other")
                line.check(now_s + waited_s)
        waits.append(waited_s)
        now_s += waited_s
    assert waits == [190, 370, 730, 1450, 2890, 5770, 5770, 5770]


def test_a_topic_that_never_has_data_is_abandoned_after_three_sessions():
    line = liveness(bars=BARS, other=QUIET_BARS)
    for _ in range(MAX_EMPTY_SESSIONS):
        line.begin(0.0)
        keep_alive(line, 200.0, "other")
        with pytest.raises(Broken, match="silent"):
            line.check(200.0)
    line.begin(0.0)
    keep_alive(line, 200.0, "other")
    assert line.check(200.0) == ["bars"]
    assert line.check(200.0) == []


def test_data_begin_the_count_of_empty_sessions_again():
    line = liveness(bars=BARS, other=QUIET_BARS)
    for _ in range(3 * MAX_EMPTY_SESSIONS):
        line.begin(0.0)
        keep_alive(line, 200.0, "other")
        with pytest.raises(Broken):
            line.check(200.0)
        line.begin(0.0)
        keep_alive(line, 1.0, "bars")


def test_a_topic_that_the_exchange_refuses_is_not_waited_for():
    line = liveness(bars=BARS, other=QUIET_BARS)
    line.ignore("bars")
    keep_alive(line, 1000.0, "other")
    assert line.check(1000.0) == []


def test_a_socket_on_which_nothing_but_pongs_come_is_abandoned():
    line = liveness(bars=QUIET_BARS)
    line.on_frame(500.0)
    line.on_data("bars", 320.0)
    line.check(500.0)
    with pytest.raises(Broken, match="no data for 180 s"):
        line.check(501.0)
    events = liveness(events=EVENTS)  # where hours may pass without one
    events.on_frame(500.0)
    events.check(501.0)
    with pytest.raises(Broken, match="no frame for 90 s"):
        events.check(600.0)


def test_a_feed_of_all_contracts_without_an_event_for_an_hour_is_not_served():
    line = liveness(**{f"c{n}": PROVING for n in range(MIN_EVENT_TOPICS)})
    line.on_event(PROVING, 100.0)
    line.on_frame(HOUR_S + 100.0)
    line.check(HOUR_S + 100.0)
    assert not line.silent_feeds
    with pytest.raises(Broken, match="no event of lq"):
        line.check(HOUR_S + 101.0)
    assert line.silent_feeds == {"lq"}
    line.begin(HOUR_S + 110.0)
    line.on_frame(HOUR_S + 110.0)
    line.check(HOUR_S + 111.0)
    assert line.silent_feeds == {"lq"}, "a new connection proves nothing"
    line.on_event(PROVING, HOUR_S + 112.0)
    assert not line.silent_feeds


def test_a_few_contracts_may_be_without_an_event_for_hours():
    line = liveness(**{f"c{n}": PROVING for n in range(MIN_EVENT_TOPICS - 1)})
    assert line.proving_feeds == {}
    line.on_frame(5 * HOUR_S)
    line.check(5 * HOUR_S)
