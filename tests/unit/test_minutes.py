"""Samples and events become minutes only when those were watched."""

import resource
from typing import NamedTuple

import pytest

from fademoe.clock import MINUTE_MS
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.stream import Reduce, StreamFeed
from fademoe.metrics import METRICS, Column, Liquidations, Metric, OpenInterest, PredictedFunding
from fademoe.store.coverage import Series
from fademoe.streams.buffer import Buffer, to_batches
from fademoe.streams.minutes import GRACE_MS, LATE_MS, YOUNG_MS, Item, Minutes, Route
from fademoe.streams.spill import Spill

START = 1_767_225_600_000
BTC = Instrument(exchange="acme", code="acm", name="BTCUSDT", symbol="BTC")


def route(metric, reduce, **options):
    feed = StreamFeed(
        metric=metric,
        socket="s",
        topic=lambda i: i.name,
        parse=lambda d, i: [],
        source="made up",
        reduce=reduce,
        **options,
    )
    return Route(feed, Series(f"acm-{metric}", "BTC"), BTC)


LAST = route("ppr", Reduce.LAST)
SUM = route("lq", Reduce.SUM)


def rows(items):
    return [(item.ts - START, item.row and item.row[1:]) for item in items]


def close_alive(minutes, now_ms):
    """Close what is over, on a connection that is alive."""
    return minutes.close(now_ms, now_ms)


def test_the_last_sample_of_a_minute_is_its_row():
    minutes = Minutes([LAST])
    minutes.watch([LAST], START)
    for at, value in ((1_000, "0.1"), (59_000, "0.3"), (30_000, "0.2"), (61_000, "0.4")):
        minutes.add(LAST, PredictedFunding(START + at, value))
    end = START + MINUTE_MS
    assert minutes.close(end + GRACE_MS - 1, end + 60_000) == []
    assert minutes.close(end + GRACE_MS, end - 1) == [], "nothing proves that the connection was alive to the end"
    assert rows(minutes.close(end + GRACE_MS, end)) == [(0, ("0.3",))]
    assert rows(minutes.close(end + MINUTE_MS + GRACE_MS, end + MINUTE_MS)) == [(MINUTE_MS, ("0.4",))]


def test_a_live_sample_of_open_interest_stands_at_the_end_of_its_minute():
    """The value of a row is never younger than its ts."""
    feed = route("oi", Reduce.LAST)
    minutes = Minutes([feed])
    minutes.watch([feed], START)
    for at_ms, coins in ((0, "1"), (1, "2"), (59_999, "3"), (60_000, "4"), (60_001, "5")):
        minutes.add(feed, OpenInterest(START + at_ms, coins))
    end = START + MINUTE_MS
    assert rows(minutes.close(START + GRACE_MS, START)) == [(0, ("1", None))]
    assert minutes.close(end + GRACE_MS - 1, end) == []
    assert rows(minutes.close(end + GRACE_MS, end)) == [(MINUTE_MS, ("4", None))]


def test_a_minute_whose_end_was_not_watched_has_no_last_sample():
    minutes = Minutes([LAST])
    minutes.watch([LAST], START)
    minutes.add(LAST, PredictedFunding(START + 1_000, "0.1"))
    minutes.end_session()
    minutes.watch([LAST], START + 2 * MINUTE_MS)
    assert minutes.close(START + 3 * MINUTE_MS, START + 3 * MINUTE_MS) == []


def test_events_are_summed_exactly_and_quiet_minutes_are_known_as_watched():
    minutes = Minutes([SUM])
    minutes.watch([SUM], START - 1)
    minutes.add(SUM, Liquidations(START + 5, "0.1", "0"))
    minutes.add(SUM, Liquidations(START + 5, "0.1", "0"))
    minutes.add(SUM, Liquidations(START + 9, "0", "1234567890.000000001"))
    items = close_alive(minutes, START + 2 * MINUTE_MS + GRACE_MS)
    assert rows(items) == [(0, ("0.2", "1234567890.000000001")), (MINUTE_MS, None)]


def test_a_sum_keeps_every_digit():
    """It was rounded to 28."""
    minutes = Minutes([SUM])
    minutes.watch([SUM], START)
    minutes.add(SUM, Liquidations(START + 5, "123456789012345678901234567890.1", "0"))
    minutes.add(SUM, Liquidations(START + 6, "0.000000000000000000000000000003", "0"))
    total = "123456789012345678901234567890.100000000000000000000000000003"
    assert rows(close_alive(minutes, START + MINUTE_MS + GRACE_MS)) == [(0, (total, "0"))]


