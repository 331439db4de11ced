"""What an expression reads: which columns of which codes, and how far back; and how much work it is."""

from collections import defaultdict
from typing import NamedTuple

from fademoe.clock import DAY_MS, MINUTE_MS
from fademoe.expressions.errors import ExpressionError
from fademoe.expressions.evaluate import NOW, Points
from fademoe.expressions.numbers import ATR_POINTS, EMA_POINTS, RSI_POINTS
from fademoe.expressions.tree import Call, Name, Node
from fademoe.expressions.words import Kind, Measure

MOST_WORK = 5_000_000  # values that one evaluation may touch
LONGEST_LOOK_BACK_MS = 366 * DAY_MS


class Need(NamedTuple):
    """A column of a code (None: the rule's own) that an expression reads.

    `back_ms` is how far before last(T) its oldest point lies; of settlements, how far before T + 60 s its oldest moment
    lies (the settlement in force then is older). `is_bare`: the newest known value is read, `is_strict`: grid points.
    """

    code: str | None
    measure: Measure
    back_ms: int
    is_bare: bool
    is_strict: bool


class Needs(NamedTuple):
    """All that an expression reads. `minutes_back`: how many minutes before T it is evaluated at, for crossings.

    `crossings` are those inside functions with a length, and the points at which each is wanted.
    """

    columns: tuple[Need, ...]
    minutes_back: int
    ranks: bool
    crossings: tuple[tuple[Call, Points], ...]

    @property
    def look_back_ms(self) -> int:
        """How far before T + 60 s the oldest point that is read lies, lags apart."""
        return max((need.back_ms for need in self.columns), default=0) + self.minutes_back * MINUTE_MS


def collect_needs(root: Node) -> Needs:
    """Return what an expression reads; raise ExpressionError where that is more than one evaluation may take."""
    survey = _Survey()
    survey.visit(root, NOW)
    columns = [
        Need(code, measure, back_ms, (code, measure) in survey.bare, (code, measure) in survey.strict)
        for (code, measure), back_ms in survey.back_ms.items()
    ]
    needs = Needs(tuple(columns), survey.most_crossings, survey.ranks, tuple(survey.crossings))
    if needs.look_back_ms > LONGEST_LOOK_BACK_MS:
        days = needs.look_back_ms // DAY_MS
        raise ExpressionError(f"looks back {days} days, at most {LONGEST_LOOK_BACK_MS // DAY_MS} are allowed", 1)
    return needs


class _Survey:
    """Walks a tree as evaluation does, counting instead of computing."""

    def __init__(self) -> None:
        self.back_ms: dict[tuple[str | None, Measure], int] = defaultdict(int)
        self.bare: set[tuple[str | None, Measure]] = set()
        self.strict: set[tuple[str | None, Measure]] = set()
        self.most_crossings = 0
        self.ranks = False
        self._work = 0
        self._crossings = 0
        self.crossings: list[tuple[Call, Points]] = []
        self._seen: set[tuple[str, Points, int]] = set()

    def visit(self, node: Node, points: Points) -> None:
        key = (node.text, points, self._crossings)
        if key in self._seen:
            return
        self._seen.add(key)
        self._add_work(points.size, node)
        match node:
            case Name():
                self._name(node, points)
            case Call():
                self._call(node, points)
            case _:
                for child in node.children:
                    self.visit(child, points)

    def _add_work(self, values: int, node: Node) -> None:
        self._work += values
        if self._work > MOST_WORK:
            raise ExpressionError("too many points to evaluate: shorten the lengths inside each other", node.position)

    def _name(self, node: Name, points: Points) -> None:
        key = (node.code, node.measure)
        back_ms = points.offset_ms + (points.size - 1) * points.step_ms
        self.back_ms[key] = max(self.back_ms[key], back_ms)
        (self.strict if points.is_strict else self.bare).add(key)
        if node.measure.kind is Kind.SAMPLE:
            self.bare.add(key)  # what a transition tells has each name by itself, too

    def _call(self, node: Call, points: Points) -> None:
        first = node.children[0]
        if node.function in ("chg", "diff", "lag"):
            if node.function != "lag":
                self.visit(first, points.shift(0))
            self.visit(first, points.shift(node.length_ms))
            return
        if node.function in ("cross_above", "cross_below"):
            if points != NOW:
                self.crossings.append((node, points))
            self._crossings += 1
            self.most_crossings = max(self.most_crossings, self._crossings)
            for child in node.children:
                self.visit(child, points)
            self._crossings -= 1
            return
        self.ranks |= node.function == "rank"
        if not node.length_ms:
            for child in node.children:
                self.visit(child, points)
            return
        if isinstance(first, Name) and first.measure.kind is Kind.SETTLEMENT:
            self._name(first, points.shift(node.length_ms))
            self._add_work(points.size * (node.length_ms // (60 * MINUTE_MS) + 1), node)
            return
        times = {"ema": EMA_POINTS, "rsi": RSI_POINTS, "atr": ATR_POINTS}.get(node.function, 1)
        wide = points.widen(node.length_ms, node.grid_ms, times)
        self._add_work(points.size * times * (node.length_ms // node.grid_ms), node)
        for child in node.children:
            self.visit(child, wide)
