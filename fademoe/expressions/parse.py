"""Parses an expression: Python's grammar, a whitelist of nodes, and the types of this language."""

import ast
from decimal import Decimal

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS
from fademoe.expressions.errors import ExpressionError
from fademoe.expressions.lexer import MAX_NODES, Literal, read_literals
from fademoe.expressions.tree import Arithmetic, Call, Choice, Comparison, Logic, Name, Node, Number, Sign
from fademoe.expressions.words import Kind, Vocabulary

LONGEST_MS = 31 * DAY_MS
WINDOWED = ("sma", "ema", "sum", "min", "max", "std", "zscore", "rsi")  # of (x, d), over the points of d
SHIFTED = ("lag", "chg", "diff")  # of (x, d), at the point d before
CROSSING = ("cross_above", "cross_below")  # of (a, b), a truth
PAIRED = ("min2", "max2")  # of (a, b)
SINGLE = ("abs", "log", "rank", "annual")  # of (x)
ANNUAL = ("fr", "ppr")  # the columns that annual takes
FUNCTIONS = ("lag", "chg", "diff", *WINDOWED, "atr", "rank", *CROSSING, "annual", "abs", *PAIRED, "log")
AT_LEAST_TWO = ("ema", "rsi", "atr", "std", "zscore")
NOT_OF_SETTLEMENTS = ("ema", "rsi")

ARITHMETIC = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
COMPARISONS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
# How tightly each kind of node binds, for the brackets of the canonical text.
CHOICE, OR, AND, NOT, COMPARISON, SUM, PRODUCT, SIGN, ATOM = range(9)


def parse(text: str, vocabulary: Vocabulary) -> Node:
    """Return the tree of an expression; raise ExpressionError where it is not one of the language."""
    python, literals = read_literals(text, vocabulary.codes)
    try:
        tree = ast.parse(f"({python})", mode="eval")
    except SyntaxError as error:
        position = min(max((error.offset or 2) - 1, 1), len(text))
        raise ExpressionError("no expression can be read here", position) from None
    except (ValueError, MemoryError, RecursionError):
        raise ExpressionError("nested too deeply", 1) from None
    return _Builder(text, vocabulary, literals).build(tree.body)


def format_length(length_ms: int) -> str:
    """Write a length in the coarsest unit that makes it whole: 5m, 4h, 2d."""
    for unit_ms, unit in ((DAY_MS, "d"), (HOUR_MS, "h"), (MINUTE_MS, "m")):
        if length_ms % unit_ms == 0:
            return f"{length_ms // unit_ms}{unit}"
    return f"{length_ms / 1000:g}s"


