"""What expressions see of a board, for all symbols of a code at once; see expressions.arrays."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fademoe.clock import MINUTE_MS
from fademoe.evaluation.board import Board, BoardEvaluator, Contracts
from fademoe.evaluation.tables import UNKNOWN as NO_MANTISSA
from fademoe.evaluation.tables import WIDE, PointTable
from fademoe.expressions import Measure
from fademoe.expressions.arrays import ROUNDING, Floats, Numbers, Truths
from fademoe.expressions.evaluate import Points
from fademoe.expressions.tree import Call
from fademoe.metrics import ACROSS_CODE

Rows = npt.NDArray[np.intp]


class BoardArrays:
    """A board at its moment, with a row for each of `symbols`, which are listed on `code`.

    `exact` evaluates what is no matter of arrays; `compared` are the symbols among which `rank` ranks; `then` holds
    what crossings were a minute before, by the text of the crossing. What `contracts` do not list on another code is
    unknown there; see BoardView.
    """

    def __init__(
        self,
        board: Board,
        code: str,
        symbols: Sequence[str],
        exact: BoardEvaluator,
        compared: Sequence[str],
        then: Mapping[str, Truths],
        contracts: Contracts | None = None,
    ) -> None:
        """Hold the board; its values are read when they are requested."""
        self._board = board
        self._contracts = contracts
        self._code = code
        self._symbols = symbols
        self._exact = exact
        self._then = then
        chosen = set(compared)
        self._compared = np.array([symbol in chosen for symbol in symbols], np.bool_)
        self._rows: dict[str, Rows | None] = {}
        self._last: dict[tuple[str, str], npt.NDArray[np.int64]] = {}
        self._values: dict[tuple[str, str], Floats] = {}
        self._unlisted: dict[str, Rows] = {}

    def _find_unlisted(self, code: str) -> Rows:
        """Return the places of the symbols that have no contract on a code."""
        if code not in self._unlisted:
            missing: list[int] = []
            if self._contracts is not None and code not in (self._code, ACROSS_CODE):
                listed = self._contracts.find_listed(code, self._board.moment_ms - MINUTE_MS)
                missing = [row for row, symbol in enumerate(self._symbols) if symbol not in listed]
            self._unlisted[code] = np.array(missing, np.intp)
        return self._unlisted[code]

    def read_value(self, code: str | None, measure: Measure) -> Floats:
        """Return what a bare name is, in one column."""
        code = code or self._code
        table = self._board.points.get((code, measure.metric))
        if table is None or not table.is_sample:
            return self.read_points(code, measure, Points(0, measure.grid_ms, 1, is_strict=True))
        key = (code, measure.column)
        if key not in self._values:
            moment_ms = self._board.moment_ms
            found = (table.read_newest_sample(measure.column, symbol, moment_ms) for symbol in self._symbols)
            values = np.array([np.nan if x is None else float(x) for x in found])[:, None]
            values[self._find_unlisted(code)] = np.nan
            self._values[key] = values
        return self._values[key]

    def read_points(self, code: str | None, measure: Measure, points: Points) -> Floats:
        """Return the values at strict grid points, or of the settlements in force."""
        code = code or self._code
        table = self._board.points.get((code, measure.metric))
        if table is not None:
            values = self._read_table(table, measure.column, points)
            values[self._find_unlisted(code)] = np.nan
            return values
        result = np.full((len(self._symbols), points.size), np.nan)
        settlements = self._board.settlements.get((code, measure.metric))
        if settlements is not None:
            newest = self._board.moment_ms - points.offset_ms
            moments = range(newest - (points.size - 1) * points.step_ms, newest + 1, points.step_ms)
            for row, symbol in enumerate(self._symbols):
                found = [settlements.read_in_force(measure.column, symbol, at_ms) for at_ms in moments]
                result[row] = [np.nan if x is None else float(x) for x in found]
        result[self._find_unlisted(code)] = np.nan
        return result

    def _read_table(self, table: PointTable, column: str, points: Points) -> Floats:
        rows, last = self._find_rows(table), self._find_last(table, column)
        if not len(last) or (rows is not None and not (rows >= 0).any()):
            return np.full((len(self._symbols), points.size), np.nan)
        step = max(points.step_ms // table.grid_ms, 1)
        mantissas, places = table.mantissas[column], table.places[column]
        newest = (last - points.offset_ms - table.base_ms) // table.grid_ms
        first = newest - (points.size - 1) * step
        if rows is None and int(newest.min()) == int(newest.max()) and int(first[0]) >= 0:
            found = mantissas[:, int(first[0]) : int(newest[0]) + 1 : step]
        else:
            columns = first[:, None] + np.arange(points.size) * step
            known_rows = np.arange(len(last)) if rows is None else np.maximum(rows, 0)
            is_kept = (columns >= 0) & (columns < table.capacity) & ((rows is None) | (known_rows == rows))[:, None]
            found = np.where(
                is_kept, mantissas[known_rows[:, None], np.clip(columns, 0, table.capacity - 1)], NO_MANTISSA
            )
            places = places[known_rows]
        values = found / np.power(10.0, places)[:, None]
        values[found == NO_MANTISSA] = np.nan
        if table.wide:
            self._read_wide(table, column, found, values, rows, first, step)
        return values

    def _read_wide(
        self,
        table: PointTable,
        column: str,
        found: npt.NDArray[np.int64],
        values: Floats,
        rows: Rows | None,
        first: npt.NDArray[np.int64],
        step: int,
    ) -> None:
        """Put in the values that do not fit a mantissa."""
        for index, place in zip(*np.nonzero(found == WIDE), strict=True):
            row = int(index) if rows is None else int(rows[index])
            ts = table.base_ms + (int(first[index]) + int(place) * step) * table.grid_ms
            values[index, place] = float(table.wide[column, row, ts])

    def _find_rows(self, table: PointTable) -> Rows | None:
        """Return the row of the table for each symbol; -1: none, None: they are the table's."""
        if table.source not in self._rows:
            rows = np.array([table.rows.get(symbol, -1) for symbol in self._symbols], np.intp)
            is_same = len(rows) == len(table.symbols) and bool((rows == np.arange(len(rows))).all())
            self._rows[table.source] = None if is_same else rows
        return self._rows[table.source]

    def _find_last(self, table: PointTable, column: str) -> npt.NDArray[np.int64]:
        """Return last(T) of a column for each symbol."""
        key = (table.source, column)
        if key not in self._last:
            rows, last = self._find_rows(table), table.find_last(column, self._board.moment_ms)
            self._last[key] = last if rows is None or not len(last) else last[np.maximum(rows, 0)]
        return self._last[key]

    def compute_settled(self, node: Call, points: Points) -> Numbers:
        """Return a function over the settlements of a window, from exact values."""
        found = [self._exact.compute(node, self._code, symbol, points) for symbol in self._symbols]
        value = np.array([[np.nan if x is None else float(x) for x in row] for row in found], np.float64)
        value = value.reshape(len(self._symbols), points.size)
        return Numbers(value, np.abs(value) * ROUNDING)

    def rank(self, x: Numbers) -> Numbers:
        """Return the rank of each series among those compared; open where two of them may be equal."""
        shape = (len(self._symbols), x.value.shape[1])
        values, errors = np.broadcast_to(x.value, shape), np.broadcast_to(x.error, shape)
        result, bound = np.full(shape, np.nan), np.zeros(shape)
        for place in range(shape[1]):
            known = np.flatnonzero(self._compared & ~np.isnan(values[:, place]))
            count = len(known)
            if count < 2:
                continue
            order = known[np.argsort(values[known, place], kind="stable")]
            margin = 2 * float(errors[known, place].max())
            is_close = ~(np.diff(values[order, place]) > margin)
            result[order, place] = np.arange(count) / (count - 1)
            bound[order, place] = ROUNDING
            bound[order[1:][is_close], place] = np.inf
            bound[order[:-1][is_close], place] = np.inf
        return Numbers(result, bound)

    def find_then(self, node: Call) -> Truths | None:
        """Return what the second half of a crossing was a minute before."""
        return self._then.get(node.text)
