"""Exports series into a directory of Parquet files, month by month, each with its certificate."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psycopg2.extensions import cursor as Cursor

from fademoe.bulk.arrow import PLACES, STEP_TYPES, list_types, make_schema, read_text
from fademoe.bulk.directory import (
    Certificates,
    Entry,
    ExportError,
    hold,
    name_file,
    note_done,
    read_certificates,
    write_certificates,
    write_file,
)
from fademoe.clock import SECOND_MS, Window, ceil_to, now_ms, parse_time, to_iso
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.feeds.grid import Grid
from fademoe.metrics import STEPS_MS
from fademoe.store.certificate import PastRows, count_steps
from fademoe.store.coverage import Series
from fademoe.store.queries import load_queries
from fademoe.store.read.catalog import Perpspec
from fademoe.store.read.files import list_terms
from fademoe.store.read.past import Moment, read_newest_correction
from fademoe.store.read.pool import Reader
from fademoe.store.read.rows import Selection, build_relation
from fademoe.store.read.snapshot import hold_bulk_snapshot
from fademoe.store.read.steps import STEP_MEMBERS, read_step_page
from fademoe.store.read.windows import copy_part, list_canonical

SQL = load_queries("export")
MOST_STEPS = 100_000  # of a month: more than its minutes
_LONG = re.compile(rb"\.[0-9]{%d}" % (PLACES + 1))


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is exported: a range of series, as stored or in steps, exact or as floats, now or as of a moment."""

    window: Window
    step: str = ""
    is_float: bool = False
    moment: Moment | None = None

    def describe(self) -> dict[str, Any]:
        """Return what all files of a directory have in common."""
        return {
            "values": "float" if self.is_float else "decimal",
            "step": self.step or None,
            "as_of": to_iso(self.moment.at_ms) if self.moment and self.moment.at_ms is not None else None,
            "knowledge": self.moment.knowledge.value if self.moment else None,
        }


@dataclass(kw_only=True)
class Summary:
    """What an export did: files written and left as they were, rows in them, months that are not complete."""

    written: int = 0
    kept: int = 0
    rows: int = 0
    incomplete: int = 0


def export(
    reader: Reader,
    folder: Path,
    series: Sequence[tuple[Perpspec, str, Grid]],
    request: Request,
    report: Callable[[str], None],
) -> Summary:
    """Write every month of the series into a directory; what is there already and has not changed is left.

    A month that is there with another range is made of both ranges and of what lies between them.
    Raises ConfigError where the directory was made with other options, ExportError where another export writes into it
    or a value does not fit.
    """
    options = request.describe()
    summary = Summary()
    with hold(folder):
        known = read_certificates(folder) or Certificates(options=options)
        if known.options != options:
            differing = ", ".join(
                f"{name} {value!r}" for name, value in known.options.items() if options[name] != value
            )
            raise ConfigError(f"--out is {str(folder)!r}: it was made with {differing}")
        note_done(folder, options)
        for spec, symbol, grid in series:
            for month, requested in split_months(request.window):
                name = name_file(spec.name, symbol, month)
                with reader.read() as cursor, hold_bulk_snapshot(cursor):
                    maker = _Maker(cursor, spec, symbol, grid, request)
                    old = known.files.get(name)
                    window = _widen(requested, old) if old else requested
                    state = maker.read_state(window)
                    if old and _is_unchanged(folder / name, old, window, state):
                        entry, is_new = old, False
                    else:
                        entry, is_new = maker.write(folder / name, window, state), True
                if is_new:
                    known.files[name] = entry
                    note_done(folder, options, name, entry)
                    report(f"{name}: {entry['rows']} rows")
                summary.written += is_new and entry["rows"] > 0
                summary.kept += not is_new and entry["rows"] > 0
                summary.rows += entry["rows"]
                summary.incomplete += not entry["complete"]
        write_certificates(folder, known)
    return summary


