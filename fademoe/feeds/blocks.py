"""Rows of one metric as columns: tens of thousands of them without an object for each value.

Imports pyarrow and numpy, so only what reads files of archives imports it.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fademoe.clock import HOUR_MS, Window
from fademoe.metrics import METRICS, Row

PIECE_BYTES = 256 * 1024

Times = npt.NDArray[np.int64]


class Block(Mapping[int, Row]):
    """Rows of a metric by ts, ascending; a mapping like a dict of rows, which are made when one is asked for.

    `times` are strictly ascending. `cells` are arrays of text in the order of the metric's columns, none of them null.
    """

    def __init__(self, metric: str, times: Times, cells: list[pa.StringArray]) -> None:
        """Take columns of one length."""
        self.metric = metric
        self.times = times
        self._cells = cells

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.times)

    def __iter__(self) -> Iterator[int]:
        """Yield the times."""
        yield from self.times.tolist()

    def __getitem__(self, ts: int) -> Row:
        """Return the row of a time."""
        return self._rows[ts]

    @cached_property
    def _rows(self) -> dict[int, Row]:
        metric = METRICS[self.metric]
        columns = [
            [int(text) for text in cells.to_pylist()] if column.whole else cells.to_pylist()
            for column, cells in zip(metric.columns, self._cells, strict=True)
        ]
        make = metric.row_type._make
        return {row[0]: make(row) for row in zip(self.times.tolist(), *columns, strict=True)}

    def cut(self, window: Window) -> "Block":
        """Return the rows inside a window."""
        start, end = np.searchsorted(self.times, window).tolist()
        if end - start == len(self):
            return self
        return Block(self.metric, self.times[start:end], [cells.slice(start, end - start) for cells in self._cells])

    def list_hours(self) -> list[int]:
        """Return the starts of the hours that rows lie in, ascending."""
        hours = self.times // HOUR_MS
        is_first = np.append(True, hours[1:] != hours[:-1])[: len(hours)]  # np.unique imports numpy.ma
        found: list[int] = (hours[is_first] * HOUR_MS).tolist()
        return found

    def write_copy_text(self, key: str) -> Iterator[bytes]:
        """Yield the rows in PostgreSQL's COPY text format, piece by piece: ts, `key`, the metric's columns.

        `key` is the text of the columns between, with their tabs.
        """
        step = max(1, PIECE_BYTES // 128)
        tab, end, nothing, middle = map(_make_scalar, ("\t", "\n", "", key))
        for at in range(0, len(self), step):
            times = pa.Int64Array.from_buffers(
                pa.int64(), len(self.times[at : at + step]), [None, pa.py_buffer(self.times[at : at + step])]
            ).cast(pa.string())
            lines = _join([times, middle, *(cells.slice(at, step) for cells in self._cells), tab])
            yield _join([lines, nothing, end]).buffers()[2].to_pybytes()


def _join(parts: list[pa.Array | pa.Scalar]) -> pa.StringArray:
    """Return texts joined by the last of `parts`."""
    return pc.call_function("binary_join_element_wise", parts)  # by its name: the function itself imports pandas


def _make_scalar(text: str) -> pa.StringScalar:
    """Make a scalar; `pa.scalar` imports pandas, which takes a second."""
    content = text.encode()
    offsets = np.array([0, len(content)], np.int32)
    return pa.StringArray.from_buffers(1, pa.py_buffer(offsets), pa.py_buffer(content))[0]
