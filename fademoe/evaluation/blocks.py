"""Many minutes at once, for replays: the results are those of one minute after the other.

It is possible where what an expression sees at T is what it sees at any other minute, moved: bars of a minute that one
feed writes, or all feeds with the same lag, and settlements. Samples are read between the points of their grid and
replace each other, and ranks depend on which symbols are known: these are evaluated minute by minute.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from fademoe.clock import MINUTE_MS
from fademoe.evaluation.arrays import BoardArrays
from fademoe.evaluation.board import Board, BoardEvaluator, BoardView, EarlierTruths
from fademoe.evaluation.reading import Contract
from fademoe.evaluation.tables import PointTable, Reads
from fademoe.evaluation.watches import CROSSINGS, TRUTHS, Listing, Watch, WatchResult
from fademoe.expressions import Expression
from fademoe.expressions.arrays import OPEN, ArrayEvaluator, Truths, all_true, compare
from fademoe.expressions.evaluate import NOW, Points
from fademoe.expressions.numbers import Truth
from fademoe.expressions.tree import Call, Node

MOST_VALUES = 2_000_000  # of all windows of a block: 16 MB of floats
FEWEST_MINUTES, MOST_MINUTES = 60, 1_440


def fits_blocks(watches: Iterable[Watch], reads: Iterable[Reads]) -> bool:
    """Return whether watches may be evaluated in blocks."""
    tables = [table for table in Board(reads, 0).tables if isinstance(table, PointTable)]
    is_steady = all(
        not table.is_sample
        and table.grid_ms == MINUTE_MS
        and len({lag[2:4] for lag in table.lags.by_interval.values()}) == 1
        for table in tables
    )
    return is_steady and not any(expression.needs.ranks for watch in watches for expression in watch.expressions)


def choose_minutes(watches: Sequence[Watch], symbols: int) -> int:
    """Return how many minutes are evaluated at once for so many symbols."""
    back_ms = max((one.needs.look_back_ms for watch in watches for one in watch.expressions), default=0)
    minutes = MOST_VALUES // (max(symbols, 1) * (back_ms // MINUTE_MS + 1))
    return min(max(minutes, FEWEST_MINUTES), MOST_MINUTES)


def make_block_board(reads: Iterable[Reads], since: int, until: int) -> Board:
    """Return an empty board that has room for all that the minutes since <= T < until look back on."""
    return Board([one._replace(back_ms=one.back_ms + until - since) for one in reads], until)


def evaluate_block(
    watches: Sequence[Watch], board: Board, contracts: Sequence[Contract], since: int
) -> Iterator[tuple[int, tuple[WatchResult, ...]]]:
    """Yield the minutes from `since` to that of the board, each with the results of the watches, in their order.

    The same contracts have to be listed in all of them.
    """
    listing = Listing(contracts, since)
    count = (board.moment_ms - since) // MINUTE_MS
    everywhere = {code: listing.list_symbols(code, None) for watch in watches for code in watch.codes}
    exact = BoardEvaluator(BoardView(board, everywhere, contracts=listing), EarlierTruths())
    arrays: dict[str, ArrayEvaluator] = {}
    for code, symbols in everywhere.items():
        arrays[code] = _BlockEvaluator(BoardArrays(board, code, symbols, exact, symbols, {}, listing))
    found = []
    for watch in watches:
        places, listed = listing.find_places(watch)
        truths = [_decide(one, watch, listing, exact, arrays, count) for one in watch.expressions]
        found.append((watch, places, listed, truths))
    for index in range(count):
        minute = since + index * MINUTE_MS
        results = []
        for watch, places, listed, truths in found:
            evaluator = BoardEvaluator(BoardView(board, listed, minute + MINUTE_MS, listing), EarlierTruths())
            clear = truths[1][index] if len(truths) > 1 else None
            results.append(WatchResult(watch, places, truths[0][index], clear, evaluator))
        yield minute, tuple(results)


def _decide(
    expression: Expression,
    watch: Watch,
    listing: Listing,
    exact: BoardEvaluator,
    arrays: Mapping[str, ArrayEvaluator],
    count: int,
) -> list[list[Truth]]:
    """Return the truths of an expression by minute, one for each place."""
    parts: list[Truths] = []
    for code in sorted(watch.codes):
        symbols, rows = listing.find_rows(code, watch.symbols)
        every = listing.list_symbols(code, None)
        points = Points(0, MINUTE_MS, count, is_strict=True)
        decided = np.broadcast_to(arrays[code].decide(expression.root, points), (len(every), count))[rows]
        for row, index in np.argwhere(decided == OPEN).tolist():
            point = Points((count - 1 - index) * MINUTE_MS, MINUTE_MS, 1, is_strict=True)
            (truth,) = exact.compute(expression.root, code, symbols[row], point)
            decided[row, index] = -1 if truth is None else truth
        parts.append(decided)
    together = np.concatenate(parts) if parts else np.empty((0, count), np.int8)
    return [[TRUTHS[number] for number in column] for column in together.T.tolist()]


class _BlockEvaluator(ArrayEvaluator):
    """Knows what a crossing was a minute before: the same, moved."""

    def _decide(self, node: Node, points: Points) -> Truths:
        if not (isinstance(node, Call) and node.function in CROSSINGS and points != NOW):
            return super()._decide(node, points)
        before = points.shift(MINUTE_MS)
        now = compare(">" if node.function == "cross_above" else "<", *(self.compute(x, points) for x in node.children))
        then = compare(CROSSINGS[node.function], *(self.compute(x, before) for x in node.children))
        return all_true([now, then])