def test_a_sum_is_not_claimed_before_its_last_events_must_have_come():
    """They come up to a second and a half late: a connection that dies after the minute's end may not bring them."""
    minutes = Minutes([SUM])
    minutes.watch([SUM], START)
    end = START + MINUTE_MS
    assert minutes.close(end + GRACE_MS, end + LATE_MS - 1) == []
    assert minutes.close(end + GRACE_MS - 1, end + LATE_MS) == []
    assert minutes.close(end + GRACE_MS, end, end + LATE_MS - 1) == []
    assert rows(minutes.close(end + GRACE_MS, end, end + LATE_MS)) == [(0, None)], "a pong says that the line is alive"


class Flow(NamedTuple):
    """A row with a column of each aggregate."""

    ts: int
    net: str
    biggest: str | None
    least: str | None
    opened: str
    newest: int | None
    id: str | None


@pytest.fixture
def flow(monkeypatch):
    aggregates = dict(zip(Flow._fields[1:], ("sum", "max", "min", "first", "last", "none"), strict=True))
    columns = tuple(Column(name=name, unit="coins", title=name, aggregate=each) for name, each in aggregates.items())
    metric = Metric(name="flow", title="Flow", row_type=Flow, columns=columns)
    monkeypatch.setitem(METRICS, "flow", metric)
    return route("flow", Reduce.SUM)


def sum_up(flow, *values):
    """Return the row of a minute with these events, the last of which comes first."""
    minutes = Minutes([flow])
    minutes.watch([flow], START)
    for number, each in reversed([*enumerate(values)]):
        minutes.add(flow, Flow(START + number, *each))
    ((_, row),) = rows(close_alive(minutes, START + MINUTE_MS + GRACE_MS))
    return row


def test_events_of_a_minute_are_one_row_by_the_aggregates_of_their_columns(flow):
    """The biggest of three trades was their sum."""
    events = [("-3", "3", "3", "7", 1, "a"), ("10", "10", "10", "8", 2, "b"), ("9", "9", "9", "9", 3, "c")]
    assert sum_up(flow, *events) == ("16", "10", "3", "7", 3, None)


def test_events_may_lack_values(flow):
    """A null ended the session, so that no minute of any contract of the connection was stored."""
    without = (None,) * 2
    assert sum_up(flow, ("1", "2", None, "7", 4, None), ("2", *without, "8", None, None)) == (
        "3",
        "2",
        None,
        "7",
        None,
        None,
    )
    assert sum_up(flow, (None, *without, "7", 4, None), ("2", *without, "8", 5, None))[0] is None


def test_a_sum_that_was_watched_to_its_end_is_kept_when_the_session_ends():
    minutes = Minutes([SUM])
    minutes.watch([SUM], START)
    minutes.add(SUM, Liquidations(START + 5, "0.1", "0"))
    final, unproven = minutes.end_session(START + MINUTE_MS)
    assert (rows(final), unproven) == ([(0, ("0.1", "0"))], [])


def test_repeated_events_of_a_distinct_feed_count_once():
    distinct = route("lq", Reduce.SUM, distinct=True)
    minutes = Minutes([distinct])
    minutes.watch([distinct], START)
    for _ in range(3):
        minutes.add(distinct, Liquidations(START + 5, "0.1", "0"))
    assert rows(close_alive(minutes, START + MINUTE_MS + GRACE_MS)) == [(0, ("0.1", "0"))]


@pytest.mark.parametrize("since", [1, 30_000])
def test_a_minute_watched_in_part_has_no_sum(since):
    minutes = Minutes([SUM])
    minutes.watch([SUM], START + since)
    minutes.add(SUM, Liquidations(START + 40_000, "1", "0"))
    minutes.add(SUM, Liquidations(START + 70_000, "2", "0"))
    items = close_alive(minutes, START + 2 * MINUTE_MS + GRACE_MS)
    assert rows(items) == [(MINUTE_MS, ("2", "0"))]


