"""Bodies of answers: JSON, CSV and NDJSON. Decimals are the database's own text, so no float is on the way."""

import csv
import io
from collections.abc import Iterable, Sequence

import msgspec
from flask import Response

MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}

_ENCODER = msgspec.json.Encoder()


def encode_json(body: object) -> bytes:
    """Encode as JSON; NaN and infinity become null."""
    return _ENCODER.encode(body)


def encode_ndjson(body: Iterable[object]) -> bytes:
    """Encode as one JSON object a line."""
    return _ENCODER.encode_lines(body)


def encode_csv(rows: Iterable[Sequence[object]]) -> bytes:
    """Encode as CSV lines (RFC 4180); null is empty."""
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


def make_json_response(body: object, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(encode_json(body), status, content_type=MEDIA_TYPES["json"])
