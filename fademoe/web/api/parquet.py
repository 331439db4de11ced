"""Rows as Parquet, written page by page. Needs pyarrow; without it the other formats remain.

A decimal becomes decimal128(38, 18), the widest that every reader of Parquet knows.
"""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from decimal import Context, Decimal
from importlib.util import find_spec
from typing import Any

from fademoe.store.read.catalog import Perpspec

DIGITS, PLACES = 38, 18  # of a decimal; digits behind the 18th place are rounded
TOO_LARGE = 10 ** (DIGITS - PLACES)  # the least value that has no such decimal
_LAST_PLACE = Decimal(1).scaleb(-PLACES)
_CONTEXT = Context(prec=DIGITS)  # the default one has 28 digits and would refuse longer numbers


class _Sink:
    """A write-only file in memory whose content is taken away as it grows."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def write(self, part: Any) -> int:
        self._parts.append(bytes(part))
        self._length += len(part)
        return len(part)

    def tell(self) -> int:
        return self._length

    def flush(self) -> None:
        """Do nothing: no part is buffered elsewhere."""

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        """Return what was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def is_installed() -> bool:
    """Return whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def encode_parquet(pages: Iterable[list[tuple[Any, ...]]], spec: Perpspec, columns: Sequence[str]) -> Iterator[bytes]:
    """Yield a Parquet file of rows (ts, symbol, interval, values…), one row group for each page."""
    pyarrow, writer_type = _arrow(), importlib.import_module("pyarrow.parquet").ParquetWriter
    integers = {field.name for field in spec.fields if field.type == "integer"}
    schema = pyarrow.schema(
        [
            ("ts", pyarrow.timestamp("ms", tz="UTC")),
            *((name, pyarrow.string()) for name in ("symbol", "source", "interval")),
            *((name, pyarrow.int64() if name in integers else pyarrow.decimal128(DIGITS, PLACES)) for name in columns),
        ]
    )
    sink = _Sink()
    with writer_type(sink, schema, compression="zstd") as writer:
        for page in pages:
            if page:
                writer.write_batch(_batch(page, spec.name, schema))
            yield sink.take()
    yield sink.take()


def _arrow() -> Any:
    """Load pyarrow when the first file is requested: it takes 40 MB of memory that most processes never need."""
    return importlib.import_module("pyarrow")


def _batch(page: list[tuple[Any, ...]], source: str, schema: Any) -> Any:
    pyarrow = _arrow()
    ts, symbols, intervals, *values = (list(column) for column in zip(*page, strict=True))
    columns = [ts, symbols, [source] * len(page), intervals]
    for field, column in zip(list(schema)[len(columns) :], values, strict=True):
        read = int if pyarrow.types.is_integer(field.type) else _decimal
        columns.append([None if text is None else read(text) for text in column])
    arrays = [pyarrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pyarrow.RecordBatch.from_arrays(arrays, schema=schema)


def _decimal(text: str) -> Decimal:
    value = Decimal(text)
    exponent = value.as_tuple().exponent
    return value.quantize(_LAST_PLACE, context=_CONTEXT) if isinstance(exponent, int) and exponent < -PLACES else value
