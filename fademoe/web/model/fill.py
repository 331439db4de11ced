"""What filling would take, worked out before anybody requests it. Sends no request and changes nothing."""

from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window, subtract
from fademoe.settings import Settings
from fademoe.store.read import catalog as read_catalog
from fademoe.store.read import coverage as read_coverage
from fademoe.web.model.answer import Answer
from fademoe.web.model.catalog import find_perpspec
from fademoe.web.model.estimate import estimate


class FillPlan(Answer):
    """How many series lack rows, and what fetching them takes at most; `reason` says why nothing can be fetched.

    `lost` windows reach back further than the exchange keeps rows.
    """

    perpspec: str
    series: int
    windows: int
    requests: int
    rows: int
    minutes: float
    lost: int
    reason: str | None


def plan_fill(
    cursor: Cursor, name: str, symbols: tuple[str, ...], window: Window | None, *, now_ms: int, settings: Settings
) -> FillPlan:
    """Return what filling a perpspec takes: what is requested and missing, or what a whole window lacks.

    `symbols` empty: all of the perpspec.
    """
    spec = find_perpspec(cursor, name)
    chosen = sorted(symbols or read_catalog.list_symbols(cursor, spec.name))
    ranges = read_coverage.list_ranges(cursor, [(spec.name, symbol) for symbol in chosen], now_ms)
    gaps = [_find_gaps(ranges.get((spec.name, symbol)), window) for symbol in chosen]
    return plan_gaps(spec.name, gaps, now_ms=now_ms, settings=settings)


def plan_gaps(source: str, gaps: list[list[Window]], *, now_ms: int, settings: Settings) -> FillPlan:
    """Return what fetching the gaps of some series of a perpspec takes."""
    cost = estimate(source, [gap for of_series in gaps for gap in of_series], now_ms, settings)
    return FillPlan(perpspec=source, series=sum(map(bool, gaps)), **cost._asdict())


def _find_gaps(ranges: read_coverage.SeriesRanges | None, window: Window | None) -> list[Window]:
    if window is None:
        return ranges.missing if ranges else []
    return subtract(window, ranges.covered if ranges else [])
