"""One symbol over exchanges: columns of stored and derived metrics side by side, aligned in time, gaps explained."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window, ceil_to
from fademoe.metrics import INTERVALS_MS, METRICS, STEPS_MS, Derived, rank_metric
from fademoe.store.read import completeness as read_completeness
from fademoe.store.read import series as read_series
from fademoe.store.read.catalog import Perpspec, find_first_and_last_ts, list_perpspecs
from fademoe.store.read.snapshot import hold_snapshot
from fademoe.store.read.steps import Bucket, read_buckets
from fademoe.web.model.answer import Answer

DEFAULT_COLUMNS = ("ohlcv.c", "fr.fr", "oi.oi", "x-spread.spread_bps")
MAX_REASONS = 1_000  # absences of a series that are looked at


class ComparedSeries(Answer):
    """A column of the comparison; `why_empty` says why it has no value at all, None where it has one."""

    perpspec: str
    code: str
    metric: str
    column: str
    title: str
    unit: str
    why_empty: str | None


class ComparedValue(Answer):
    """The value of a step, None for the reason `why`; `complete`: all of the step is covered and over."""

    value: str | int | None
    complete: bool
    why: str | None


class ComparedRow(Answer):
    """One step; its values are in the order of the series."""

    ts: int
    values: list[ComparedValue]


class Comparison(Answer):
    """Steps of one symbol, the newest first; `quantities` are all columns that can be compared."""

    symbol: str
    step: str
    series: list[ComparedSeries]
    rows: list[ComparedRow]
    quantities: dict[str, str]


class _Ranges(NamedTuple):
    """What is known of a series beside its rows."""

    ranges: read_completeness.SeriesRanges | None
    absences: list[read_series.AbsentRange]
    listed: bool | None  # whether the exchange's list has or had the coin; None of a metric across exchanges


def list_quantities(specs: Mapping[str, Perpspec]) -> dict[str, str]:
    """Return the columns of numbers that perpspecs have, as `metric.column`, with their titles."""
    by_metric = {spec.metric: spec for spec in sorted(specs.values(), key=lambda spec: rank_metric(spec.metric))}
    return {
        f"{spec.metric}.{field.name}": field.title
        for spec in by_metric.values()
        for field in spec.fields
        if field.type != "text"
    }


def compare(
    cursor: Cursor,
    symbol: str,
    quantities: Sequence[str],
    step: str,
    *,
    start_ms: int | None,
    end_ms: int | None,
    limit: int,
    now_ms: int,
) -> Comparison:
    """Return the newest `limit` steps before `end_ms`, none before `start_ms`; without an end, up to the newest row.

    `quantities` are keys of `list_quantities`. Every exchange code that holds the metric of one has a column.
    """
    specs = list_perpspecs(cursor)
    chosen = [tuple(quantity.rsplit(".", 1)) for quantity in quantities]
    columns = [(spec, column) for metric, column in chosen for spec in specs.values() if spec.metric == metric]
    step_ms = STEPS_MS[step]
    with hold_snapshot(cursor):
        window = _find_window(cursor, [spec for spec, _ in columns], symbol, step_ms, start_ms, end_ms, limit)
        buckets: dict[str, dict[int, Bucket]] = {}
        for spec, _ in columns:
            if spec.name not in buckets:
                names = [column for each, column in columns if each.name == spec.name]
                found = read_buckets(cursor, spec, {symbol: window}, names, step, now_ms)
                buckets[spec.name] = {bucket.ts: bucket for bucket in found}
        known = {spec.name: _read_ranges(cursor, spec, symbol, window, now_ms) for spec, _ in columns}
    series, cells = [], []
    for spec, column in columns:
        place = [name for each, name in columns if each.name == spec.name].index(column)
        values = [
            _describe(spec, known[spec.name], buckets[spec.name].get(ts), place, Window(ts, ts + step_ms), now_ms)
            for ts in range(window.end_ms - step_ms, window.start_ms - 1, -step_ms)
        ]
        series.append(_describe_series(spec, column, known[spec.name], values))
        cells.append(values)
    times = range(window.end_ms - step_ms, window.start_ms - 1, -step_ms)
    rows = [ComparedRow(ts=ts, values=[column[at] for column in cells]) for at, ts in enumerate(times)]
    return Comparison(symbol=symbol, step=step, series=series, rows=rows, quantities=list_quantities(specs))


def _describe_series(spec: Perpspec, column: str, known: _Ranges, values: Sequence[ComparedValue]) -> ComparedSeries:
    field = next(field for field in spec.fields if field.name == column)
    is_empty = all(value.value is None for value in values)
    return ComparedSeries(
        perpspec=spec.name,
        code=spec.code,
        metric=spec.metric,
        column=column,
        title=field.title,
        unit=field.unit,
        why_empty=_explain_empty(known, values) if is_empty else None,
    )


def _find_window(
    cursor: Cursor,
    specs: Sequence[Perpspec],
    symbol: str,
    step_ms: int,
    start_ms: int | None,
    end_ms: int | None,
    limit: int,
) -> Window:
    """Return the whole steps to compare."""
    if end_ms is None:
        lasts = [find_first_and_last_ts(cursor, name, [symbol])[1] for name in {spec.name for spec in specs}]
        newest = max((ts for ts in lasts if ts is not None), default=None)
        if newest is None:
            return Window(0, 0)
        end_ms = newest + 1
    end_ms = ceil_to(end_ms, step_ms)
    first_ms = end_ms - limit * step_ms
    return Window(max(first_ms, ceil_to(start_ms, step_ms)) if start_ms is not None else first_ms, end_ms)


def _read_ranges(cursor: Cursor, spec: Perpspec, symbol: str, window: Window, now_ms: int) -> _Ranges:
    ranges = read_completeness.list_ranges(cursor, [(spec.name, symbol)], now_ms).get((spec.name, symbol))
    absences = read_series.list_absences(cursor, spec.name, symbol, window, MAX_REASONS)
    periods = read_series.list_listing_periods(cursor, spec.code, [symbol])
    derived = METRICS.get(spec.metric)
    is_across = isinstance(derived, Derived) and derived.is_across
    return _Ranges(ranges, absences, None if is_across else symbol in periods)


def _describe(
    spec: Perpspec, known: _Ranges, bucket: Bucket | None, place: int, step: Window, now_ms: int
) -> ComparedValue:
    """Return the value of a step, or why there is none."""
    if bucket is not None and bucket.values[place] is not None:
        return ComparedValue(value=bucket.values[place], complete=bucket.completeness.complete, why=None)
    is_covered = known.ranges is not None and _holds(known.ranges.covered, step)
    is_complete = is_covered and step.end_ms <= now_ms
    if bucket is not None:
        return ComparedValue(value=None, complete=is_complete, why="the exchange sends no value")
    return ComparedValue(value=None, complete=is_complete, why=_explain(spec, known, step, now_ms))


def _explain(spec: Perpspec, known: _Ranges, step: Window, now_ms: int) -> str:
    """Return why a step has no row."""
    ranges = known.ranges
    if ranges is None or not _overlaps([*ranges.wanted, *ranges.covered], step):
        return "not requested"
    reasons = [each.reason for each in known.absences if each.start_ms < step.end_ms and each.end_ms > step.start_ms]
    if reasons:
        return f"absent: {reasons[0]}"
    if _overlaps(ranges.absent, step):
        return "absent"
    if _holds(ranges.covered, step):
        has_grid = spec.interval in INTERVALS_MS
        return "nothing happened" if has_grid else "no settlement"
    return "missing" if _overlaps(ranges.missing, step) else "not due yet" if step.end_ms > now_ms else "on its way"


def _explain_empty(known: _Ranges, values: Sequence[ComparedValue]) -> str:
    """Return why a series has no value at all."""
    if known.ranges is None and known.listed is False:
        return "no contract is listed"
    if known.ranges is None:
        return "not requested"
    reasons = list(dict.fromkeys(value.why or "" for value in values))
    return ", ".join(reasons[:3]) or "no step"


def _holds(ranges: Sequence[Window], step: Window) -> bool:
    return any(each.start_ms <= step.start_ms and each.end_ms >= step.end_ms for each in ranges)


def _overlaps(ranges: Sequence[Window], step: Window) -> bool:
    return any(each.start_ms < step.end_ms and each.end_ms > step.start_ms for each in ranges)
