"""The ledger of archives: which files were asked for, what is wrong with them, and which rows came from where."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window
from fademoe.store.derived import find_derived
from fademoe.store.queries import load_queries
from fademoe.store.read.catalog import list_inputs

SQL = load_queries("read_files")


class DatasetFiles(Struct, frozen=True):
    """The files of one dataset of an exchange, by state; rows that they held, bytes, and the time they are of."""

    exchange: str
    dataset: str
    ok: int
    short: int
    quarantined: int
    absent: int
    rows: int
    bytes: int
    start_ms: int
    end_ms: int
    last_ms: int


class ArchivedFile(Struct, frozen=True):
    """A file as the ledger has it (perp_files)."""

    id: int
    exchange: str
    dataset: str
    cadence: str
    instrument: str
    symbol: str
    path: str
    url: str
    state: str
    reason: str
    start_ms: int
    end_ms: int
    rows: int
    expected: int
    clipped: int
    differing: int
    shift_ms: int
    bytes: int
    sha256: str
    etag: str
    terms: str
    fetched_ms: int


class Arrival(NamedTuple):
    """Rows that came together: by which way, until when, and where by a file, its path, address and state."""

    start_ms: int
    end_ms: int
    way: str
    known_ms: int
    path: str | None
    url: str | None
    state: str | None


def list_datasets(cursor: Cursor) -> list[DatasetFiles]:
    """Return one line for each dataset of which a file was asked for."""
    cursor.execute(SQL["counts"])
    return [DatasetFiles(*row) for row in cursor.fetchall()]


def list_files(
    cursor: Cursor, *, exchange: str = "", symbol: str = "", state: str = "", before: int = 2**62, limit: int
) -> list[ArchivedFile]:
    """Return files, the newest entries first, with an id below `before`; blank: all."""
    values = {"exchange": exchange, "symbol": symbol, "state": state, "before": before, "limit": limit}
    cursor.execute(SQL["files"], values)
    return [ArchivedFile(*row) for row in cursor.fetchall()]


def read_ways(
    cursor: Cursor, source: str, symbols: Sequence[str], window: Window, step_ms: int
) -> dict[str, dict[int, list[str]]]:
    """Return by symbol and start of a step of the window the ways by which rows in it came."""
    values = {"source": source, "symbols": list(symbols), "start": window.start_ms, "end": window.end_ms}
    cursor.execute(SQL["ways"], {**values, "step": step_ms})
    ways: dict[str, dict[int, list[str]]] = {}
    for symbol, start_ms, found in cursor.fetchall():
        ways.setdefault(symbol, {})[start_ms] = found
    return ways


def list_arrivals(cursor: Cursor, source: str, symbol: str, window: Window, limit: int) -> list[Arrival]:
    """Return when and by which way the fetched rows of a series in a window came, at most `limit` lines."""
    values = {"source": source, "symbol": symbol, "start": window.start_ms, "end": window.end_ms, "limit": limit}
    cursor.execute(SQL["arrivals"], values)
    return [Arrival(*row) for row in cursor.fetchall()]


def list_terms(cursor: Cursor, source: str, symbols: Sequence[str], window: Window) -> list[tuple[str, str]]:
    """Return (exchange, terms) of the files from which any rows of some series came; no symbols: of all.

    Of a derived perpspec they are those of what its rows are computed from.
    """
    derived = find_derived(source)
    start_ms = window.start_ms - (derived.lag_ms if derived else 0)
    sources = list_inputs(cursor, source) or [source]
    values = {"sources": sources, "symbols": list(symbols), "start": start_ms, "end": window.end_ms}
    cursor.execute(SQL["terms"], values)
    return [(exchange, terms) for exchange, terms in cursor.fetchall()]
