"""A screen: an expression over all contracts now."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from psycopg2.extensions import cursor as Cursor

from fademoe.alerts import records
from fademoe.alerts.language import compile_any
from fademoe.clock import MINUTE_MS, floor_to, now_ms
from fademoe.evaluation import Watch, replay
from fademoe.expressions import ExpressionError
from fademoe.web.model.answer import Answer
from fademoe.web.problem import BadParameter

MAX_SCREEN_ROWS = 2_000


class ScreenRow(Answer):
    """The value of an expression for one contract: a number or true or false as text, null when unknown."""

    code: str
    symbol: str
    value: str | None


class Screen(Answer):
    """An expression over all contracts at the end of `minute`."""

    expr: str
    is_truth: bool
    minute: int
    rows: list[ScreenRow]
    unknown: int


def evaluate_screen(cursor: Cursor, text: str, codes: Sequence[str], symbols: Sequence[str]) -> Screen:
    """Evaluate an expression for every contract now: at the end of the newest minute that is over for a while."""
    try:
        expression = compile_any(text)
    except ExpressionError as error:
        raise BadParameter("expr", text, str(error)) from error
    newest = records.find_newest_minute(cursor)
    minute = floor_to(now_ms() - MINUTE_MS - 5_000, MINUTE_MS)
    if newest is not None and minute - newest.minute <= 2 * MINUTE_MS:
        minute = newest.minute
    watch = Watch.of_value("screen", expression, tuple(codes), tuple(symbols) or None)
    rows = []
    for evaluated in replay(cursor, [watch], minute, minute + MINUTE_MS, {}):
        (result,) = evaluated.results
        rows = [
            ScreenRow(code=code, symbol=symbol, value=result.read_value(expression, (code, symbol)))
            for code, symbol in result.places
        ]
    unknown = sum(row.value is None for row in rows)
    return Screen(expr=expression.text, is_truth=expression.is_truth, minute=minute, rows=rows, unknown=unknown)


def sort_rows(rows: Iterable[ScreenRow], by: str, *, descending: bool) -> list[ScreenRow]:
    """Return the first MAX_SCREEN_ROWS rows by value, symbol or code; unknown values come last."""
    if by != "value":
        ordered = sorted(rows, key=lambda row: (getattr(row, by), row.code, row.symbol), reverse=descending)
        return ordered[:MAX_SCREEN_ROWS]
    listed = list(rows)
    known = [row for row in listed if row.value is not None]
    words = {"false": Decimal(0), "true": Decimal(1)}
    known.sort(key=lambda row: words.get(row.value or "") or _to_number(row.value), reverse=descending)
    return (known + [row for row in listed if row.value is None])[:MAX_SCREEN_ROWS]


def _to_number(text: str | None) -> Decimal:
    try:
        return Decimal(text or "0")
    except ArithmeticError:
        return Decimal(0)
