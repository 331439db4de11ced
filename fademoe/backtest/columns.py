"""Rows of a series as columns: exact, small, and decimals only where they are looked at."""

from collections.abc import Sequence
from decimal import Context, Decimal
from itertools import repeat
from operator import mul
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

_SCALES = (8, 12, 4, 0, 18)  # places behind the point that are tried, the likeliest first
_KINDS = (pa.decimal128(18, 8), pa.decimal128(38, 18), pa.string())  # as which columns are read, if their digits fit
_WIDE = Context(prec=60)

Number = TypeVar("Number", np.int64, np.bool_)


class Column:
    """The values of one column in the order of its rows: whole numbers of 10^-scale, and where there is none."""

    __slots__ = ("_missing", "_unit", "_units")

    def __init__(self, units: NDArray[np.int64], scale: int, missing: NDArray[np.bool_] | None) -> None:
        self._units = units
        self._unit = Decimal(1).scaleb(-scale)
        self._missing = missing

    def __len__(self) -> int:
        return len(self._units)

    def read_decimals(self, start: int = 0, end: int | None = None) -> list[Decimal | None]:
        """Return the values of rows [start, end) as decimals, None where there is none."""
        numbers = map(Decimal, self._units[start:end].tolist())
        values: list[Decimal | None] = list(map(mul, numbers, repeat(self._unit)))
        if self._missing is not None:
            for place in np.flatnonzero(self._missing[start:end]).tolist():
                values[place] = None
        return values

    def read_decimal(self, place: int) -> Decimal | None:
        """Return the value of one row."""
        if self._missing is not None and self._missing[place]:
            return None
        return Decimal(int(self._units[place])) * self._unit

    def read_floats(self) -> NDArray[np.float64]:
        """Return all values as floats, NaN where there is none."""
        values = self._units / float(1 / self._unit)
        if self._missing is not None:
            values[self._missing] = np.nan
        return values

    def spread(self, places: NDArray[np.int64], length: int) -> "Column":
        """Return a column of `length` rows in which the values stand at `places`, and none elsewhere."""
        if len(places) == length:
            return self
        units = np.zeros(length, dtype=np.int64)
        units[places] = self._units
        missing = np.ones(length, dtype=np.bool_)
        missing[places] = False if self._missing is None else self._missing
        return Column(units, 0, missing)._with_unit(self._unit)

    def _with_unit(self, unit: Decimal) -> "Column":
        self._unit = unit
        return self


class WideColumn(Column):
    """A column whose values need more than 64 bits at any scale: kept as decimals."""

    __slots__ = ("_values",)

    def __init__(self, values: Sequence[Decimal | None]) -> None:
        self._values = list(values)

    def __len__(self) -> int:
        return len(self._values)

    def read_decimals(self, start: int = 0, end: int | None = None) -> list[Decimal | None]:
        return self._values[start:end]

    def read_decimal(self, place: int) -> Decimal | None:
        return self._values[place]

    def read_floats(self) -> NDArray[np.float64]:
        return np.array([np.nan if value is None else float(value) for value in self._values], dtype=np.float64)

    def spread(self, places: NDArray[np.int64], length: int) -> Column:
        values: list[Decimal | None] = [None] * length
        for place, value in zip(places.tolist(), self._values, strict=True):
            values[place] = value
        return WideColumn(values)


class Table:
    """The rows of a window of a series, oldest first. `columns` are parsed when they are asked for."""

    def __init__(self, lines: bytes, names: Sequence[str], first: Sequence[str] = (), *, timed: bool = False) -> None:
        """Take lines of `store.read.market.read_lines`; `names` are the columns behind ts (and interval).

        The columns `first` are parsed at once.
        """
        self._names = ["ts", *(["interval"] if timed else []), *names]
        self._lines = lines
        self._columns: dict[str, Column] = {}
        self.ts: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.intervals: list[str] = []
        if lines:
            keys = {"ts": pa.int64(), **({"interval": pa.string()} if timed else {})}
            table = self._parse(first, keys)
            self.ts = _read_buffer(table["ts"].combine_chunks(), np.int64)
            self.intervals = table["interval"].to_pylist() if timed else []

    def get_column(self, name: str) -> Column:
        """Return one column."""
        if name not in self._columns:
            self.load([name])
        return self._columns[name]

    def load(self, names: Sequence[str]) -> None:
        """Parse several columns at once."""
        if not self._lines:
            self._columns |= {name: Column(np.empty(0, dtype=np.int64), 0, None) for name in names}
            return
        self._parse(names, {})

    def _parse(self, names: Sequence[str], keys: dict[str, pa.DataType]) -> pa.Table:
        for kind in _KINDS:
            try:
                table = self._read(keys | dict.fromkeys(names, kind))
                break
            except pa.ArrowInvalid:  # more digits than that
                pass
        for name in names:
            self._columns[name] = _pack(table[name].combine_chunks())
        return table

    def close(self) -> None:
        """Give back the text of the rows; no further column can be asked for."""
        self._lines = b""

    def _read(self, types: dict[str, pa.DataType]) -> pa.Table:
        return csv.read_csv(
            pa.BufferReader(self._lines),
            read_options=csv.ReadOptions(column_names=self._names, use_threads=False),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=["\\N"], strings_can_be_null=True
            ),
        )


def _read_buffer(array: pa.Array, kind: type[Number]) -> NDArray[Number]:
    """Return the values of an array without nulls; its own `to_numpy` imports pandas where that is installed."""
    return np.frombuffer(array.buffers()[1], dtype=kind)[array.offset : array.offset + len(array)]


def _pack(array: pa.Array) -> Column:
    """Return a column of decimals or texts as whole numbers of one scale, where 64 bits hold them all."""
    missing = _read_buffer(array.is_null().cast(pa.uint8()), np.bool_) if array.null_count else None
    if pa.types.is_decimal(array.type):
        for scale in _SCALES:
            try:
                scaled = array.cast(pa.decimal128(38, scale))
            except pa.ArrowInvalid:
                continue
            words = np.frombuffer(scaled.buffers()[1], dtype=np.int64)
            words = words[2 * scaled.offset : 2 * (scaled.offset + len(scaled))]
            if missing is not None:
                words = np.where(np.repeat(missing, 2), 0, words)
            low, high = words[0::2], words[1::2]
            if np.array_equal(high, low >> 63):
                return Column(low.copy(), scale, missing)
    return WideColumn([None if value is None else _WIDE.create_decimal(value) for value in array.to_pylist()])
