"""The ledger of archives: which files were asked for, what they held, and for which ranges they were asked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from fademoe.clock import Window
from fademoe.feeds.archive import Cadence
from fademoe.store.coverage import Series
from fademoe.store.queries import load_queries

SQL = load_queries("files")


class FileState(StrEnum):
    """What became of a file."""

    OK = "ok"  # as many rows as the calendar asks for
    SHORT = "short"  # fewer; what it has is stored
    QUARANTINED = "quarantined"  # nothing of it is stored
    ABSENT = "absent"  # the archive does not have it


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file as the ledger keeps it; see perp_files. `id` is None until it is saved."""

    exchange: str
    path: str
    url: str
    dataset: str
    cadence: Cadence
    instrument: str
    symbol: str
    window: Window
    state: FileState
    reason: str = ""
    etag: str = ""
    last_modified: str = ""
    bytes: int = 0
    sha256: str = ""
    checksum_ok: bool | None = None
    terms: str = ""
    rows: int = 0
    expected: int = 0
    first_ts: int | None = None
    last_ts: int | None = None
    shift_ms: int = 0
    clipped: int = 0
    differing: int = 0
    details: Mapping[str, object] = field(default_factory=dict)
    fetched_s: float = 0.0
    id: int | None = None

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return self.path.rpartition("/")[2]


def save(cursor: Cursor, records: Sequence[FileRecord]) -> dict[str, int]:
    """Enter files, or what became of them now; return their ids by path."""
    if not records:
        return {}
    rows = [
        (
            each.exchange,
            each.path,
            each.url,
            each.dataset,
            each.cadence,
            each.instrument,
            each.symbol,
            *each.window,
            each.state.value,
            each.reason,
            each.etag,
            each.last_modified,
            each.bytes,
            each.sha256,
            each.checksum_ok,
            each.terms,
            each.rows,
            each.expected,
            each.first_ts,
            each.last_ts,
            each.shift_ms,
            each.clipped,
            each.differing,
            json.dumps(dict(each.details)),
        )
        for each in {record.path: record for record in records}.values()
    ]
    saved = execute_values(cursor, SQL["save"], rows, SQL["save_row"], page_size=len(rows), fetch=True)
    return {path: int(number) for path, number in saved}


def list_contracts(cursor: Cursor, exchange: str) -> list[tuple[str, str]]:
    """Return (dataset, contract) of the files of an archive that the ledger has."""
    cursor.execute(SQL["contracts"], {"exchange": exchange})
    return cursor.fetchall()


def find(
    cursor: Cursor,
    exchange: str,
    *,
    paths: Sequence[str] | None = None,
    dataset: str | None = None,
    instrument: str | None = None,
) -> list[FileRecord]:
    """Return the files of an archive that the ledger has, by path."""
    values = {
        "exchange": exchange,
        "paths": None if paths is None else list(paths),
        "dataset": dataset,
        "instrument": instrument,
    }
    cursor.execute(SQL["find"], values)
    return [_record(row) for row in cursor.fetchall()]


def _record(row: tuple[Any, ...]) -> FileRecord:
    number, exchange, path, url, dataset, cadence, instrument, symbol, start_ms, end_ms, state, *rest = row
    names = (
        "reason",
        "etag",
        "last_modified",
        "bytes",
        "sha256",
        "checksum_ok",
        "terms",
        "rows",
        "expected",
        "first_ts",
        "last_ts",
        "shift_ms",
        "clipped",
        "differing",
        "details",
        "fetched_s",
    )
    return FileRecord(
        id=number,
        exchange=exchange,
        path=path,
        url=url,
        dataset=dataset,
        cadence=cadence,
        instrument=instrument,
        symbol=symbol,
        window=Window(start_ms, end_ms),
        state=FileState(state),
        **dict(zip(names, rest, strict=True)),
    )


def read_requested(cursor: Cursor, exchange: str, metric: str) -> dict[str, list[Window]]:
    """Return by contract the ranges for which files were asked to have a metric."""
    cursor.execute(SQL["asked"], {"exchange": exchange, "metric": metric})
    requested: dict[str, list[Window]] = {}
    for instrument, start_ms, end_ms in cursor.fetchall():
        requested.setdefault(instrument, []).append(Window(start_ms, end_ms))
    return requested


def add_asked(cursor: Cursor, exchange: str, metric: str, instrument: str, windows: Sequence[Window]) -> None:
    """Note that the files of a contract were asked for a metric's ranges."""
    values = {"exchange": exchange, "metric": metric, "instrument": instrument, "asked": _multirange(windows)}
    cursor.execute(SQL["add_asked"], values)


def remove_asked(
    cursor: Cursor, exchange: str, metrics: Sequence[str], instrument: str, windows: Sequence[Window]
) -> None:
    """Forget that the files of a contract were asked for ranges of metrics: there are new ones."""
    values = {"exchange": exchange, "metrics": list(metrics), "instrument": instrument, "asked": _multirange(windows)}
    cursor.execute(SQL["remove_asked"], values)


def forget_before(cursor: Cursor, kept_from_ms: int) -> None:
    """Forget that files were asked for what is older than `kept_from_ms`: what they gave is dropped."""
    cursor.execute(SQL["forget_before"], {"kept_from": kept_from_ms})


def _multirange(windows: Sequence[Window]) -> str:
    return "{" + ",".join(f"[{start_ms},{end_ms})" for start_ms, end_ms in windows) + "}"


def note_checked(cursor: Cursor, exchange: str, dataset: str, instrument: str) -> None:
    """Note that the files of a contract were compared with the archive's listing just now."""
    cursor.execute(SQL["note_checked"], {"exchange": exchange, "dataset": dataset, "instrument": instrument})


def read_closes(cursor: Cursor, series: Series, window: Window) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the times of minutes and their stored closes, per one coin."""
    values = {"source": series.source, "symbol": series.symbol, "start": window.start_ms, "end": window.end_ms}
    cursor.execute(SQL["closes"], values)
    rows = cursor.fetchall()
    times = np.fromiter((ts for ts, _ in rows), np.int64, len(rows))
    return times, np.fromiter((close for _, close in rows), np.float64, len(rows))


def find_last_before(cursor: Cursor, series: Series, ts: int, reach_ms: int) -> int | None:
    """Return the ts of the last stored row before `ts`, at most `reach_ms` earlier; None where there is none."""
    values = {"source": series.source, "symbol": series.symbol, "ts": ts, "from": ts - reach_ms}
    cursor.execute(SQL["last_before"], values)
    (found,) = cursor.fetchone() or (None,)
    return None if found is None else int(found)


def count_by_state(cursor: Cursor) -> list[dict[str, Any]]:
    """Return for each exchange, dataset and state: files, rows, bytes, start_ms and end_ms."""
    cursor.execute(SQL["counts"])
    names = ("exchange", "dataset", "state", "files", "rows", "bytes", "start_ms", "end_ms")
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def list_in_state(cursor: Cursor, states: Sequence[FileState], limit: int) -> list[dict[str, Any]]:
    """Return the files of some states, at most `limit`."""
    cursor.execute(SQL["in_state"], {"states": [state.value for state in states], "limit": limit})
    names = ("exchange", "path", "symbol", "dataset", "state", "reason", "start_ms", "end_ms", "rows", "expected")
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def find_unlisted(cursor: Cursor, code: str) -> set[tuple[str, int]]:
    """Return (name, life) of the lives that an exchange's list does not have any more."""
    cursor.execute(SQL["unlisted"], {"code": code})
    return {(name, int(life)) for name, life in cursor.fetchall()}