def split_months(window: Window) -> Iterator[tuple[str, Window]]:
    """Yield the months that a window touches, as `2026-10`, each with its part of the window."""
    start_ms = window.start_ms
    while start_ms < window.end_ms:
        begin = datetime.fromtimestamp(start_ms / SECOND_MS, UTC)
        following = datetime(begin.year + begin.month // 12, begin.month % 12 + 1, 1, tzinfo=UTC)
        end_ms = min(window.end_ms, int(following.timestamp()) * SECOND_MS)
        yield f"{begin.year:04}-{begin.month:02}", Window(start_ms, end_ms)
        start_ms = end_ms


def _widen(window: Window, entry: Entry) -> Window:
    """Return the smallest range that has a window and the range of an entry of the same month."""
    return Window(
        min(window.start_ms, parse_time(entry["from"])),
        max(window.end_ms, parse_time(entry["to"])),
    )


def _is_unchanged(path: Path, entry: Entry, window: Window, state: str | None) -> bool:
    same_range = (entry["from"], entry["to"]) == (to_iso(window.start_ms), to_iso(window.end_ms))
    is_there = path.is_file() and path.stat().st_size == entry["bytes"] if entry["rows"] else not path.exists()
    return same_range and is_there and state is not None and entry["state"] == state


class _Maker:
    """Makes the files of one series, in the caller's transaction: rows and certificate are of one moment."""

    def __init__(self, cursor: Cursor, spec: Perpspec, symbol: str, grid: Grid, request: Request) -> None:
        self._cursor, self._spec, self._grid, self._request = cursor, spec, grid, request
        self._series = Series(spec.name, symbol)

    def read_state(self, window: Window) -> str | None:
        """Return a text that changes with what is stored of a window; None where nothing tells."""
        if registry.find_parts(self._spec.name):
            return None  # a derived series changes with its inputs
        start_ms, end_ms = self._find_reach(window)
        values = {"source": self._series.source, "symbol": self._series.symbol, "start": start_ms, "end": end_ms}
        self._cursor.execute(SQL["state"], values)
        row = self._cursor.fetchone()
        return str(row[0]) if row else None

    def write(self, path: Path, window: Window, state: str | None) -> Entry:
        """Write the file of a window, or remove it where there is no row; return its entry."""
        names = [field.name for field in self._spec.fields]
        types = list_types(self._spec.fields, ["ts", *names])
        if self._request.step:
            types += [(name, STEP_TYPES[name]) for name in STEP_MEMBERS]
            text = self._read_steps(window)
        else:
            selection = self._select(window)
            canonical = list_canonical([(field.name, field.type) for field in self._spec.fields])
            text = copy_part(self._cursor, self._spec, selection, columns=canonical, form="copy_text")
        entry = self._certify(window, text, state)
        if not text:
            path.unlink(missing_ok=True)
            return entry
        schema = make_schema(types, is_float=self._request.is_float)
        try:
            table, rounded = read_text(text, schema, is_csv=False), False
        except ValueError as error:
            raise ExportError(
                f"{path.name} of {self._series.source} {self._series.symbol}: {error}: use --float"
            ) from error
        if not self._request.is_float:
            rounded = _has_long_decimal(text)
        return entry | {"rounded": rounded} | write_file(path, table)

    def _select(self, window: Window) -> Selection:
        return Selection(
            symbols=(self._series.symbol,),
            columns=tuple(field.name for field in self._spec.fields),
            start_ms=window.start_ms,
            end_ms=window.end_ms,
            limit=MOST_STEPS,
            newest_first=False,
            moment=self._request.moment,
        )

    def _read_steps(self, window: Window) -> bytes:
        page = read_step_page(self._cursor, self._spec, self._select(window), self._request.step, now_ms())
        end = 3 + len(self._spec.fields) + len(STEP_MEMBERS)
        lines = [
            "\t".join([str(row[0]), *("\\N" if value is None else _write(value) for value in row[3:end])])
            for row in page.rows
        ]
        return "".join(f"{line}\n" for line in lines).encode()

    def _certify(self, window: Window, text: bytes, state: str | None) -> Entry:
        rows, moment, past = text.count(b"\n"), self._request.moment, None
        if moment is not None and moment.at_ms is not None:
            names = [field.name for field in self._spec.fields]
            past = PastRows(moment.at_ms, build_relation(self._cursor, self._spec, names, moment))
        counted, interval_ms = window, self._grid.interval_ms
        if not self._grid.is_sparse:  # the points of the grid in it
            counted = Window(ceil_to(window.start_ms, interval_ms), ceil_to(window.end_ms, interval_ms))
        steps = count_steps(
            self._cursor,
            self._series,
            counted,
            interval_ms,
            sparse=self._grid.is_sparse,
            rows=rows,
            past=past,
        )
        terms = list_terms(self._cursor, self._series.source, [self._series.symbol], self._find_reach(window))
        return {
            "source": self._series.source,
            "symbol": self._series.symbol,
            "from": to_iso(window.start_ms),
            "to": to_iso(window.end_ms),
            **steps,
            "rows": rows,
            "sha256": hashlib.sha256(text).hexdigest(),
            "last_correction": read_newest_correction(self._cursor),
            "attribution": list(dict.fromkeys(registry.find_attribution(*one) for one in terms)),
            "state": state,
            "rounded": False,
            "bytes": 0,
            "file_sha256": None,
        }

    def _find_reach(self, window: Window) -> Window:
        """Return the range whose rows a file of a window is made of: with steps the last one to its end."""
        step_ms = STEPS_MS[self._request.step] if self._request.step else 1
        return Window(window.start_ms, ceil_to(window.end_ms, step_ms))


def _write(value: object) -> str:
    """Write a value of a step as the certificate's hash takes it: decimals without trailing zeros."""
    if isinstance(value, bool):
        return "t" if value else "f"
    text = str(value)
    is_decimal = isinstance(value, str) and "." in text and text.replace(".", "").lstrip("-").isdecimal()
    return text.rstrip("0").rstrip(".") if is_decimal else text


def _has_long_decimal(text: bytes) -> bool:
    """Return whether a decimal has more places than the file keeps, so that its values were rounded."""
    return _LONG.search(text) is not None