class _Builder:
    """Turns Python's nodes into ours. The first character of the text is at column 1 of the Python text."""

    def __init__(self, text: str, vocabulary: Vocabulary, literals: dict[int, Literal]) -> None:
        self._text = text
        self._vocabulary = vocabulary
        self._literals = literals
        self._count = 0

    def build(self, node: ast.expr) -> Node:
        self._count += 1
        position = self._position(node)
        if self._count > MAX_NODES:
            raise ExpressionError(f"more than {MAX_NODES} names, numbers and operations", position)
        match node:
            case ast.Constant():
                return self._number(node)
            case ast.Name():
                return self._name(None, node.id, node)
            case ast.Attribute(value=ast.Name(id=word)):
                return self._name(word, node.attr, node)
            case ast.UnaryOp(op=ast.Not()):
                return self._logic("not", [node.operand], node, NOT)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                return self._sign(node)
            case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div()):
                return self._arithmetic(node)
            case ast.BoolOp():
                is_and = isinstance(node.op, ast.And)
                return self._logic("and" if is_and else "or", node.values, node, AND if is_and else OR)
            case ast.Compare():
                return self._comparison(node)
            case ast.IfExp():
                return self._choice(node)
            case ast.Call():
                return self._call(node)
        raise ExpressionError("this is no part of the language", position)

    def _position(self, node: ast.expr) -> int:
        return min(max(node.col_offset, 1), len(self._text))

    def _source(self, node: ast.expr) -> str:
        end = node.end_col_offset or node.col_offset + 1
        source = self._text[node.col_offset - 1 : end - 1]
        literal = self._literals.get(node.col_offset - 1) if isinstance(node, ast.Constant) else None
        if literal:
            return literal.text
        # the text that Python sees ends a literal after its first character
        last = self._last_literal(node)
        if last is not None:
            start, written = last
            source = self._text[node.col_offset - 1 : max(end - 1, start + len(written.text))]
        return source

    def _last_literal(self, node: ast.expr) -> tuple[int, Literal] | None:
        end = (node.end_col_offset or 1) - 1
        found = self._literals.get(end - 1)
        return (end - 1, found) if found else None

    def _make_common(
        self, node: ast.expr, text: str, children: tuple[Node, ...], *, is_truth: bool
    ) -> dict[str, object]:
        return {
            "text": text,
            "source": self._source(node),
            "position": self._position(node),
            "is_truth": is_truth,
            "grid_ms": max((child.grid_ms for child in children), default=MINUTE_MS),
            "children": children,
        }

    def _want(self, child: Node, *, truth: bool, what: str) -> Node:
        if child.is_truth != truth:
            is_given = "a truth" if child.is_truth else "a number"
            wanted = "a truth, such as a comparison" if truth else "a number"
            raise ExpressionError(f"{what} takes {wanted}, and {child.text} is {is_given}", child.position)
        return child

    def _number(self, node: ast.Constant) -> Node:
        literal = self._literals.get(node.col_offset - 1)
        if literal is None:
            raise ExpressionError("this is no part of the language", self._position(node))
        if literal.length_ms is not None:
            problem = f"{literal.text} is a duration, which only the length of a function may be"
            raise ExpressionError(problem, self._position(node))
        common = self._make_common(node, literal.text, (), is_truth=False)
        return Number(**common, value=literal.value)  # type: ignore[arg-type]

    def _name(self, word: str | None, column: str, node: ast.expr) -> Node:
        vocabulary, position = self._vocabulary, self._position(node)
        code = None if word is None else vocabulary.codes.get(word)
        if word is not None and code is None:
            raise ExpressionError(f"{word!r} is no code of an exchange", position, sorted(vocabulary.codes))
        measure = vocabulary.find(code, column)
        if measure is None:
            behind = f" of {code}" if code else ""
            problem = f"{column!r} is no column{behind}"
            if code is None and column in FUNCTIONS:
                problem = f"{column} is a function: write {column}(…)"
            elif code is None and column in vocabulary.codes:
                problem = f"{column} is a code: write a column behind it, as in {column}.c"
            raise ExpressionError(problem, position, sorted(vocabulary.list_columns(code)))
        text = f"{word}.{measure.column}" if word else measure.column
        common = self._make_common(node, text, (), is_truth=False)
        common["grid_ms"] = measure.grid_ms
        return Name(**common, code=code, measure=measure)  # type: ignore[arg-type]

    def _hidden_name(self, code: str | None, column: str, beside: ast.expr) -> Name:
        """Return a name that a function reads without naming it."""
        measure = self._vocabulary.find(code, column)
        if measure is None:
            raise ExpressionError(f"there is no {column}{f' of {code}' if code else ''}", self._position(beside))
        text = f"{code.replace('-', '_')}.{column}" if code else column
        return Name(
            text=text,
            source="",
            position=self._position(beside),
            is_truth=False,
            grid_ms=measure.grid_ms,
            code=code,
            measure=measure,
        )

    def _sign(self, node: ast.UnaryOp) -> Node:
        operator = "-" if isinstance(node.op, ast.USub) else "+"
        child = self._want(self.build(node.operand), truth=False, what=f"the sign {operator}")
        text = operator + _enclose(child, SIGN)
        return Sign(**self._make_common(node, text, (child,), is_truth=False), operator=operator)  # type: ignore[arg-type]

    def _arithmetic(self, node: ast.BinOp) -> Node:
        operator = ARITHMETIC[type(node.op)]
        level = SUM if operator in "+-" else PRODUCT
        left, right = (self._want(self.build(side), truth=False, what=operator) for side in (node.left, node.right))
        text = f"{_enclose(left, level)} {operator} {_enclose(right, level + 1)}"
        common = self._make_common(node, text, (left, right), is_truth=False)
        return Arithmetic(**common, operator=operator)  # type: ignore[arg-type]

    def _logic(self, operator: str, operands: list[ast.expr], node: ast.expr, level: int) -> Node:
        children = tuple(self._want(self.build(part), truth=True, what=operator) for part in operands)
        if operator == "not":
            text = f"not {_enclose(children[0], NOT)}"
        else:
            text = f" {operator} ".join(_enclose(child, level + 1) for child in children)
        return Logic(**self._make_common(node, text, children, is_truth=True), operator=operator)  # type: ignore[arg-type]

    def _comparison(self, node: ast.Compare) -> Node:
        operators = []
        for operator in node.ops:
            if type(operator) not in COMPARISONS:
                valid = tuple(COMPARISONS.values())
                raise ExpressionError("this is no comparison of the language", self._position(node), valid)
            operators.append(COMPARISONS[type(operator)])
        sides = (node.left, *node.comparators)
        children = tuple(self._want(self.build(side), truth=False, what="a comparison") for side in sides)
        text = _enclose(children[0], SUM)
        for sign, child in zip(operators, children[1:], strict=True):
            text += f" {sign} {_enclose(child, SUM)}"
        common = self._make_common(node, text, children, is_truth=True)
        return Comparison(**common, operators=tuple(operators))  # type: ignore[arg-type]

    def _choice(self, node: ast.IfExp) -> Node:
        body = self.build(node.body)
        test = self._want(self.build(node.test), truth=True, what="if")
        orelse = self._want(self.build(node.orelse), truth=body.is_truth, what="else, beside what stands before if,")
        text = f"{_enclose(body, OR)} if {_enclose(test, OR)} else {_enclose(orelse, CHOICE)}"
        return Choice(**self._make_common(node, text, (test, body, orelse), is_truth=body.is_truth))  # type: ignore[arg-type]

    def _call(self, node: ast.Call) -> Node:
        position = self._position(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS:
            raise ExpressionError(f"{self._source(node.func)!r} is no function", position, FUNCTIONS)
        has_length = name in (*WINDOWED, *SHIFTED, "atr")
        arguments = 1 if name in ("atr", *SINGLE) else 2
        if len(node.args) != arguments or node.keywords:
            forms = "(d)" if name == "atr" else "(x, d)" if has_length else "(x)" if arguments == 1 else "(a, b)"
            raise ExpressionError(f"{name} is written {name}{forms}", position)
        if name == "annual":
            return self._annual(node)
        if not has_length:
            return self._plain_call(name, node)
        if name == "atr":
            children: tuple[Node, ...] = tuple(self._hidden_name(None, column, node) for column in ("h", "l", "c"))
        else:
            children = (self._want(self.build(node.args[0]), truth=False, what=name),)
        self._count += 1
        length_ms, written = self._length(name, node.args[-1], children)
        inside = written if name == "atr" else f"{children[0].text}, {written}"
        common = self._make_common(node, f"{name}({inside})", children, is_truth=False)
        return Call(**common, function=name, length_ms=length_ms)  # type: ignore[arg-type]

    def _plain_call(self, name: str, node: ast.Call) -> Node:
        children = tuple(self._want(self.build(argument), truth=False, what=name) for argument in node.args)
        text = f"{name}({', '.join(child.text for child in children)})"
        common = self._make_common(node, text, children, is_truth=name in CROSSING)
        return Call(**common, function=name)  # type: ignore[arg-type]

    def _annual(self, node: ast.Call) -> Node:
        rate = self.build(node.args[0])
        if not (isinstance(rate, Name) and rate.measure.column in ANNUAL):
            words = {"": None, **{f"{word}.": code for word, code in sorted(self._vocabulary.codes.items())}}
            rates = ((word, code, rate) for word, code in words.items() for rate in ANNUAL)
            valid = [f"{word}{rate}" for word, code, rate in rates if self._vocabulary.find(code, rate)]
            raise ExpressionError("annual takes a funding rate by its name", self._position(node.args[0]), valid)
        children = (rate, self._hidden_name(rate.code, "fr_hours", node))
        common = self._make_common(node, f"annual({rate.text})", children, is_truth=False)
        return Call(**common, function="annual")  # type: ignore[arg-type]

    def _length(self, name: str, node: ast.expr, children: tuple[Node, ...]) -> tuple[int, str]:
        """Read the length of a function, and how it is written; it must be a whole number of points."""
        position = self._position(node)
        literal = self._literals.get(node.col_offset - 1) if isinstance(node, ast.Constant) else None
        if literal is None:
            raise ExpressionError(f"the length of {name} is a duration, such as 20m", position)
        if literal.length_ms is None:
            hint = f"write {literal.text}m" if _is_whole(literal.value) else "write a duration, such as 20m"
            if name in ("min", "max"):
                hint += f" for a length; or did you mean {name}2"
            raise ExpressionError(f"the length of {name} has no unit of time: {hint}", position)
        if literal.length_ms > LONGEST_MS:
            raise ExpressionError(f"the length of {name} is at most 31d", position)
        grid_ms = max(child.grid_ms for child in children)
        if literal.length_ms < grid_ms or literal.length_ms % grid_ms:
            coarse = next(
                (n for child in children for n in child.walk() if isinstance(n, Name) and n.grid_ms == grid_ms), None
            )
            reason = f"{coarse.text} has a point every {format_length(grid_ms)}" if coarse else "the grid is 1m"
            raise ExpressionError(f"the length {literal.text} is no whole number of points: {reason}", position)
        only = children[0]
        of_settlements = isinstance(only, Name) and only.measure.kind is Kind.SETTLEMENT
        if of_settlements and name in NOT_OF_SETTLEMENTS:
            raise ExpressionError(
                f"{name} needs a regular grid, and {only.text} is settled at irregular times", position
            )
        if name in AT_LEAST_TWO and not of_settlements and literal.length_ms < 2 * grid_ms:
            raise ExpressionError(f"{name} needs at least two points: {format_length(2 * grid_ms)}", position)
        return int(literal.length_ms), format_length(int(literal.length_ms))


def _is_whole(value: Decimal) -> bool:
    return value == value.to_integral_value()


def _binding(node: Node) -> int:
    match node:
        case Choice():
            return CHOICE
        case Logic(operator=operator):
            return {"or": OR, "and": AND, "not": NOT}[operator]
        case Comparison():
            return COMPARISON
        case Arithmetic(operator=operator):
            return SUM if operator in "+-" else PRODUCT
        case Sign():
            return SIGN
    return ATOM


def _enclose(node: Node, level: int) -> str:
    """Write a node where something that binds like `level` is wanted, in brackets where it binds less tightly."""
    return node.text if _binding(node) >= level else f"({node.text})"
