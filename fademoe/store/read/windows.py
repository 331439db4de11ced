"""One window of rows, as the text that PostgreSQL's COPY writes: nothing on the way takes a row apart."""

import csv
import io
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window
from fademoe.store.queries import load_queries
from fademoe.store.read.catalog import Perpspec
from fademoe.store.read.past import EXTRAS
from fademoe.store.read.pool import Reader
from fademoe.store.read.rows import Selection, build_relation
from fademoe.store.read.snapshot import hold_bulk_snapshot

SQL = load_queries("read_bulk")
TS_DIGITS = 13  # of a ts in ms

_TS = itemgetter(slice(0, TS_DIGITS))


def read_window(
    reader: Reader, spec: Perpspec, selection: Selection, columns: Sequence[sql.Composable], window: Window
) -> bytes:
    """Return the rows of a selection whose symbols are named within a window, in its order, as CSV without a header."""
    with reader.read() as cursor, hold_bulk_snapshot(cursor):
        part = replace(selection, start_ms=window.start_ms, end_ms=window.end_ms)
        text = copy_part(cursor, spec, part, columns=columns)
    if text and len(selection.symbols) > 1:
        return sort_lines(text, spec.name, newest_first=selection.newest_first)
    return text


def copy_part(
    cursor: Cursor, spec: Perpspec, selection: Selection, *, columns: Sequence[sql.Composable], form: str = "copy_csv"
) -> bytes:
    """Return all rows of a selection whose symbols are named, as COPY writes them: `copy_csv` or `copy_text`.

    One symbol is in the order of the selection, several one after the other.
    """
    is_one = len(selection.symbols) == 1
    parts = {
        "columns": sql.SQL(", ").join(columns),
        "rows": build_relation(cursor, spec, selection.columns, selection.moment),
    }
    if is_one:
        parts["direction"] = sql.SQL("DESC" if selection.newest_first else "ASC")
    query = sql.SQL(SQL["rows_of_one" if is_one else "rows"]).format(**parts)
    values = {"source": spec.name, "start": selection.start_ms, "end": selection.end_ms}
    values |= {"symbol": selection.symbols[0]} if is_one else {"symbols": list(selection.symbols)}
    statement = SQL[form].replace("{query}", cursor.mogrify(query, values).decode())
    content = io.BytesIO()
    cursor.copy_expert(statement, content)
    return content.getvalue()


def sort_lines(text: bytes, source: str, *, newest_first: bool) -> bytes:
    """Put lines of CSV that begin with ts, symbol and source into the order of a selection: by ts, then symbol.

    Those of each symbol lie together and in the order of ts, the symbols in the order that the database's language has.
    A ts in ms has 13 digits, so texts are in the order of their numbers.
    """
    lines = text.splitlines(keepends=True)
    runs = _list_runs(lines, f",{source},".encode())
    if sorted(runs) != runs:
        lines = [line for _, run in sorted(runs) for line in lines[run]]
    lines.sort(key=_TS, reverse=newest_first)  # of equal ones none passes another
    return b"".join(lines)


def _list_runs(lines: Sequence[bytes], behind: bytes) -> list[tuple[str, slice]]:
    """Return the symbols of lines, each once, and which lines are its own; `behind`: what follows the symbol."""
    runs: list[tuple[str, slice]] = []
    first = 0
    while first < len(lines):
        start = lines[first][TS_DIGITS:]
        start = start[: start.index(behind) + len(behind)]
        end = bisect_left(lines, 1, first, key=lambda line: not line.startswith(start, TS_DIGITS))
        (symbol,) = next(csv.reader([start[1 : -len(behind)].decode()]))
        runs.append((symbol, slice(first, end)))
        first = end
    return runs


def name_columns(selection: Selection, *, iso: bool, with_known: bool) -> tuple[list[str], list[sql.Composable]]:
    """Return the names and the expressions of an export's columns: the key, the time as ISO 8601, the values."""
    names = ["ts", "symbol", "source", "interval", *selection.columns]
    expressions: list[sql.Composable] = [sql.SQL("d.{}").format(sql.Identifier(name)) for name in names]
    if iso:
        names.insert(4, "time")
        expressions.insert(4, sql.SQL(SQL["iso"]))
    if with_known:
        names.append(EXTRAS[0])
        expressions.append(sql.SQL("d.{}").format(sql.Identifier(EXTRAS[0])))
    return names, expressions


def list_canonical(columns: Sequence[tuple[str, str]]) -> list[sql.Composable]:
    """Return ts and columns (name, type of field) as a certificate's hash takes them: without trailing zeros."""
    return [
        sql.SQL("d.ts"),
        *(
            sql.SQL(SQL["canonical" if kind == "decimal" else "as_stored"]).format(column=sql.Identifier(name))
            for name, kind in columns
        ),
    ]
