"""Rows of one metric as columns: tens of thousands of them without an object for each value.

Imports pyarrow and numpy, so only what reads files of archives imports it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fademoe.clock import HOUR_MS, Window
from fademoe.metrics import METRICS, Row

PIECE_BYTES = 256 * 1024
NULL = "None"  # of COPY; what Python writes for no value

Times = npt.NDArray[np.int64]

pa.enable_signal_handlers(enable=False)  # a stop is for the worker to take: pyarrow would make it an error of the job
pa.set_memory_pool(pa.system_memory_pool())  # pyarrow's own pool keeps 20 MB more of a month's file, and is slower


class Unordered(NamedTuple):
    """Rows of a metric as columns, in any order; `cells` as those of a block."""

    times: Times
    cells: list[pa.StringArray]


class Block(Mapping[int, Row]):
    """Rows of a metric by ts, ascending; a mapping like a dict of rows, which are made when one is asked for.

    `times` are strictly ascending. `cells` are arrays of text in the order of the metric's columns.
    """

    def __init__(self, metric: str, times: Times, cells: list[pa.StringArray]) -> None:
        """Take columns of one length."""
        self.metric = metric
        self.times = times
        self.cells = cells

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.times)

    def __iter__(self) -> Iterator[int]:
        """Yield the times."""
        yield from self.times.tolist()

    def __contains__(self, ts: object) -> bool:
        """Return whether there is a row of a time."""
        return isinstance(ts, int) and bool(self._mark([ts]).any())

    def __getitem__(self, ts: int) -> Row:
        """Return the row of a time."""
        return self._rows[ts]

    @cached_property
    def _rows(self) -> dict[int, Row]:
        metric = METRICS[self.metric]
        columns = [
            [None if text is None else int(text) for text in cells.to_pylist()] if column.whole else cells.to_pylist()
            for column, cells in zip(metric.columns, self.cells, strict=True)
        ]
        make = metric.row_type._make
        return {row[0]: make(row) for row in zip(self.times.tolist(), *columns, strict=True)}

    def cut(self, window: Window) -> "Block":
        """Return the rows inside a window."""
        start, end = np.searchsorted(self.times, window).tolist()
        if end - start == len(self):
            return self
        return Block(self.metric, self.times[start:end], [cells.slice(start, end - start) for cells in self.cells])

    def pick(self, times: Iterable[int] | Times) -> "Block":
        """Return the rows of some times; those that there are none of are left out."""
        return self._select(self._mark(times))

    def without(self, times: Iterable[int] | Times) -> "Block":
        """Return the rows without those of some times."""
        return self._select(~self._mark(times))

    def shift(self, shift_ms: int) -> "Block":
        """Return the rows with later times."""
        return Block(self.metric, self.times + shift_ms, self.cells)

    def _mark(self, times: Iterable[int] | Times) -> npt.NDArray[np.bool_]:
        """Return for each row whether its time is one of some."""
        sought = times if isinstance(times, np.ndarray) else np.fromiter(times, np.int64)
        marks = np.zeros(len(self), np.bool_)
        if len(self):
            places = np.searchsorted(self.times, sought)
            places[places == len(self)] = 0
            marks[places[self.times[places] == sought]] = True
        return marks

    def _select(self, marks: npt.NDArray[np.bool_]) -> "Block":
        return self if marks.all() else Block(self.metric, *_take(self, np.flatnonzero(marks)))

    def read_floats(self, column: str) -> npt.NDArray[np.float64]:
        """Return a column that has no nulls as floats."""
        return read_floats(self._get_cells(column))

    def list_texts(self, column: str) -> list[str | None]:
        """Return the values of a column as text."""
        texts: list[str | None] = self._get_cells(column).to_pylist()
        return texts

    def _get_cells(self, column: str) -> pa.StringArray:
        names = [each.name for each in METRICS[self.metric].columns]
        return self.cells[names.index(column)]

    def list_hours(self) -> list[int]:
        """Return the starts of the hours that rows lie in, ascending."""
        hours = self.times // HOUR_MS
        is_first = np.append(True, hours[1:] != hours[:-1])[: len(hours)]  # np.unique imports numpy.ma
        found: list[int] = (hours[is_first] * HOUR_MS).tolist()
        return found

    def write_copy_text(self, key: str) -> Iterator[bytes]:
        """Yield the rows in PostgreSQL's COPY text format, piece by piece: ts, `key`, the metric's columns.

        `key` is the text of the columns between, with their tabs. A null is NULL.
        """
        step = max(1, PIECE_BYTES // 128)
        tab, end, nothing, middle = map(_make_scalar, ("\t", "\n", "", key))
        for at in range(0, len(self), step):
            times = _make_integers(self.times[at : at + step]).cast(pa.string())
            lines = _join([times, middle, *(cells.slice(at, step) for cells in self.cells), tab])
            yield _join([lines, nothing, end]).buffers()[2].to_pybytes()


def pack_rows(metric: str, rows: Sequence[Row]) -> Unordered:
    """Return rows of a metric as columns."""
    width = len(METRICS[metric].columns) + 1
    times, *columns = zip(*rows, strict=True) if rows else [()] * width
    return Unordered(np.fromiter(times, np.int64, len(rows)), [_make_strings(column) for column in columns])


def make_block(metric: str, parts: Sequence[Unordered | Block]) -> tuple[Block, list[int]]:
    """Return the rows of some parts as one block, and the times of which two rows have different numbers.

    Of several rows of one time the first one is taken.
    """
    if len(parts) == 1 and isinstance(parts[0], Block):
        return parts[0], []
    whole = Unordered(
        np.concatenate([part.times for part in parts]),
        [pa.concat_arrays(cells) for cells in zip(*(part.cells for part in parts), strict=True)],
    )
    if (whole.times[1:] > whole.times[:-1]).all():
        return Block(metric, *whole), []
    whole = _take(whole, np.argsort(whole.times, kind="stable"))
    is_double = np.append(False, whole.times[1:] == whole.times[:-1])
    places = np.flatnonzero(is_double)
    doubles, before = _take(whole, places), _take(whole, places - 1)
    differing = {
        ts
        for one, other in zip(doubles.cells, before.cells, strict=True)
        for ts, *values in zip(doubles.times.tolist(), one.to_pylist(), other.to_pylist(), strict=True)
        if not _are_equal(*values)
    }
    return Block(metric, *_take(whole, np.flatnonzero(~is_double))), sorted(differing)


def read_floats(cells: pa.StringArray) -> npt.NDArray[np.float64]:
    """Return plain decimals as floats."""
    floats = cells.cast(pa.float64())
    return np.frombuffer(floats.buffers()[1], np.float64)[floats.offset : floats.offset + len(floats)]


def _are_equal(one: str | None, other: str | None) -> bool:
    """Return whether two values are the same number; zeros at the end of a decimal are no difference."""
    return one == other or (one is not None and other is not None and Decimal(one) == Decimal(other))


def _take(rows: Unordered | Block, places: npt.NDArray[np.int64]) -> Unordered:
    """Return the rows at some places."""
    indices = _make_integers(places)
    return Unordered(rows.times[places], [pc.call_function("take", [cells, indices]) for cells in rows.cells])


def _join(parts: list[pa.Array | pa.Scalar]) -> pa.StringArray:
    """Return texts joined by the last of `parts`."""
    options = pc.JoinOptions(null_handling="replace", null_replacement=NULL)
    return pc.call_function("binary_join_element_wise", parts, options)  # the function itself imports pandas


# `pa.array` and `pa.scalar` import pandas where it is installed, which takes a second.


def _make_integers(values: npt.NDArray[np.int64]) -> pa.Int64Array:
    return pa.Int64Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _make_strings(values: Sequence[object]) -> pa.StringArray:
    """Return values as texts; None is null."""
    texts = [b"" if value is None else str(value).encode() for value in values]
    offsets = np.zeros(len(texts) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, texts), np.int32, len(texts)), out=offsets[1:])
    known = None
    if None in values:
        is_known = np.fromiter((value is not None for value in values), np.bool_, len(values))
        known = pa.py_buffer(np.packbits(is_known, bitorder="little"))
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(b"".join(texts)), known)


def _make_scalar(text: str) -> pa.StringScalar:
    return _make_strings([text])[0]
