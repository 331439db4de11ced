"""A compiled expression, and templates of messages with expressions in them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cached_property

from fademoe.expressions.errors import ExpressionError
from fademoe.expressions.evaluate import Evaluator, Result, View
from fademoe.expressions.needs import Needs, collect_needs
from fademoe.expressions.numbers import CONTEXT, ZERO
from fademoe.expressions.parse import parse
from fademoe.expressions.tree import Call, Comparison, Name, Node, Number
from fademoe.expressions.words import Vocabulary

UNKNOWN = "unknown"
MESSAGE_WORDS = ("symbol", "code", "rule", "severity", "state", "minute")
MAX_MESSAGE = 1_000

_FORMAT = re.compile(r"\+?,?(?:\.[0-9]{1,2})?[f%eg]?")


@dataclass(frozen=True)
class Expression:
    """An expression that is valid. `source` is the text as given, `root` its tree."""

    source: str
    root: Node
    needs: Needs

    @property
    def text(self) -> str:
        """The canonical text: parsed and printed again, so blanks, brackets and long words make no difference."""
        return self.root.text

    @property
    def is_truth(self) -> bool:
        """Whether the value is true, false or unknown; otherwise it is a number or unknown."""
        return self.root.is_truth

    @cached_property
    def parts(self) -> tuple[Node, ...]:
        """The names and function calls in the order in which they are written, each source text once."""
        found: dict[str, Node] = {}
        for node in self.root.walk():
            if isinstance(node, Name | Call) and node.source:
                found.setdefault(node.source, node)
        return tuple(found.values())

    def take_part(self, node: Node) -> "Expression":
        """Return a node of it as an expression of its own, whatever its text."""
        return Expression(node.source, node, collect_needs(node))

    def make_condition(self) -> "Expression":
        """Return a truth that reads the same: itself, or whether the number is above 0."""
        if self.is_truth:
            return self
        at, grid_ms = self.root.position, self.root.grid_ms
        zero = Number(text="0", source="0", position=at, is_truth=False, grid_ms=grid_ms, value=ZERO)
        text = f"({self.text}) > 0"
        root = Comparison(
            text=text,
            source=text,
            position=at,
            is_truth=True,
            grid_ms=grid_ms,
            children=(self.root, zero),
            operators=(">",),
        )
        return Expression(text, root, self.needs)

    def evaluate(self, view: View, code: str, symbol: str) -> Result:
        """Return the value at a view: a Decimal, a bool, or None for unknown."""
        return Evaluator(view).evaluate(self.root, code, symbol)

    def evaluate_parts(self, evaluator: Evaluator, code: str, symbol: str) -> dict[str, str | None]:
        """Return the value of every name and function call by its source text, as strings; None is unknown."""
        return {part.source: print_value(evaluator.evaluate(part, code, symbol)) for part in self.parts}


def compile_expression(text: str, vocabulary: Vocabulary, *, truth: bool | None = None) -> Expression:
    """Parse and check an expression; `truth` says whether it has to be a truth or a number, None takes either.

    Raises ExpressionError with the position and the valid words. Takes below 50 ms for any text.
    """
    root = parse(text, vocabulary)
    if truth is not None and root.is_truth != truth:
        wanted = "true or false, such as a comparison" if truth else "a number"
        raise ExpressionError(f"the expression has to be {wanted}", root.position)
    return Expression(text, root, collect_needs(root))


def print_number(value: Decimal) -> str:
    """Write a number in plain notation: no exponent, no zeros behind the last digit, never -0."""
    if not value:
        return "0"
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def print_value(value: Result) -> str | None:
    """Write a value as a string: a number plainly, `true`, `false`; None stays None."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return print_number(value)


@dataclass(frozen=True)
class Message:
    """A template that is valid. `pieces` are plain text, or (word or expression, format) to be filled in."""

    source: str
    pieces: tuple[str | tuple[str | Expression, str], ...]

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The expressions inside."""
        return tuple(p[0] for p in self.pieces if not isinstance(p, str) and isinstance(p[0], Expression))

    def fill(self, evaluator: Evaluator, code: str, symbol: str, words: Mapping[str, str]) -> str:
        """Return the message for a symbol of a code; `words` are the values of MESSAGE_WORDS.

        What is unknown prints `unknown`. At most 1,000 characters.
        """
        parts: list[str] = []
        for piece in self.pieces:
            if isinstance(piece, str):
                parts.append(piece)
                continue
            what, form = piece
            if isinstance(what, str):
                parts.append(words[what])
            else:
                parts.append(format_value(evaluator.evaluate(what.root, code, symbol), form))
        return "".join(parts)[:MAX_MESSAGE]


def format_value(value: Result, form: str) -> str:
    """Write a value in a format of messages, `[+][,][.N][f%eg]`; a truth has none."""
    if value is None or isinstance(value, bool) or not form:
        return print_value(value) or UNKNOWN
    if not value:
        value = abs(value)
    with localcontext(CONTEXT):
        text = format(value, form)
    return text[1:] if text.startswith("-") and not re.search("[1-9]", text.partition("e")[0]) else text


def compile_message(text: str, vocabulary: Vocabulary) -> Message:
    """Parse a template: text with `{expression}` or `{expression:format}`; `{{` and `}}` are the brackets themselves.

    Besides expressions the words of MESSAGE_WORDS stand in brackets. Raises ExpressionError; its position counts in the
    whole template.
    """
    if len(text) > MAX_MESSAGE:
        raise ExpressionError(f"{len(text)} characters, at most {MAX_MESSAGE:,} are allowed", MAX_MESSAGE + 1)
    pieces: list[str | tuple[str | Expression, str]] = []
    at = 0
    while at < len(text):
        if text[at : at + 2] in ("{{", "}}"):
            pieces.append(text[at])
            at += 2
        elif text[at] == "}":
            raise ExpressionError("a } alone: write }} for the sign itself", at + 1)
        elif text[at] == "{":
            end = text.find("}", at)
            if end < 0:
                raise ExpressionError("a { is not closed: write {{ for the sign itself", at + 1)
            pieces.append(_read_field(text[at + 1 : end], at + 1, vocabulary))
            at = end + 1
        else:
            end = min((i for i in (text.find("{", at), text.find("}", at)) if i >= 0), default=len(text))
            pieces.append(text[at:end])
            at = end
    return Message(text, tuple(pieces))


def _read_field(field: str, start: int, vocabulary: Vocabulary) -> tuple[str | Expression, str]:
    inside, colon, form = field.partition(":")
    form_at = start + len(inside) + 2
    if colon and not (form and _FORMAT.fullmatch(form)):
        raise ExpressionError(f"{form!r} is no format: it is [+][,][.N][f%eg], such as .1%", form_at)
    word = inside.strip()
    if word in MESSAGE_WORDS:
        if form:
            raise ExpressionError(f"{word} is a word and has no format", form_at)
        return word, ""
    try:
        expression = compile_expression(inside, vocabulary)
    except ExpressionError as error:
        valid = (*MESSAGE_WORDS, *error.valid) if error.valid else ()
        raise ExpressionError(error.problem, start + error.position, valid) from None
    if form and expression.is_truth:
        raise ExpressionError("a truth has no format", form_at)
    return expression, form
