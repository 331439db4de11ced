"""One series as points of a chart, with the ranges that have no rows."""

from psycopg2.extensions import cursor as Cursor

from fademoe import metrics
from fademoe.clock import MINUTE_MS, Window, floor_to
from fademoe.store.read import chart as read_chart
from fademoe.store.read.catalog import Perpspec
from fademoe.store.read.completeness import list_ranges
from fademoe.store.read.snapshot import hold_snapshot
from fademoe.web.model.answer import Answer

MAX_POINTS = 10_000
CHART_STEPS_MS = {"1m": MINUTE_MS, **metrics.STEPS_MS}
DEFAULT_STEP = "1h"


class Points(Answer):
    """One series in equal steps, as columns of numbers to draw; a step without a row is null.

    `incomplete`: steps with rows of a part of their time. `events`: the rows have no fixed interval, so they come as
    they are. `bands` are the ranges without rows. `open_ms`: from when on rows may still come, null where none may.
    """

    perpspec: str
    exchange: str
    symbol: str
    events: bool
    step_ms: int
    ts: list[int]
    columns: dict[str, list[float | None]]
    incomplete: list[int]
    bands: list[read_chart.Band]
    open_ms: int | None


def read_points(cursor: Cursor, spec: Perpspec, symbol: str, window: Window, step_ms: int, now_ms: int) -> Points:
    """Return the points of a series in a window, in steps of `step_ms` or of its own interval if that is longer."""
    own_step_ms = metrics.INTERVALS_MS.get(spec.interval)
    step_ms = max(step_ms, own_step_ms or 0)
    window = Window(floor_to(window.start_ms, step_ms), window.end_ms)
    with hold_snapshot(cursor):
        points = read_chart.read_points(
            cursor,
            spec,
            symbol,
            window,
            step_ms=step_ms if own_step_ms else None,
            own_step_ms=own_step_ms,
            now_ms=now_ms,
        )
        ranges = list_ranges(cursor, [(spec.name, symbol)], now_ms).get((spec.name, symbol))
    return Points(
        perpspec=spec.name,
        exchange=spec.exchange,
        symbol=symbol,
        events=own_step_ms is None,
        step_ms=step_ms,
        ts=points.ts,
        columns=points.columns,
        incomplete=points.incomplete,
        bands=read_chart.list_bands(ranges, window, step_ms=step_ms, now_ms=now_ms) if ranges else [],
        open_ms=read_chart.find_open_ms(ranges, window) if ranges else None,
    )