@pytest.mark.parametrize(("at", "left"), [(30_000, [1]), (62_000, []), (70_000, [0])])
def test_a_sum_of_which_a_part_could_not_be_read_is_abandoned(at, left):
    minutes = Minutes([SUM])
    minutes.watch([SUM], START)
    minutes.add(SUM, Liquidations(START + 1, "1", "0"))
    minutes.spoil(START + at, [SUM])
    minutes.add(SUM, Liquidations(START + 80_000, "2", "0"))
    items = close_alive(minutes, START + 2 * MINUTE_MS + GRACE_MS)
    assert [(item.ts - START) // MINUTE_MS for item in items] == left


def test_a_last_sample_that_could_not_be_read_is_not_the_one_before_it():
    minutes = Minutes([LAST])
    minutes.watch([LAST], START)
    minutes.add(LAST, PredictedFunding(START + 1_000, "0.1"))
    minutes.spoil(START + 30_000, [LAST])
    end = START + MINUTE_MS
    assert minutes.close(end + GRACE_MS, end) == []
    minutes.add(LAST, PredictedFunding(START + 40_000, "0.2"))
    assert rows(minutes.close(end + GRACE_MS, end)) == [(0, ("0.2",))]


def test_what_the_exchange_refuses_to_send_is_not_watched():
    minutes = Minutes([SUM])
    minutes.watch([SUM], START)
    minutes.unwatch([SUM])
    assert close_alive(minutes, START + MINUTE_MS + GRACE_MS) == []
    minutes.end_session()
    minutes.watch([SUM], START + MINUTE_MS)
    assert rows(close_alive(minutes, START + 2 * MINUTE_MS + GRACE_MS)) == [(MINUTE_MS, None)]


def watched(feed=SUM, minutes=3):
    """Return minutes of which so many were watched and closed, with one event in the first."""
    found = Minutes([feed])
    found.watch([feed], START)
    found.add(feed, Liquidations(START + 5, "0.1", "0"))
    found.close(START + minutes * MINUTE_MS + GRACE_MS, START + minutes * MINUTE_MS)
    return found


def late(minutes, at_ms=START + 4 * MINUTE_MS):
    return [(item.ts - START, item.row[1:]) for item in minutes.close(at_ms, at_ms) if item.replaces]


def test_an_event_that_comes_late_makes_a_new_sum_of_its_minute():
    minutes = watched()
    minutes.add(SUM, Liquidations(START + 7, "0.2", "0"))
    minutes.add(SUM, Liquidations(START + MINUTE_MS, "0", "3"))
    assert late(minutes) == [(0, ("0.3", "0")), (MINUTE_MS, ("0", "3"))]
    assert late(minutes) == []
    minutes.end_session()
    minutes.add(SUM, Liquidations(START + 8, "1", "0"))
    assert late(minutes) == [(0, ("1.3", "0"))], "the connection may be another one by then"


def test_old_events_that_are_sent_again_change_nothing():
    minutes = watched(distinct := route("lq", Reduce.SUM, distinct=True))
    minutes.end_session()
    minutes.add(distinct, Liquidations(START + 5, "0.1", "0"))
    minutes.add(distinct, Liquidations(START - MINUTE_MS, "9", "0"))
    assert late(minutes) == []


def test_an_event_of_a_minute_that_is_forgotten_changes_nothing():
    minutes = watched(minutes=3 + YOUNG_MS // MINUTE_MS)
    minutes.add(SUM, Liquidations(START + 5, "7", "0"))
    minutes.add(SUM, Liquidations(START + 4 * MINUTE_MS, "7", "0"))
    assert late(minutes, START + YOUNG_MS) == [(4 * MINUTE_MS, ("7", "0"))]


def test_a_late_event_does_not_make_a_sum_of_a_minute_that_was_abandoned():
    minutes = Minutes([SUM])
    minutes.watch([SUM], START)
    minutes.spoil(START + 30_000, [SUM])
    minutes.close(START + MINUTE_MS + GRACE_MS, START + MINUTE_MS)
    minutes.add(SUM, Liquidations(START + 5, "7", "0"))
    assert late(minutes) == []


def test_samples_that_came_while_topics_were_still_asked_for_count():
    minutes = Minutes([LAST, SUM])
    minutes.add(LAST, PredictedFunding(START + 1_000, "0.1"))
    minutes.watch([LAST, SUM], START + 2_000)
    assert rows(minutes.close(START + MINUTE_MS + GRACE_MS, START + MINUTE_MS)) == [(0, ("0.1",))]


def test_of_doubles_the_last_counts_and_every_watched_minute_is_covered():
    series = LAST.series
    items = [
        Item(LAST.feed, series, START, PredictedFunding(START, "1")),
        Item(LAST.feed, series, START, PredictedFunding(START, "2")),
        Item(SUM.feed, SUM.series, START, None),
    ]
    batches, answers = to_batches(items)
    assert [list(batch.rows.values()) for batch in batches] == [[[PredictedFunding(START, "2")]]]
    assert {answer.series for answer in answers} == {series, SUM.series}


def test_a_full_buffer_drops_the_oldest_and_counts_them():
    """The fault: nobody read the count."""
    buffer = Buffer(max_items=3)
    items = [Item(LAST.feed, LAST.series, START + n, None) for n in range(5)]
    buffer.put(items[:2])
    taken = buffer.take()
    buffer.put(items[2:4])
    buffer.put_back(taken)
    assert [item.ts - START for item in buffer.take()] == [1, 2, 3]
    assert buffer.dropped == 1


def test_spilled_rows_come_back_as_they_were(tmp_path):
    spill = Spill(tmp_path / "deep" / "x.jsonl", [LAST.feed, SUM.feed])
    assert not spill
    items = [
        Item(LAST.feed, LAST.series, START, PredictedFunding(START, "0.000010")),
        Item(SUM.feed, Series("acm-lq", "币安人生"), START, None),
        Item(SUM.feed, SUM.series, START, Liquidations(START, "0.3", "0"), replaces=True),
    ]
    spill.write(items[:1])
    spill.write(items[1:])
    with (tmp_path / "deep" / "x.jsonl").open("ab") as file:
        file.write(b'["ppr","1m","acm-ppr","B\xffC",1,null,false,2]\n')  # damaged on disk
        file.write(b'["ppr", "1m", "acm-')  # cut off by a crash
    assert spill
    assert list(spill.read_chunks()) == [items]
    spill.clear()
    assert not spill


def test_rows_that_the_disk_refuses_leave_the_spill_as_it_was(tmp_path):
    spill = Spill(tmp_path / "x.jsonl", [LAST.feed])
    items = [Item(LAST.feed, LAST.series, START + n, PredictedFunding(START + n, "0.1")) for n in range(1000)]
    spill.write(items[:2])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # the disk is full after 10 kB
    try:
        with pytest.raises(OSError, match="too large"):
            spill.write(items[2:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(spill.read_chunks()) == [items[:2]]


def test_a_feed_whose_silence_is_a_fault_is_claimed_only_up_to_its_newest_event():
    """Acknowledged and silent is not watched."""
    proving = route("lq", Reduce.SUM, max_silence_s=3600.0)
    minutes = Minutes([proving], [proving.feed])
    minutes.watch([proving], START)
    late_ms = START + 10 * MINUTE_MS
    minutes.on_event(proving.feed, START + 2 * MINUTE_MS + 1)
    assert rows(minutes.close(late_ms, late_ms)) == [(0, None), (MINUTE_MS, None)]
    assert close_alive(minutes, late_ms + MINUTE_MS) == []
    minutes.on_event(proving.feed, late_ms)
    assert len(minutes.close(late_ms + MINUTE_MS, late_ms + MINUTE_MS)) == 8
    final, ((feed, since_ms, items),) = minutes.end_session(late_ms + 2 * MINUTE_MS)
    assert final == []
    assert (feed, since_ms, rows(items)) == (proving.feed, late_ms, [(10 * MINUTE_MS, None), (11 * MINUTE_MS, None)])
    assert minutes.close(late_ms + 9 * MINUTE_MS, late_ms + 9 * MINUTE_MS) == []
    assert minutes.end_session(late_ms + 9 * MINUTE_MS) == ([], [])


def test_a_late_sample_replaces_the_last_one_of_its_minute():
    minutes = Minutes([LAST])
    minutes.add(LAST, PredictedFunding(START + 1_000, "0.1"))
    end = START + MINUTE_MS
    assert rows(minutes.close(end + GRACE_MS, end)) == [(0, ("0.1",))]
    minutes.add(LAST, PredictedFunding(START + 500, "0.0"))
    assert minutes.close(end + 2 * GRACE_MS, end) == []
    minutes.add(LAST, PredictedFunding(START + 2_000, "0.2"))
    assert [(item.row.ppr, item.replaces) for item in minutes.close(end + 2 * GRACE_MS, end)] == [("0.2", True)]


def test_a_row_that_replaces_another_is_never_dropped_and_comes_last():
    buffer = Buffer(max_items=2)
    first = Item(LAST.feed, LAST.series, START, PredictedFunding(START, "1"))
    second = first._replace(row=PredictedFunding(START, "2"), replaces=True)
    buffer.put([second, first, first, first])
    assert buffer.take() == [first, first, second]
    assert buffer.dropped == 1


def test_a_spill_of_an_older_version_is_read_with_the_instants_of_today(tmp_path):
    """The fault: it stamped samples with the start of their minute."""
    feeds = [route("oi", Reduce.LAST).feed, LAST.feed]
    (tmp_path / "x.jsonl").write_text(
        f'["oi","1m","acm-oi","BTC",{START},[{START},"5",null],false]\n["ppr","1m","acm-ppr","BTC",{START},[{START},"1"],false]\n'
    )
    (items,) = Spill(tmp_path / "x.jsonl", feeds).read_chunks()
    assert [(item.ts - START, item.row.ts - START) for item in items] == [(MINUTE_MS, MINUTE_MS), (0, 0)]
