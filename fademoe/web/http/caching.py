"""Answers that need not be sent again, and smaller ones: gzip, strong ETags, 304."""

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator

from flask import Response, request

from fademoe.clock import DAY_MS

GZIP_LEAST = 1_000  # bytes; below it the header of gzip costs more than it saves
GZIP_LEVEL = 1  # a quarter of the size; higher ones cost more time than they save bytes
COMPRESSIBLE = ("text/", "application/json", "application/problem+json", "application/x-ndjson", "image/svg+xml")
SETTLED_AFTER_MS = DAY_MS  # an audit may still correct younger rows
IMMUTABLE = "private, max-age=31536000, immutable"


def finish(response: Response) -> Response:
    """Compress an answer where the client can read it; give one that never changes its ETag, or answer 304."""
    response = _compressed(response)
    if response.headers.get("Cache-Control") != IMMUTABLE or response.status_code != 200:
        return response
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest()[:32])  # of the bytes as sent: a strong one
    kept: Response = response.make_conditional(request)  # type: ignore[assignment]
    return kept


def _compressed(response: Response) -> Response:
    if not (response.mimetype or "").startswith(COMPRESSIBLE) or response.direct_passthrough:
        return response
    response.vary.add("Accept-Encoding")
    if not request.accept_encodings["gzip"] or response.status_code in (204, 304):
        return response
    if response.is_streamed:
        response.response = _gzip_stream(response.response)  # type: ignore[arg-type]
    elif len(response.get_data()) >= GZIP_LEAST:
        response.set_data(gzip.compress(response.get_data(), GZIP_LEVEL, mtime=0))
    else:
        return response
    response.headers["Content-Encoding"] = "gzip"
    return response


def _gzip_stream(parts: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
    for part in parts:
        packed = packer.compress(part)
        if packed:
            yield packed
    yield packer.flush()
