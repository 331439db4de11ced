"""The board: all rows that a set of expressions reads, as they are known at the end of one minute."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Protocol

import numpy as np

from fademoe.clock import MINUTE_MS
from fademoe.evaluation.tables import PointTable, Reads, SettlementTable
from fademoe.expressions import Evaluator, Expression, Kind, Measure, View
from fademoe.expressions.arrays import OPEN, Truths
from fademoe.expressions.evaluate import NOW, Points
from fademoe.expressions.numbers import Truth, all_true, compare
from fademoe.expressions.tree import Call
from fademoe.metrics import ACROSS_CODE, METRICS

HOURS_COLUMN = "fr_hours"  # says how long a settlement is in force


class EarlierTruths:
    """The truths of the second half of crossings a minute before: by the text of the crossing, code and symbol."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._truths: dict[tuple[str, str], tuple[Sequence[str], Truths]] = {}
        self._by_symbol: dict[tuple[str, str], dict[str, int]] = {}
        self._at_points: dict[tuple[str, str, str, Points], Sequence[Truth]] = {}

    def enter(self, text: str, code: str, symbols: Sequence[str], truths: Truths) -> None:
        """Keep the truths of a crossing, a row for each symbol."""
        self._truths[text, code] = (symbols, truths)

    def enter_points(self, text: str, code: str, symbol: str, points: Points, truths: Sequence[Truth]) -> None:
        """Keep the truths of a crossing inside a function, one for each point."""
        self._at_points[text, code, symbol, points] = truths

    def find_points(self, text: str, code: str, symbol: str, points: Points) -> Sequence[Truth] | None:
        """Return the truths of a crossing at points; None where none are kept."""
        return self._at_points.get((text, code, symbol, points))

    def align(self, text: str, code: str, symbols: Sequence[str]) -> Truths | None:
        """Return the truths of a crossing for other symbols, open for those that are new; None without any."""
        if (text, code) not in self._truths:
            return None
        own, truths = self._truths[text, code]
        if list(own) == list(symbols):
            return truths
        by_symbol = dict(zip(own, truths[:, 0].tolist(), strict=True))
        return np.array([[by_symbol.get(symbol, OPEN)] for symbol in symbols], np.int8).reshape(len(symbols), 1)

    def find(self, text: str, code: str, symbol: str) -> int | None:
        """Return the truth of a crossing for a symbol (1, 0, -1 for unknown); None where none is kept."""
        key = (text, code)
        if key in self._truths and key not in self._by_symbol:
            own, truths = self._truths[key]
            self._by_symbol[key] = dict(zip(own, truths[:, 0].tolist(), strict=True))
        return self._by_symbol.get(key, {}).get(symbol)


def collect_reads(wanted: Iterable[tuple[Expression, Sequence[str]]]) -> dict[tuple[str, str], Reads]:
    """Return what expressions read of each (code, metric); each expression comes with the codes it is evaluated for."""
    found: dict[tuple[str, str], Reads] = {}
    for expression, codes in wanted:
        for need in expression.needs.columns:
            for code in codes if need.code is None else [need.code]:
                key = (code, need.measure.metric)
                back_ms = need.back_ms + expression.needs.minutes_back * MINUTE_MS
                reads = found.get(key) or Reads(*key, (), 0, is_bare=False, is_strict=False)
                measures = dict.fromkeys((*reads.measures, need.measure))
                if need.measure.kind is Kind.SETTLEMENT:
                    measures |= dict.fromkeys(_find_hours(need.measure))
                found[key] = Reads(
                    *key,
                    tuple(sorted(measures, key=lambda measure: measure.column)),
                    max(reads.back_ms, back_ms),
                    is_bare=reads.is_bare or need.is_bare,
                    is_strict=reads.is_strict or need.is_strict,
                )
    return found


def _find_hours(measure: Measure) -> list[Measure]:
    columns = [column.name for column in METRICS[measure.metric].columns] if measure.metric in METRICS else []
    return [replace(measure, column=HOURS_COLUMN)] if HOURS_COLUMN in columns else []


class Board:
    """The tables of a set of reads, at `moment_ms`, the end of a minute."""

    def __init__(self, reads: Iterable[Reads], moment_ms: int) -> None:
        """Make empty tables for the rows known at `moment_ms`."""
        self.moment_ms = moment_ms
        self.points: dict[tuple[str, str], PointTable] = {}
        self.settlements: dict[tuple[str, str], SettlementTable] = {}
        for one in reads:
            if one.measures[0].kind is Kind.SETTLEMENT:
                self.settlements[one.code, one.metric] = SettlementTable(one)
            else:
                self.points[one.code, one.metric] = PointTable(one, moment_ms)

    @property
    def tables(self) -> list[PointTable | SettlementTable]:
        """All tables."""
        return [*self.points.values(), *self.settlements.values()]

    def list_by_input(self) -> dict[str, list[PointTable | SettlementTable]]:
        """Return the tables by the sources whose rows they are computed from: their own, of what is stored."""
        found: dict[str, list[PointTable | SettlementTable]] = {}
        for table in self.tables:
            for source in table.inputs:
                found.setdefault(source, []).append(table)
        return found

    def move_to(self, moment_ms: int) -> None:
        """Go on to the end of a later minute."""
        self.moment_ms = moment_ms
        for points in self.points.values():
            points.move_to(moment_ms)
        for settlements in self.settlements.values():
            settlements.forget(moment_ms - settlements.reads.back_ms - 3 * 24 * 60 * MINUTE_MS)


