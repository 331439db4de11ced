"""Smaller answers, and answers that need not be sent again: gzip, strong ETags, 304."""

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator

from flask import Response, request

GZIP_MIN_BYTES = 1_000  # below it the header of gzip costs more than it saves
GZIP_LEVEL = 1  # a quarter of the size; higher levels cost more time than they save bytes
COMPRESSIBLE = ("text/", "application/json", "application/problem+json", "application/x-ndjson", "image/svg+xml")
# A client may keep the answer, but revalidates it each time, because audits and fills change stored rows of any age.
REVALIDATE = "private, no-cache"


def finish(response: Response) -> Response:
    """Compress an answer for clients that accept gzip; answer 304 where the client has a revalidated answer already."""
    response = _compress(response)
    if response.headers.get("Cache-Control") != REVALIDATE or response.status_code != 200:
        return response
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest()[:32])  # of the bytes as sent: a strong one
    conditional: Response = response.make_conditional(request)  # type: ignore[assignment]
    return conditional


def _compress(response: Response) -> Response:
    if not (response.mimetype or "").startswith(COMPRESSIBLE) or response.direct_passthrough:
        return response
    response.vary.add("Accept-Encoding")
    if not request.accept_encodings["gzip"] or response.status_code in (204, 304):
        return response
    if response.is_streamed:
        response.response = _gzip_stream(response.response)  # type: ignore[arg-type]
    elif len(response.get_data()) >= GZIP_MIN_BYTES:
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
