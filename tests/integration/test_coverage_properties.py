"""perp_coverage behaves as sets of minutes do, whatever is wanted and answered in whatever order (hypothesis)."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fademoe.clock import Window
from fademoe.store import coverage
from fademoe.store.coverage import Absence, Covered, Series

SERIES = Series("bin-ohlcv", "BTC")
SPAN = Window(0, 60)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    start = draw(st.integers(min_value=0, max_value=58))
    return Window(start, draw(st.integers(min_value=start + 1, max_value=60)))


@st.composite
def answers(draw: st.DrawFn) -> tuple[Window, list[Window]]:
    """An answered window, and the parts of it that the exchange does not have."""
    window = draw(windows())
    part = draw(st.none() | windows())
    absent = Window(max(part.start_ms, window.start_ms), min(part.end_ms, window.end_ms)) if part else None
    return window, [absent] if absent and absent.start_ms < absent.end_ms else []


STEPS = st.lists(st.tuples(st.just("want"), windows()) | st.tuples(st.just("answer"), answers()), max_size=8)


def points(parts) -> set[int]:
    return {point for part in parts for point in range(*part)}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_coverage_is_set_arithmetic(database, steps):
    wanted, covered, absent = set(), set(), set()
    with database.open_transaction() as cursor:
        cursor.execute("TRUNCATE perp_coverage, perp_absence")
    for kind, step in steps:
        with database.open_transaction() as cursor:
            if kind == "want":
                coverage.want(cursor, [SERIES], *step)
                wanted |= points([step])
            else:
                window, gone = step
                coverage.record(cursor, [Covered(SERIES, [window], [Absence(part, "no row") for part in gone])])
                covered |= points([window])
                absent = (absent - points([window])) | points(gone)
    with database.open_transaction() as cursor:
        gaps = [gap for _, gap in coverage.find_gaps(cursor, SERIES.source, SPAN.end_ms)]
        assert points(gaps) == wanted - covered
        assert points(coverage.find_missing(cursor, SERIES, SPAN)) == points([SPAN]) - covered
        assert points(coverage.find_covered(cursor, SERIES, SPAN)) == covered
        assert coverage.count_absent_ms(cursor, SERIES, SPAN) == len(absent)
        cursor.execute("SELECT start_ms, end_ms FROM perp_absence ORDER BY start_ms")
        reasons = cursor.fetchall()
    assert sorted(point for part in reasons for point in range(*part)) == sorted(absent)
