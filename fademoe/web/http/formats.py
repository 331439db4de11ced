"""Rows as JSON, CSV and NDJSON; the ends of a float never get in: numbers are the database's own text."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

import orjson

from fademoe.clock import to_iso

MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
}
Row = Sequence[object]


def json_bytes(body: object) -> bytes:
    """Write JSON; NaN and infinity become null, named tuples become lists."""
    return orjson.dumps(body, default=list, option=orjson.OPT_NON_STR_KEYS)


def records(rows: Iterable[Row], source: str, columns: Sequence[str], *, iso: bool) -> Iterator[dict[str, object]]:
    """Make an object of each row (ts, symbol, interval, values of `columns`…)."""
    for ts, symbol, interval, *values in rows:
        record = {"ts": ts, "symbol": symbol, "source": source, "interval": interval}
        if iso:
            record["time"] = to_iso(ts)  # type: ignore[arg-type]
        record.update(zip(columns, values, strict=True))
        yield record


def header(columns: Sequence[str], *, iso: bool) -> list[str]:
    """Return the names of the members of a record, in order."""
    return ["ts", "symbol", "source", "interval", *(["time"] if iso else []), *columns]


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Write CSV lines (RFC 4180); null is empty."""
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def ndjson_bytes(body: Iterable[object]) -> bytes:
    """Write one JSON object a line."""
    return b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in body)
