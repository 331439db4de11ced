"""Arrow tables of the text that PostgreSQL's COPY writes, and Parquet files of them.

A decimal becomes decimal128(38, 18), the widest that every reader of Parquet knows, or a float64 where that is asked
for; a whole number int64; a text, such as the symbol `42`, stays text.
"""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from decimal import Context, Decimal
from importlib.util import find_spec
from typing import Any

from fademoe.store.read.catalog import Field

DIGITS, PLACES = 38, 18  # of a decimal; digits behind the 18th place are rounded
TOO_LARGE = 10 ** (DIGITS - PLACES)  # the least value that has no such decimal
STEP_TYPES = {"bars": "integer", "expected": "integer", "absent": "integer", "complete": "boolean"}
GROUP_ROWS = 32_768
COMPRESSION = {"compression": "zstd", "compression_level": 1}
_LAST_PLACE = Decimal(1).scaleb(-PLACES)
_CONTEXT = Context(prec=DIGITS)  # the default one has 28 digits and would refuse longer numbers


def is_installed() -> bool:
    """Return whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def load_arrow() -> Any:
    """Load pyarrow when the first table is requested: it takes 40 MB of memory that most processes never need.

    Its memory comes from the system's allocator: the others keep tens of MB of what was freed.
    """
    arrow = importlib.import_module("pyarrow")
    if arrow.default_memory_pool().backend_name != "system":
        arrow.set_memory_pool(arrow.system_memory_pool())
    return arrow


def make_type(kind: str, *, is_float: bool = False) -> Any:
    """Return the Arrow type of a field's type: `decimal`, `integer`, `boolean` or text."""
    arrow = load_arrow()
    if kind == "decimal":
        return arrow.float64() if is_float else arrow.decimal128(DIGITS, PLACES)
    return {"integer": arrow.int64(), "boolean": arrow.bool_()}.get(kind, arrow.string())


def make_schema(columns: Sequence[tuple[str, str]], *, is_float: bool = False) -> Any:
    """Return the schema of columns (name, type of field), whose first is `ts`: behind it comes `time`."""
    arrow = load_arrow()
    fields = [(name, make_type(kind, is_float=is_float)) for name, kind in columns]
    fields.insert(1, ("time", arrow.timestamp("ms", tz="UTC")))
    return arrow.schema(fields)


def list_types(fields: Iterable[Field], names: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name, type) of columns: keys and computed ones beside the fields of a perpspec."""
    types = {field.name: field.type for field in fields} | {"ts": "integer", "known_ms": "integer"}
    return [(name, types.get(name, "text")) for name in names]


def read_text(text: bytes, schema: Any, *, is_csv: bool, is_exact: bool = False) -> Any:
    """Return the table of rows that COPY wrote, as CSV or in its own format; their columns are `schema` without time.

    A decimal with too many places is rounded, or where all must be exact raises ValueError, as does a value that no
    type of the schema holds.
    """
    arrow, csv = load_arrow(), importlib.import_module("pyarrow.csv")
    types = {field.name: field.type for field in schema if field.name != "time"}

    def parse(kinds: dict[str, Any]) -> Any:
        return csv.read_csv(
            arrow.BufferReader(text),
            read_options=csv.ReadOptions(
                column_names=list(types), use_threads=False, block_size=max(1 << 20, len(text))
            ),
            parse_options=csv.ParseOptions() if is_csv else csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(
                column_types=kinds,
                null_values=["" if is_csv else "\\N"],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t", "true"],
                false_values=["f", "false"],
            ),
        )

    try:
        table = parse(types)
    except arrow.ArrowInvalid:  # a decimal has more places than its type
        if is_exact:
            raise
        exact = {name for name, kind in types.items() if arrow.types.is_decimal(kind)}
        table = parse({name: arrow.string() if name in exact else kind for name, kind in types.items()})
        for at, name in enumerate(types):
            if name in exact:
                values = [None if value is None else round_decimal(value) for value in table[name].to_pylist()]
                table = table.set_column(at, name, arrow.array(values, types[name]))
    time = table["ts"].cast(schema.field("time").type)
    return table.add_column(1, "time", time).cast(schema)


def write_parquet(tables: Iterable[Any], schema: Any) -> Iterator[bytes]:
    """Yield a Parquet file part by part: tables are joined to row groups of GROUP_ROWS or a little more.

    The writer keeps some KB of every row group until the end, and needs memory for one at a time.
    """
    sink = _Sink()
    with open_writer(sink, schema) as writer:
        for group in _join(tables):
            writer.write_table(group, row_group_size=max(1, group.num_rows))
            del group
            load_arrow().default_memory_pool().release_unused()
            yield sink.take()
    yield sink.take()


def _join(tables: Iterable[Any]) -> Iterator[Any]:
    """Yield tables of at least GROUP_ROWS, the last one of what is left."""
    held: list[Any] = []
    for table in tables:
        held.append(table)
        if sum(each.num_rows for each in held) >= GROUP_ROWS:
            joined, held = load_arrow().concat_tables(held), []
            yield joined
    if held:
        yield load_arrow().concat_tables(held)


def open_writer(sink: Any, schema: Any) -> Any:
    """Return a writer of Parquet; its bytes depend on the rows alone. Numbers are not worth a dictionary."""
    arrow = load_arrow()
    texts = [field.name for field in schema if arrow.types.is_string(field.type)]
    writer = importlib.import_module("pyarrow.parquet").ParquetWriter
    return writer(sink, schema, **COMPRESSION, use_dictionary=texts or False, store_schema=True)


def round_decimal(text: str) -> Decimal:
    """Return the decimal of a text, rounded where it has too many places; raise ValueError where it is too large."""
    value = Decimal(text)
    if not value.is_finite() or abs(value) >= TOO_LARGE:
        raise ValueError(f"{text} has more than {DIGITS - PLACES} digits before the decimal point")
    exponent = value.as_tuple().exponent
    return value.quantize(_LAST_PLACE, context=_CONTEXT) if isinstance(exponent, int) and exponent < -PLACES else value


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
