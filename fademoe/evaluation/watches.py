"""Evaluates watches on a board: in arrays, and exactly where these leave a truth open."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fademoe.clock import MINUTE_MS, floor_to
from fademoe.evaluation.arrays import BoardArrays
from fademoe.evaluation.board import Board, BoardEvaluator, BoardView, EarlierTruths
from fademoe.evaluation.reading import Contract
from fademoe.expressions import Expression, Message, print_value
from fademoe.expressions.arrays import OPEN, ArrayEvaluator, compare
from fademoe.expressions.evaluate import NOW
from fademoe.expressions.numbers import Truth
from fademoe.expressions.numbers import compare as compare_exactly
from fademoe.expressions.tree import Call, Node

Place = tuple[str, str]  # code and symbol of an instance
TRUTHS: tuple[Truth, ...] = (False, True, None, None)  # by the number of a truth, -1 last


class Watch(NamedTuple):
    """A rule as it is evaluated: its expressions, codes, and symbols (None: all that are listed and followed).

    `key` is the caller's name for it. `message_parts`: expressions of its message, which are read and not evaluated.
    """

    key: str | int
    expr: Expression
    clear: Expression | None
    codes: tuple[str, ...]
    symbols: tuple[str, ...] | None
    message_parts: tuple[Expression, ...] = ()

    @classmethod
    def of_value(
        cls, key: str | int, expression: Expression, codes: tuple[str, ...], symbols: tuple[str, ...] | None
    ) -> "Watch":
        """Return a watch whose results have the value of an expression of any kind: watches take conditions."""
        return cls(key, expression.make_condition(), None, codes, symbols)

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Its expressions."""
        return (self.expr,) if self.clear is None else (self.expr, self.clear)

    @property
    def readers(self) -> tuple[Expression, ...]:
        """Its expressions and those of its message: whose names are read."""
        return (*self.expressions, *self.message_parts)


class WatchResult:
    """The results of a rule in a minute: `expr` and `clear` (None without one) for each of `places`, in order."""

    def __init__(
        self,
        watch: Watch,
        places: Sequence[Place],
        expr: Sequence[Truth],
        clear: Sequence[Truth] | None,
        evaluator: BoardEvaluator,
    ) -> None:
        """Hold the results of one watch; values are computed from the evaluator when they are asked for."""
        self.watch = watch
        self.places = places
        self.expr = expr
        self.clear = clear
        self._evaluator = evaluator

    def read_values(self, place: Place) -> dict[str, str | None]:
        """Return the value of each name and function call of expr by its source text; None is unknown."""
        return self.watch.expr.evaluate_parts(self._evaluator, *place)

    def read_value(self, expression: Expression, place: Place) -> str | None:
        """Return the value of an expression that reads no more than the watch does; None is unknown."""
        return print_value(self._evaluator.evaluate(expression.root, *place))

    def fill(self, message: Message, place: Place, words: Mapping[str, str]) -> str:
        """Return the message of the rule for a place. Ask before the engine goes on to the next minute."""
        return message.fill(self._evaluator, *place, words)