class Contracts(Protocol):
    """The contracts of all codes, in all minutes."""

    def find_listed(self, code: str, minute: int) -> Collection[str]:
        """Return the symbols that have a contract on a code in a minute."""
        ...


class BoardView(View):
    """What expressions see of a board at its moment, or at an earlier one; see expressions.View.

    `listed` are the symbols of the rule that are listed, by code. What `contracts` do not list on a code is unknown
    there, whatever the board holds; without `contracts` all of the board is seen.
    """

    def __init__(
        self,
        board: Board,
        listed: Mapping[str, Sequence[str]],
        moment_ms: int | None = None,
        contracts: Contracts | None = None,
    ) -> None:
        """See the board at `moment_ms`, by default at its own."""
        self._board = board
        self._listed = listed
        self._moment_ms = board.moment_ms if moment_ms is None else moment_ms
        self._contracts = contracts
        self._last: dict[tuple[str, Measure], list[int]] = {}

    def _is_listed(self, code: str, symbol: str) -> bool:
        if self._contracts is None or code == ACROSS_CODE:
            return True
        return symbol in self._contracts.find_listed(code, self._moment_ms - MINUTE_MS)

    @property
    def moment_ms(self) -> int:
        """The end of the minute."""
        return self._moment_ms

    def get_value(self, code: str, symbol: str, measure: Measure) -> Decimal | None:
        """Return what a bare name is."""
        table = self._board.points.get((code, measure.metric))
        if table is not None and table.is_sample:
            if not self._is_listed(code, symbol):
                return None
            return table.read_newest_sample(measure.column, symbol, self._moment_ms)
        return self.get_points(code, symbol, measure, 0, measure.grid_ms, 1)[0]

    def get_points(
        self, code: str, symbol: str, measure: Measure, offset_ms: int, step_ms: int, count: int
    ) -> Sequence[Decimal | None]:
        """Return the values at grid points before last(T)."""
        table = self._board.points.get((code, measure.metric))
        row = table.rows.get(symbol) if table is not None else None
        if table is None or row is None or not self._is_listed(code, symbol):
            return [None] * count
        key = (code, measure)
        if key not in self._last:
            self._last[key] = table.find_last(measure.column, self._moment_ms).tolist()
        return table.read(measure.column, symbol, self._last[key][row] - offset_ms, step_ms, count)

    def get_settlement(self, code: str, symbol: str, measure: Measure, at_ms: int) -> Decimal | None:
        """Return the value of the settlement in force at a moment."""
        table = self._board.settlements.get((code, measure.metric))
        if table is None or not self._is_listed(code, symbol):
            return None
        return table.read_in_force(measure.column, symbol, at_ms)

    def list_settlements(
        self, code: str, symbol: str, measure: Measure, start_ms: int, end_ms: int
    ) -> Sequence[Decimal | None] | None:
        """Return the known settlements of a window."""
        table = self._board.settlements.get((code, measure.metric))
        if table is None or not self._is_listed(code, symbol):
            return None
        return table.read_window(measure.column, symbol, start_ms, end_ms)

    def list_symbols(self, code: str) -> Sequence[str]:
        """Return the rule's symbols that are listed."""
        return self._listed.get(code, ())

    def go_back(self) -> "BoardView":
        """Return the view of the minute before, with what the board holds now."""
        return BoardView(self._board, self._listed, self._moment_ms - MINUTE_MS, self._contracts)


class BoardEvaluator(Evaluator):
    """Evaluates at a board. `then` holds what crossings were a minute before, by what was known then."""

    def __init__(self, view: View, then: EarlierTruths) -> None:
        """Evaluate at `view`."""
        super().__init__(view)
        self._then = then

    def _cross(self, node: Call, code: str, symbol: str, points: Points) -> Sequence[Truth]:
        then: Sequence[Truth] | None
        if points == NOW:
            number = self._then.find(node.text, code, symbol)
            then = None if number is None else [None if number < 0 else number == 1]
        else:
            then = self._then.find_points(node.text, code, symbol, points)
        if then is None:
            return super()._cross(node, code, symbol, points)
        sides = zip(*(self.compute(child, code, symbol, points) for child in node.children), strict=True)
        sign = ">" if node.function == "cross_above" else "<"
        return [all_true((compare(sign, a, b), truth)) for (a, b), truth in zip(sides, then, strict=True)]
