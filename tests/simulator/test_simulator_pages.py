"""Pages, rate limits and decimals of the simulator, without a process."""

import json

import pytest

from fademoe.simulator.clock import DAY_MS
from fademoe.simulator.decimals import rescale, to_fixed, to_trimmed
from fademoe.simulator.limits import Ban, FixedWindow, SlidingWindow
from fademoe.simulator.pages import Chunk, ChunkStore, RowSource, cut_page

HOUR_MS = 3_600_000


def make_source(*, newest_first):
    """Return a series with a row every hour of three days; the last two rows are the tail."""

    def chunk(day):
        times = range(day * DAY_MS, (day + 1) * DAY_MS, HOUR_MS)
        return Chunk(times, [f"{ts // HOUR_MS}" for ts in times], newest_first=newest_first)

    tail = Chunk([70 * HOUR_MS, 71 * HOUR_MS], ["70", "71"], newest_first=newest_first)
    return RowSource(chunk, 70 * HOUR_MS, tail)


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("keep_newest", [False, True])
@pytest.mark.parametrize(
    ("window", "limit"),
    [((0, 72), 500), ((20, 60), 7), ((23, 25), 500), ((69, 72), 2), ((71, 90), 5), ((5, 5), 5), ((30, 72), 0)],
)
def test_a_page_is_the_window_cut_at_the_chosen_end(window, limit, keep_newest, newest_first):
    """Compared with the plain list."""
    wanted = [hour for hour in range(72) if window[0] <= hour < window[1]]
    wanted = (wanted[max(0, len(wanted) - limit) :] if keep_newest else wanted[:limit])[:: -1 if newest_first else 1]
    page = cut_page(
        make_source(newest_first=newest_first),
        window[0] * HOUR_MS,
        window[1] * HOUR_MS,
        limit,
        keep_newest=keep_newest,
        newest_first=newest_first,
    )
    assert json.loads(page) == wanted


def test_rows_with_non_ascii_text_are_cut_by_bytes():
    """Offsets count bytes."""
    chunk = Chunk([1, 2, 3], ['"币安"', '"b"', '"人生"'])
    assert json.loads(b"[%b]" % chunk.cut(1, 3)) == ["b", "人生"]


def test_the_store_drops_the_least_recently_used_chunk():
    """It builds only missing chunks."""
    built = []

    def build(key):
        built.append(key)
        return Chunk([key], [str(key)])

    store = ChunkStore(2)
    for key in (1, 2, 1, 3, 1, 2):
        store.get(key, lambda key=key: build(key))
    assert built == [1, 2, 3, 2]


def test_fixed_windows_start_with_the_clock():
    """Finished windows are kept for the statistics."""
    window = FixedWindow(10, 60_000)
    assert [window.take(4, ms) for ms in (59_000, 59_999, 60_000)] == [4, 8, 4]
    assert not window.is_over() and window.take(7, 60_001) == 11 and window.is_over()
    assert window.find_wait_ms(60_001) == 59_999
    assert window.list_finished(120_000) == [{"start_ms": 60_000, "used": 11}]


def test_sliding_windows_count_the_last_period_at_any_instant():
    """Refused requests do not count."""
    window = SlidingWindow(3, 1_000)
    assert [window.take(1, ms) for ms in (0, 400, 800, 900, 1_000, 1_100)] == [True, True, True, False, True, False]
    assert window.find_wait_ms(1_100) == 300 and window.count_used(1_400) == 2


def test_a_sliding_window_whose_clock_is_set_back_holds_no_unit_longer_than_its_period():
    window = SlidingWindow(3, 1_000)
    assert window.take(3, 100_000)
    assert not window.take(1, 40_000)
    assert not window.take(1, 40_999)
    assert window.take(1, 41_000)


def test_each_ban_is_twice_as_long():
    """Refusals far apart cause none."""
    ban = Ban(2, 100, 250, 1_000)
    assert [ban.count_refusal(ms) for ms in (0, 2_000, 2_500)] == [0, 0, 2_600]
    assert ban.find_end_ms(2_599) == 2_600 and ban.find_end_ms(2_600) == 0
    assert [ban.count_refusal(ms) for ms in (3_000, 3_000, 4_000, 4_000)] == [0, 3_200, 0, 4_250]


def test_decimal_texts_are_exact():
    """Negative, without trailing zeros, and with more decimals than digits."""
    assert [to_fixed(*arguments) for arguments in ((-1_204, 3), (5, 3), (0, 2), (7, 0), (7, -2))] == [
        "-1.204",
        "0.005",
        "0.00",
        "7",
        "700",
    ]
    assert [to_trimmed(*arguments) for arguments in ((1_200, 3), (1_000, 3), (100, 0), (-10, 4))] == [
        "1.2",
        "1",
        "100",
        "-0.001",
    ]
    assert (rescale(12, 1, 3), rescale(1_299, 3, 1)) == (1_200, 12)
