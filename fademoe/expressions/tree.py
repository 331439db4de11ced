"""The nodes of a parsed expression.

Every node has `text`, its canonical form: two nodes with the same text have the same value, so evaluation shares it.
`source` is the text as it was written, `position` its first character (from 1), `is_truth` tells a truth (true, false,
unknown) from a number, `grid_ms` is the coarsest grid of the names inside.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from fademoe.expressions.words import Measure


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """Any part of an expression."""

    text: str
    source: str
    position: int
    is_truth: bool
    grid_ms: int
    children: tuple["Node", ...] = ()

    def walk(self) -> Iterator["Node"]:
        """Yield this node and all below it, in the order in which they are written."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, kw_only=True, slots=True)
class Number(Node):
    """A literal; a percentage is already divided by 100."""

    value: Decimal


@dataclass(frozen=True, kw_only=True, slots=True)
class Name(Node):
    """A column, of the own code where `code` is None."""

    code: str | None
    measure: Measure


@dataclass(frozen=True, kw_only=True, slots=True)
class Sign(Node):
    """`-x` or `+x` of a number."""

    operator: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Arithmetic(Node):
    """`a + b`, `a - b`, `a * b`, `a / b`."""

    operator: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison(Node):
    """`a < b <= c`: true where all neighbours are."""

    operators: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Logic(Node):
    """`a and b and …`, `a or b or …`, `not a`."""

    operator: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice(Node):
    """`a if t else b`; children are t, a, b."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call(Node):
    """A function; `children` are its arguments without the length.

    `length_ms` is 0 without a length. `atr` has no child in the text: its children are the names h, l and c.
    """

    function: str
    length_ms: int = 0
