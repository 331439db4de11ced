"""Queries that aggregate the rows of each step of series, as the declarations of their columns say.

A part of such a query yields rows (ts, symbol, bars, values): stored rows are of one bar, hours of perp_hours of as
many as they join. Aggregates of hours are those of their rows, whatever step they are aggregated into.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from psycopg2 import sql

from fademoe.metrics import METRICS, Aggregate
from fademoe.store.derived import make_relation
from fademoe.store.queries import load_queries

SQL = load_queries("aggregation")


class Value(NamedTuple):
    """A column that is aggregated over a step; `type` is "decimal", "integer" or "text".

    `all` of truth values is null where one of them is.
    """

    name: str
    aggregate: Aggregate | Literal["all"]
    type: str


def list_values(metric: str) -> list[Value]:
    """Return the columns of a metric."""
    return [Value(column.name, column.aggregate, column.type) for column in METRICS[metric].columns]


def make_buckets(parts: Sequence[sql.Composable], values: Iterable[Value], columns: sql.Composable) -> sql.Composable:
    """Return the query of (bucket, symbol, bars) and `columns`, which name the values as those of the table `d`.

    Its parameter is `step` in ms, beside those of the parts.
    """
    aggregates = [
        sql.SQL("{} AS {}").format(
            sql.SQL(SQL[value.aggregate]).format(value=sql.Identifier("h", value.name)), sql.Identifier(value.name)
        )
        for value in values
    ]
    return sql.SQL(SQL["buckets"]).format(
        parts=sql.SQL(" UNION ALL ").join(sql.SQL("({})").format(part) for part in parts),
        aggregates=sql.SQL(", ").join(aggregates),
        columns=columns,
    )


def make_rows_part(source: str, values: Iterable[Value], relation: sql.Composable | None = None) -> sql.Composable:
    """Return the part that reads stored or derived rows, of `relation` where these are not the rows of now.

    Its parameters are `symbols`, `lows`, `highs`: windows of symbols; `first` and `end`: their hull; and `grid`: only
    rows at multiples of it count.
    """
    return sql.SQL(SQL["rows"]).format(
        rows=relation or make_relation(source), source=sql.Literal(source), columns=_list_columns(values)
    )


def make_hours_part(source: str, values: Iterable[Value]) -> sql.Composable:
    """Return the part that reads perp_hours; its parameters are `hour_symbols`, `hour_lows`, `hour_highs`."""
    return sql.SQL(SQL["hours"]).format(source=sql.Literal(source), columns=_list_columns(values))


def _list_columns(values: Iterable[Value]) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier("r", value.name) for value in values)
