"""Rows in bulk, as the text that PostgreSQL's COPY writes: nothing on the way takes a row apart.

A selection is cut into windows of some hundred thousand rows. Each is a transaction of its own and is read into memory,
so that a slow reader keeps neither a statement nor a snapshot open.
"""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from operator import itemgetter

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS, MINUTE_MS, Window, floor_to, split
from fademoe.metrics import INTERVALS_MS
from fademoe.store.queries import load_queries
from fademoe.store.read.catalog import Perpspec, find_first_and_last_ts, list_symbols
from fademoe.store.read.past import EXTRAS
from fademoe.store.read.pool import Reader
from fademoe.store.read.rows import Selection, build_relation

SQL = load_queries("read_bulk")
WINDOW_ROWS = 16_384  # of one COPY: 3 MB; larger ones are not faster
WINDOWS_AHEAD = 2  # windows that are read while one is sent
STATEMENT_TIMEOUT_MS = 120_000

_KEY = itemgetter(slice(0, 13))  # ts


def plan_windows(cursor: Cursor, spec: Perpspec, selection: Selection) -> tuple[list[str], list[Window]]:
    """Return the symbols of a selection and the windows to read, in the order of the selection; none without rows."""
    symbols = sorted(selection.symbols or list_symbols(cursor, spec.name))
    first, last = find_first_and_last_ts(cursor, spec.name, symbols) if symbols else (None, None)
    if first is None or last is None:
        return symbols, []
    window = Window(max(selection.start_ms, first), min(selection.end_ms, last + 1))
    if window.start_ms >= window.end_ms:
        return symbols, []
    step_ms = INTERVALS_MS.get(spec.interval, MINUTE_MS)
    step_ms = min(step_ms, MINUTE_MS) if step_ms <= 5 * MINUTE_MS else step_ms  # live samples are closer than the grid
    span_ms = max(step_ms, floor_to(WINDOW_ROWS // len(symbols) * step_ms, MINUTE_MS))
    windows = list(split(window, min(span_ms, 400 * DAY_MS)))
    return symbols, windows[::-1] if selection.newest_first else windows


def copy_windows(
    reader: Reader, spec: Perpspec, selection: Selection, *, columns: Sequence[sql.Composable]
) -> Iterator[bytes]:
    """Yield the rows of a selection as CSV without a header, one part for each window that has rows."""
    with reader.read() as cursor:
        symbols, windows = plan_windows(cursor, spec, selection)

    def copy(window: Window) -> bytes:
        with reader.read() as cursor, hold_bulk(cursor):
            part = replace(selection, symbols=tuple(symbols), start_ms=window.start_ms, end_ms=window.end_ms)
            return copy_part(cursor, spec, part, columns=columns)

    for text in _run_ahead(copy, windows):
        if text and len(symbols) > 1:
            yield _sort_lines(text, newest_first=selection.newest_first)
        elif text:
            yield text


def _run_ahead(make: Callable[[Window], bytes], windows: Iterable[Window]) -> Iterator[bytes]:
    """Yield what is made of each window; the next WINDOWS_AHEAD are made by a thread while the one before is used."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="export") as pool:
        left = iter(windows)
        ahead = deque(pool.submit(make, window) for window in islice(left, WINDOWS_AHEAD))
        try:
            while ahead:
                text = ahead.popleft().result()
                ahead.extend(pool.submit(make, window) for window in islice(left, 1))
                yield text
        finally:
            for future in ahead:
                future.cancel()


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


def _sort_lines(text: bytes, *, newest_first: bool) -> bytes:
    """Put lines that begin with ts, those of each symbol together, into the order of a selection: by ts, then symbol.

    A ts in ms has 13 digits, so texts are in the order of their numbers; equal ones stay in the order of the symbols.
    """
    lines = text.splitlines(keepends=True)
    lines.sort(key=_KEY, reverse=newest_first)
    return b"".join(lines)


@contextmanager
def hold_bulk(cursor: Cursor) -> Iterator[None]:
    """Let all statements of the block see one moment, and take longer than those of a page may."""
    cursor.execute(SQL["begin"])
    try:
        cursor.execute(sql.SQL(SQL["limits"]).format(milliseconds=sql.Literal(STATEMENT_TIMEOUT_MS)))
        yield
    finally:
        with suppress(psycopg2.OperationalError, psycopg2.InterfaceError):
            cursor.execute(SQL["end"])


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