class Group:
    """Watches that share what they compute: all without `rank`, and those with it that rank the same symbols."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        """Group `watches`."""
        self.watches = watches
        self.codes = sorted({code for watch in watches for code in watch.codes})
        self.then = EarlierTruths()
        nodes = {node.text: node for watch in watches for root in _list_roots(watch) for node in root.walk()}
        self.crossings = [node for node in nodes.values() if isinstance(node, Call) and node.function in CROSSINGS]


CROSSINGS = {"cross_above": "<=", "cross_below": ">="}  # with what the sides compared a minute before


def _remember_inside(watch: Watch, found: "Listing", exact: BoardEvaluator, then: EarlierTruths) -> None:
    """Keep what the crossings inside functions of a watch are at their points."""
    inside = [each for expression in watch.expressions for each in expression.needs.crossings]
    places, _ = found.find_places(watch) if inside else ((), {})
    for node, points in inside:
        for code, symbol in places:
            if then.find_points(node.text, code, symbol, points) is None:
                sides = (exact.compute(child, code, symbol, points) for child in node.children)
                truths = [compare_exactly(CROSSINGS[node.function], a, b) for a, b in zip(*sides, strict=True)]
                then.enter_points(node.text, code, symbol, points, truths)


def _list_roots(watch: Watch) -> list[Node]:
    return [expression.root for expression in watch.expressions]


class WatchEvaluator:
    """Evaluates watches on a board. Before the board moves on, `remember` keeps what crossings need of the minute."""

    def __init__(self, watches: Sequence[Watch], board: Board) -> None:
        """Evaluate `watches` on `board`."""
        self._watches = watches
        self._board = board
        self._listing: Listing | None = None
        groups: dict[tuple[str, ...] | bool | None, list[Watch]] = {}
        for watch in watches:
            ranks = any(expression.needs.ranks for expression in watch.expressions)
            groups.setdefault(watch.symbols if ranks else False, []).append(watch)
        self._groups = [Group(group) for group in groups.values()]
        self._group_of = {id(watch): group for group in self._groups for watch in group.watches}

    def remember(self, contracts: Sequence[Contract]) -> None:
        """Keep, of every crossing, what it was at the minute of the board."""
        found = self._find_listing(contracts)
        for group in self._groups:
            then = EarlierTruths()
            if group.crossings:
                exact, arrays = self._evaluate_group(group, found, group.then)
                for code, evaluator in arrays.items():
                    symbols = found.list_symbols(code, None)
                    for node in group.crossings:
                        sides = [evaluator.compute(child) for child in node.children]
                        operator = CROSSINGS[node.function]
                        truths = np.broadcast_to(compare(operator, *sides), (len(symbols), 1)).copy()
                        for row in np.flatnonzero(truths[:, 0] == OPEN):
                            a, b = (exact.compute(child, code, symbols[row], NOW)[0] for child in node.children)
                            truth = compare_exactly(operator, a, b)
                            truths[row] = -1 if truth is None else truth
                        then.enter(node.text, code, symbols, truths)
                for watch in group.watches:
                    _remember_inside(watch, found, exact, then)
            group.then = then

    def _find_listing(self, contracts: Sequence[Contract]) -> "Listing":
        """Return what is listed in the minute of the board: the same until a contract begins or ends."""
        minute = self._board.moment_ms - MINUTE_MS
        if not (self._listing and self._listing.holds(contracts, minute)):
            self._listing = Listing(contracts, minute)
        return self._listing

    def evaluate(self, contracts: Sequence[Contract]) -> tuple[WatchResult, ...]:
        """Return the results of the minute of the board, in the order of the watches."""
        found = self._find_listing(contracts)
        evaluators = {id(group): self._evaluate_group(group, found, group.then) for group in self._groups}
        results = []
        for watch in self._watches:
            group = self._group_of[id(watch)]
            exact, arrays = evaluators[id(group)]
            places, listed = found.find_places(watch)
            expr, *clear = (self._decide(expression, watch, found, exact, arrays) for expression in watch.expressions)
            own = BoardEvaluator(BoardView(self._board, listed, contracts=found), group.then)
            results.append(WatchResult(watch, places, expr, clear[0] if clear else None, own))
        return tuple(results)

    def _evaluate_group(
        self, group: Group, found: "Listing", then: EarlierTruths
    ) -> tuple[BoardEvaluator, dict[str, ArrayEvaluator]]:
        """Return what evaluates a group exactly, and in arrays by code."""
        _, listed = found.find_places(group.watches[0])  # those that rank share their symbols
        for code in group.codes:
            listed.setdefault(code, found.list_symbols(code, group.watches[0].symbols))
        exact = BoardEvaluator(BoardView(self._board, listed, contracts=found), then)
        arrays = {}
        for code in group.codes:
            symbols = found.list_symbols(code, None)
            known = {node.text: then.align(node.text, code, symbols) for node in group.crossings}
            known_then = {text: truths for text, truths in known.items() if truths is not None}
            view = BoardArrays(self._board, code, symbols, exact, listed[code], known_then, found)
            arrays[code] = ArrayEvaluator(view)
        return exact, arrays

    def _decide(
        self,
        expression: Expression,
        watch: Watch,
        found: "Listing",
        exact: BoardEvaluator,
        arrays: Mapping[str, ArrayEvaluator],
    ) -> list[Truth]:
        truths: list[Truth] = []
        for code in sorted(watch.codes):
            symbols, rows = found.find_rows(code, watch.symbols)
            every = found.list_symbols(code, None)
            decided = np.broadcast_to(arrays[code].decide(expression.root), (len(every), 1))[rows, 0]
            truths += [TRUTHS[number] for number in decided.tolist()]
            begin = len(truths) - len(symbols)
            for index in np.flatnonzero(decided == OPEN).tolist():
                truths[begin + index] = exact.decide(expression.root, code, symbols[index])
        return truths


class Listing:
    """The contracts that are listed in a minute."""

    def __init__(self, contracts: Sequence[Contract], minute: int) -> None:
        self._contracts = contracts
        self._minute = minute
        times = (ms for contract in contracts for ms in (contract.listed_ms, contract.delisted_ms) if ms is not None)
        changes = {floor_to(ms, MINUTE_MS) for ms in times}
        self._since = max((ms for ms in changes if ms <= minute), default=None)
        self._until = min((ms for ms in changes if ms > minute), default=None)
        self._symbols: dict[str, list[str]] = {}
        self._followed: dict[str, set[str]] = {}
        for contract in contracts:
            if contract.is_listed(minute):
                symbols = self._symbols.setdefault(contract.code, [])
                if not symbols or symbols[-1] != contract.symbol:
                    symbols.append(contract.symbol)
                if contract.is_followed:
                    self._followed.setdefault(contract.code, set()).add(contract.symbol)
        self._listed: dict[int, dict[str, set[str]]] = {}
        self._rows: dict[tuple[str, tuple[str, ...] | None], tuple[list[str], list[int]]] = {}
        self._places: dict[tuple[tuple[str, ...], tuple[str, ...] | None], list[Place]] = {}

    @property
    def since(self) -> int | None:
        """The first minute in which the same is listed, None where nothing began or ended before."""
        return self._since

    @property
    def until(self) -> int | None:
        """The first minute in which something else is listed, None for ever."""
        return self._until

    def holds(self, contracts: Sequence[Contract], minute: int) -> bool:
        """Return whether the same is listed in another minute by another list."""
        is_within = self._minute <= minute and (self._until is None or minute + MINUTE_MS <= self._until)
        return is_within and (contracts is self._contracts or contracts == self._contracts)

    def find_listed(self, code: str, minute: int) -> Collection[str]:
        """Return the symbols that have a contract on a code in a minute, which may be another one."""
        is_same = (self._since is None or self._since <= minute) and (self._until is None or minute < self._until)
        minute = self._minute if is_same else minute
        if minute not in self._listed:
            found: dict[str, set[str]] = {}
            for contract in self._contracts:
                if contract.is_listed(minute):
                    found.setdefault(contract.code, set()).add(contract.symbol)
            self._listed = {key: listed for key, listed in self._listed.items() if key == self._minute}
            self._listed[minute] = found
        return self._listed[minute].get(code, ())

    def list_symbols(self, code: str, chosen: tuple[str, ...] | None) -> list[str]:
        """Return the symbols listed on a code, all of them or those chosen."""
        return self._symbols.get(code, []) if chosen is None else self.find_rows(code, chosen)[0]

    def find_rows(self, code: str, chosen: tuple[str, ...] | None) -> tuple[list[str], list[int]]:
        """Return the symbols of a watch that are listed on a code (None: those followed), and their places there."""
        key = (code, chosen)
        if key not in self._rows:
            wanted = self._followed.get(code, set()) if chosen is None else set(chosen)
            pairs = [(symbol, row) for row, symbol in enumerate(self._symbols.get(code, [])) if symbol in wanted]
            self._rows[key] = ([symbol for symbol, _ in pairs], [row for _, row in pairs])
        return self._rows[key]

    def find_places(self, watch: Watch) -> tuple[list[Place], dict[str, list[str]]]:
        """Return the instances of a watch, by code and symbol, and its listed symbols by code."""
        listed = {code: self.find_rows(code, watch.symbols)[0] for code in sorted(watch.codes)}
        key = (tuple(listed), watch.symbols)
        if key not in self._places:
            self._places[key] = [(code, symbol) for code, symbols in listed.items() for symbol in symbols]
        return self._places[key], listed
