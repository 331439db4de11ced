"""Reads the words, literals and signs of an expression, and refuses every character that is none."""

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from fademoe.expressions.errors import ExpressionError
from fademoe.expressions.numbers import CONTEXT

MAX_CHARACTERS = 2_000
MAX_NODES = 200
MAX_DEPTH = 60  # of brackets
LARGEST = Decimal(10) ** 30
MOST_DIGITS = 100  # of a literal
WORDS = ("and", "or", "not", "if", "else")  # of the language, apart from names and functions
UNITS_MS = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
UNITS = ("%", *UNITS_MS)
REFUSED_SIGNS = {"**": "* and /", "//": "/", "<<": "<", ">>": ">", "<>": "!="}

_BLANKS = re.compile(r"[ \t\r\n]+")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3}(?![0-9]))?")
_HALF_NUMBER = re.compile(r"\.[0-9]")  # behind a name, too, where no column begins with a digit
_SUFFIX = re.compile(r"[A-Za-z0-9_%.]*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIGN = re.compile(r"\*\*|//|<<|>>|<>|<=|>=|==|!=|[-+*/<>(),.]")


@dataclass(frozen=True)
class Literal:
    """A number as it is written: `value` with a percentage divided by 100, or `length_ms` of a duration."""

    text: str
    value: Decimal
    length_ms: Decimal | None = None


def read_literals(text: str, code_words: Mapping[str, str]) -> tuple[str, dict[int, Literal]]:
    """Return the text as Python would write it, and its literals by the place where each begins (from 0).

    In the returned text each literal is a 0 and blanks, so that all places stay. `code_words` maps the word of an
    exchange's code to the code. Raises ExpressionError for what is no word, literal or sign of the language.
    """
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(f"{len(text)} characters, at most {MAX_CHARACTERS:,} are allowed", MAX_CHARACTERS + 1)
    if not text.strip():
        raise ExpressionError("the expression is empty", 1)
    _refuse_hyphens(text, code_words)
    at, depth, parts = 0, 0, 0
    pieces: list[str] = []
    literals: dict[int, Literal] = {}
    after_number = False
    while at < len(text):
        blanks = _BLANKS.match(text, at)
        if blanks:
            pieces.append(" " * len(blanks[0]))
            at = blanks.end()
            continue
        end, literal = _read_part(text, at, after_number=after_number)
        part = text[at:end]
        if literal:
            literals[at] = literal
            pieces.append("0" + " " * (len(part) - 1))
        else:
            depth += (part == "(") - (part == ")")
            if depth < 0:
                raise ExpressionError("this bracket closes nothing", at + 1)
            if depth > MAX_DEPTH:
                raise ExpressionError(f"more than {MAX_DEPTH} brackets inside each other", at + 1)
            pieces.append(part)
        after_number = literal is not None
        parts += part not in ("(", ")", ",", ".")
        if parts > 2 * MAX_NODES:
            raise ExpressionError(f"more than {MAX_NODES} names, numbers and operations", at + 1)
        at = end
    if depth:
        raise ExpressionError("a bracket is not closed", len(text))
    return "".join(pieces), literals


def _refuse_hyphens(text: str, code_words: Mapping[str, str]) -> None:
    """Refuse `c-bin.`, which looks like an exchange's code and would be a subtraction."""
    for word, code in code_words.items():
        if "-" in code:
            found = re.search(rf"(?<![A-Za-z0-9_.]){re.escape(code)}\.", text)
            if found:
                spaced = code.replace("-", " - ", 1)
                problem = f"{found[0]} could be a subtraction: write {word}. for the code, or {spaced}. with blanks"
                raise ExpressionError(problem, found.start() + 1)


def _read_part(text: str, at: int, *, after_number: bool) -> tuple[int, Literal | None]:
    """Return where the word, sign or literal at `at` ends, and the literal."""
    number = _NUMBER.match(text, at)
    if number:
        return _read_number(text, number)
    word = _WORD.match(text, at)
    if word:
        _check_word(word[0], at, after_number=after_number)
        return word.end(), None
    sign = _SIGN.match(text, at)
    if _HALF_NUMBER.match(text, at):
        raise ExpressionError("a number begins with a digit: write 0.5 instead of .5", at + 1)
    if sign and sign[0] not in REFUSED_SIGNS:
        return sign.end(), None
    if sign:
        raise ExpressionError(f"there is no {sign[0]}: use {REFUSED_SIGNS[sign[0]]}", at + 1)
    if text[at] == "%":
        raise ExpressionError("% belongs directly behind the digits of a literal, as in 0.5%", at + 1)
    if text[at] == "=":
        raise ExpressionError("write == to compare", at + 1)
    raise ExpressionError(f"{text[at]!r} is no character of the language", at + 1)


def _read_number(text: str, number: re.Match[str]) -> tuple[int, Literal]:
    suffix_match = _SUFFIX.match(text, number.end())
    suffix = suffix_match[0] if suffix_match else ""
    written, at = number[0] + suffix, number.start()
    if suffix and suffix not in UNITS:
        problem = f"{written[:40]!r} is no number with a unit"
        raise ExpressionError(problem, number.end() + 1, UNITS)
    value = Decimal(number[0])
    if value > LARGEST or len(number[0]) > MOST_DIGITS:
        raise ExpressionError("a number is at most 10^30, in at most 100 characters", at + 1)
    if suffix == "%":
        return at + len(written), Literal(written, value.scaleb(-2, CONTEXT))
    length_ms = CONTEXT.multiply(value, UNITS_MS[suffix]) if suffix else None
    return at + len(written), Literal(written, value, length_ms)


def _check_word(word: str, at: int, *, after_number: bool) -> None:
    if after_number and word not in WORDS:
        hint = "a unit is written directly behind the digits, as in 5m" if word in UNITS else "an operator is missing"
        raise ExpressionError(hint, at + 1)
    if word != word.lower():
        raise ExpressionError(f"{word!r}: names are written in lower case", at + 1)
    if keyword.iskeyword(word) and word not in WORDS:
        raise ExpressionError(f"{word!r} is no word of the language", at + 1, WORDS)
