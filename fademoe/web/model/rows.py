"""Rows of the market data as objects: integers are numbers, decimals are texts with the digits as stored."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import now_ms, to_iso
from fademoe.store.read import rows as read_rows
from fademoe.store.read.catalog import Perpspec
from fademoe.store.read.past import EXTRAS, Basis, Knowledge, Provenance, find_provenance
from fademoe.store.read.rows import MetricPage, RowPage, Selection
from fademoe.store.read.steps import STEP_MEMBERS, read_metric_step_page, read_step_page
from fademoe.web.model.answer import Answer
from fademoe.web.model.catalog import MetricInfo, describe_metric

Number = str | int | bool | None
_KEY = {"ts": {"type": "integer"}, **{name: {"type": "string"} for name in ("symbol", "source", "interval", "time")}}
Row = Annotated[
    dict[str, Number],
    msgspec.Meta(extra_json_schema={"properties": _KEY, "required": ["ts", "symbol", "source", "interval"]}),
]


class Rows(Answer):
    """One page of rows of a perpspec.

    Where it is of a moment: whose knowledge counts, on what it rests, and how many values were put back that were
    changed later.
    """

    perpspec: str
    rows: list[Row]
    next: str | None
    knowledge: Knowledge | UnsetType = UNSET
    basis: Basis | UnsetType = UNSET
    rolled_back: int | UnsetType = UNSET


class MetricRow(Answer):
    """One time and symbol of a metric; a perpspec without a row then is null."""

    ts: int
    symbol: str
    values: dict[str, dict[str, Number] | None]


class MetricRows(MetricInfo):
    """One page of rows of a metric, the perpspecs side by side."""

    rows: list[MetricRow]
    next: str | None


def to_records(rows: Iterable[Sequence[Any]], source: str, columns: Sequence[str], *, iso: bool) -> Iterator[Row]:
    """Yield an object of each row (ts, symbol, interval, values of `columns`…); `iso` adds the member `time`."""
    for ts, symbol, interval, *values in rows:
        record = {"ts": ts, "symbol": symbol, "source": source, "interval": interval}
        if iso:
            record["time"] = to_iso(ts)
        record.update(zip(columns, values, strict=True))
        yield record


def to_texts(record: Row) -> list[Number]:
    """Return the values of a record for formats without truth values: these are `true` or `false`, as in JSON."""
    return [str(value).lower() if isinstance(value, bool) else value for value in record.values()]


def name_members(columns: Sequence[str], *, iso: bool) -> list[str]:
    """Return the names of the members of a record, in order."""
    return ["ts", "symbol", "source", "interval", *(["time"] if iso else []), *columns]


def read_page(cursor: Cursor, spec: Perpspec, selection: Selection, step: str) -> RowPage:
    """Read a page of rows; with a step, of coarser bars, whose values are followed by STEP_MEMBERS."""
    if step:
        return read_step_page(cursor, spec, selection, step, now_ms())
    return read_rows.read_page(cursor, spec, selection)


def settle_past(
    page: RowPage, metric: str, selection: Selection, *, with_known: bool
) -> tuple[RowPage, Provenance | None]:
    """Return a page without EXTRAS, except `known_ms` where it is asked for, and its provenance."""
    if selection.moment is None:
        return page, None
    provenance = find_provenance(page.rows, metric, selection.moment, now_ms())
    kept = int(with_known)
    return page._replace(rows=[row[: len(row) - len(EXTRAS) + kept] for row in page.rows]), provenance


def read_side_by_side(
    cursor: Cursor, specs: list[Perpspec], selection: Selection, step: str
) -> tuple[MetricRows, MetricPage]:
    """Read a page of one metric; return the answer without its `next`, and the page as it was read."""
    if step:
        page = read_metric_step_page(cursor, specs, selection, step, now_ms())
    else:
        page = read_rows.read_metric_page(cursor, specs, selection)
    members = (*selection.columns, *(STEP_MEMBERS if step else ()))
    rows = [
        MetricRow(
            ts=row.ts,
            symbol=row.symbol,
            values={
                spec.name: dict(zip(members, row.values[spec.name], strict=True)) if spec.name in row.values else None
                for spec in specs
            },
        )
        for row in page.rows
    ]
    return MetricRows(**msgspec.structs.asdict(describe_metric(specs)), rows=rows, next=None), page
