"""FadeMoe's tables: columns, types, units, indexes, sizes."""

import msgspec
from psycopg2.extensions import cursor as Cursor

from fademoe.store.read import catalog as read_catalog
from fademoe.store.read import schema as read_schema
from fademoe.store.read.schema import StatedLag, TableColumn, TableIndex
from fademoe.web.model.answer import Answer
from fademoe.web.problem import Problem

TIMES = "ts last_ts start_ms end_ms listed_ms delisted_ms wanted_from wanted covered absent since_ms"
UNITS = dict.fromkeys(TIMES.split(), "ms since 1970 UTC") | {"lag_ms": "ms"}


class ColumnInfo(TableColumn, kw_only=True, frozen=True):
    """A column of a table with its unit and meaning, None where it has none."""

    unit: str | None
    title: str | None


class Table(Answer):
    """A table; sizes are None while it does not exist. `rows_estimate` is PostgreSQL's own."""

    table: str
    purpose: str
    rows_estimate: int | None
    bytes: int | None
    partitions: int | None
    columns: list[ColumnInfo]
    indexes: list[TableIndex]


class Tables(Answer):
    """Every table, and the lags that perp_lags states."""

    tables: list[Table]
    lags: list[StatedLag]


def list_tables(cursor: Cursor) -> Tables:
    """Return every table of FadeMoe, and the stated lags."""
    return Tables(tables=_read_tables(cursor, list(read_schema.TABLES)), lags=read_schema.list_lags(cursor))


def find_table(cursor: Cursor, name: str) -> Table:
    """Return one table; raise the 404 with the names of the tables for any other name."""
    if name not in read_schema.TABLES:
        names = list(read_schema.TABLES)
        raise Problem(404, f"no table {name[:100]!r}; allowed: {', '.join(names)}", allowed=names)
    return _read_tables(cursor, [name])[0]


def _read_tables(cursor: Cursor, names: list[str]) -> list[Table]:
    fields = {field.name: field for spec in read_catalog.list_perpspecs(cursor).values() for field in spec.fields}
    sizes = {size.table: size for size in read_schema.list_sizes(cursor)}
    tables = []
    for name in names:
        size = sizes.get(name)
        table = Table(
            table=name,
            purpose=read_schema.TABLES[name],
            rows_estimate=size.rows if size else None,
            bytes=size.bytes if size else None,
            partitions=size.partitions if size else None,
            columns=[
                _describe_column(column, fields if name == "perp_data" else {})
                for column in read_schema.list_columns(cursor, name)
            ],
            indexes=read_schema.list_indexes(cursor, name),
        )
        tables.append(table)
    return tables


def _describe_column(column: TableColumn, fields: dict[str, read_catalog.Field]) -> ColumnInfo:
    field = fields.get(column.name)
    unit = field.unit if field else UNITS.get(column.name)
    return ColumnInfo(**msgspec.structs.asdict(column), unit=unit, title=field.title if field else None)
