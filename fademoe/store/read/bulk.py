"""Rows in bulk, as the text that PostgreSQL's COPY writes.

A selection is cut into windows of some hundred thousand rows. Each is a transaction of its own and is read into memory,
so that a slow reader keeps neither a statement nor a snapshot open.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import islice

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS, MINUTE_MS, Window, floor_to, split
from fademoe.metrics import INTERVALS_MS
from fademoe.store.read.catalog import Perpspec, find_first_and_last_ts, list_symbols
from fademoe.store.read.copier import copy_in_processes
from fademoe.store.read.pool import Reader
from fademoe.store.read.rows import Selection
from fademoe.store.read.windows import read_window

WINDOW_ROWS = 16_384  # of one COPY: 3 MB; larger ones are not faster
WINDOWS_AHEAD = 2  # windows that are read while one is sent
MANY_WINDOWS = 32  # from so many on processes of their own read them: half a second to start is little then


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
    named = replace(selection, symbols=tuple(symbols))
    if len(windows) >= MANY_WINDOWS and spec.interval in INTERVALS_MS:  # settlements are few in many windows
        parts = copy_in_processes(reader.url, spec, named, columns, windows)
    else:
        parts = _run_ahead(lambda window: read_window(reader, spec, named, columns, window), windows)
    with closing(parts):
        yield from filter(None, parts)


def _run_ahead(make: Callable[[Window], bytes], windows: Iterable[Window]) -> Generator[bytes, None, None]:
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
