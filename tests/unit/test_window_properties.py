"""Windows, for all inputs: what split, merge and subtract must keep whatever they are given (hypothesis)."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fademoe.clock import Window, ceil_to, floor_to, merge, split, subtract

TIMES = st.integers(min_value=-50, max_value=250)
SPANS = st.integers(min_value=1, max_value=60)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    start = draw(TIMES)
    return Window(start, start + draw(st.integers(min_value=0, max_value=80)))


def points(*parts: Window) -> set[int]:
    return {point for part in parts for point in range(part.start_ms, part.end_ms)}


def is_ascending_and_apart(parts: list[Window]) -> bool:
    return all(part.start_ms < part.end_ms for part in parts) and all(
        before.end_ms < after.start_ms for before, after in pairwise(parts)
    )


@given(windows(), SPANS)
def test_split_keeps_every_point_once_and_no_piece_is_longer_than_the_span(window, span):
    pieces = list(split(window, span))
    assert [point for piece in pieces for point in range(*piece)] == list(range(*window))
    assert all(0 < piece.end_ms - piece.start_ms <= span for piece in pieces)


@given(windows(), SPANS)
def test_split_cuts_at_multiples_of_the_span(window, span):
    pieces = list(split(window, span))
    assert all(piece.end_ms % span == 0 for piece in pieces[:-1])


@given(st.lists(windows(), max_size=8))
def test_merge_keeps_the_points_and_joins_what_touches(parts):
    merged = merge(parts)
    assert points(*merged) == points(*parts)
    assert is_ascending_and_apart(merged)
    assert merge(merged) == merged


@given(windows(), st.lists(windows(), max_size=8))
def test_subtract_is_the_difference_of_the_points(window, taken):
    left = subtract(window, taken)
    assert points(*left) == points(window) - points(*taken)
    assert is_ascending_and_apart(left)


@given(windows(), st.lists(windows(), max_size=8))
def test_what_is_left_and_what_is_taken_make_the_window_again(window, taken):
    left = subtract(window, taken)
    assert points(*left, *(Window(*part) for part in subtract(window, left))) == points(window)


@given(TIMES, SPANS)
def test_rounding_stays_within_one_step(ts, step):
    low, high = floor_to(ts, step), ceil_to(ts, step)
    assert low <= ts <= high
    assert low % step == high % step == 0
    assert high - low in (0, step)
