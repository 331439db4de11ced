"""Points for charts: PostgreSQL aggregates the rows of one series into time steps, and a gap stays a gap.

Values are floats, because they become pixels; exact values come from `fademoe.store.read.rows`.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from msgspec import Struct
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window, ceil_to, floor_to, merge, subtract
from fademoe.metrics import STEPS_MS
from fademoe.store.derived import make_relation
from fademoe.store.queries import load_queries
from fademoe.store.read.catalog import Perpspec
from fademoe.store.read.completeness import SeriesRanges
from fademoe.store.read.snapshot import hold_snapshot
from fademoe.store.read.steps import read_buckets

SQL = load_queries("read_chart")
BandState = Literal["missing", "absent", "unrequested"]
BANDS_MOST = 100


class Points(NamedTuple):
    """Columns of equal length; `ts` is the start of each step. A step without a row holds None.

    `incomplete`: the steps that have rows of a part of their time, so that their values may change.
    """

    ts: list[int]
    columns: dict[str, list[float | None]]
    incomplete: list[int]


class Band(Struct, frozen=True, forbid_unknown_fields=True):
    """A range without rows: not stored yet, not available at the exchange, or never requested."""

    state: BandState
    start_ms: int
    end_ms: int


def read_points(
    cursor: Cursor,
    spec: Perpspec,
    symbol: str,
    window: Window,
    *,
    step_ms: int | None,
    own_step_ms: int | None,
    now_ms: int,
) -> Points:
    """Return one series of a window in steps of `step_ms`; None returns the stored rows, without empty steps.

    `own_step_ms` is the distance of the stored rows, and the shortest possible step. Longer steps are those of
    `steps.read_buckets`, each of them whole.
    """
    names = [field.name for field in spec.fields if field.type != "text"]
    if step_ms is not None and (own_step_ms is None or step_ms > own_step_ms):
        step = next(name for name, length_ms in STEPS_MS.items() if length_ms == step_ms)
        with hold_snapshot(cursor):
            buckets = read_buckets(cursor, spec, {symbol: window}, names, step, now_ms)
        rows = [(bucket.ts, *map(_to_float, bucket.values)) for bucket in buckets]
        incomplete = sorted(bucket.ts for bucket in buckets if not bucket.completeness.complete)
        return _on_grid(names, rows, window, step_ms)._replace(incomplete=incomplete)
    columns = [sql.SQL("{}::float8").format(sql.Identifier(name)) for name in names]
    query = sql.SQL(SQL["rows"]).format(rows=make_relation(spec.name), columns=sql.SQL(", ").join(columns))
    values = {"source": spec.name, "symbol": symbol, "start": window.start_ms, "end": window.end_ms}
    cursor.execute(query, values)
    stored = cursor.fetchall()
    if step_ms is None:
        return Points([row[0] for row in stored], _columns(names, stored), [])
    return _on_grid(names, stored, window, max(step_ms, own_step_ms or 0))


def list_bands(ranges: SeriesRanges, window: Window, *, step_ms: int, now_ms: int) -> list[Band]:
    """Return the ranges of a window where a series has no rows, in whole steps of `step_ms`, oldest first.

    A step is `missing` if any of its rows is missing, but `absent` or `unrequested` only as a whole. The steps are
    joined into longer ones if there are more than BANDS_MOST bands.
    """
    until_now = Window(window.start_ms, max(window.start_ms, min(window.end_ms, now_ms)))
    unrequested = subtract(until_now, merge([*ranges.wanted, *ranges.covered]))
    while True:
        bands = [
            *_cut("missing", ranges.missing, until_now, step_ms, partly=True),
            *_cut("absent", ranges.absent, until_now, step_ms),
            *_cut("unrequested", unrequested, until_now, step_ms),
        ]
        if len(bands) <= BANDS_MOST:
            return sorted(bands, key=lambda band: band.start_ms)
        step_ms *= 2


def find_open_ms(ranges: SeriesRanges, window: Window) -> int | None:
    """Return from when on rows of a window may still come: the first time that is wanted and not covered; or None."""
    uncovered = subtract(window, ranges.covered)
    opens = (
        max(gap.start_ms, wanted.start_ms)
        for gap in uncovered
        for wanted in ranges.wanted
        if wanted.start_ms < gap.end_ms and wanted.end_ms > gap.start_ms
    )
    return min(opens, default=None)


def _cut(state: BandState, windows: list[Window], limits: Window, step_ms: int, *, partly: bool = False) -> list[Band]:
    """Return the steps inside `limits` that lie in `windows`: as a whole, or `partly`.

    The first and the last step may be cut by `limits`.
    """
    down, up = (floor_to, ceil_to) if partly else (ceil_to, floor_to)
    steps = []
    inside = (one for one in windows if one.start_ms < limits.end_ms and one.end_ms > limits.start_ms)
    for window in inside:
        start_ms = limits.start_ms if window.start_ms <= limits.start_ms else down(window.start_ms, step_ms)
        end_ms = limits.end_ms if window.end_ms >= limits.end_ms else min(up(window.end_ms, step_ms), limits.end_ms)
        if start_ms < end_ms:
            steps.append(Window(start_ms, end_ms))
    return [Band(state, *window) for window in merge(steps)]


def _on_grid(names: Sequence[str], rows: list[tuple[float | None, ...]], window: Window, step_ms: int) -> Points:
    by_step = {row[0]: row for row in rows}
    first = window.start_ms - window.start_ms % step_ms
    grid = list(range(first, window.end_ms, step_ms))
    nothing = (None,) * (len(names) + 1)
    return Points(grid, _columns(names, [by_step.get(ts, nothing) for ts in grid]), [])


def _columns(names: Sequence[str], rows: list[tuple[float | None, ...]]) -> dict[str, list[float | None]]:
    if not rows:
        return {name: [] for name in names}
    _, *columns = zip(*rows, strict=True)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def _to_float(value: str | int | None) -> float | None:
    return None if value is None else float(value)
