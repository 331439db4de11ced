"""The expression language of alert rules, screens and rule strategies. Pure: it reads no clock, file or database.

Compile once, evaluate at as many views as you like:

    vocabulary = Vocabulary.build(perpspecs)                 # "bin-ohlcv", "byb-oi" …: which codes have which columns
    rule = compile_expression("chg(oi, 15m) > 3%", vocabulary, truth=True)     # raises ExpressionError
    rule.text                                                # canonical text, for hashes
    rule.needs                                               # columns, look-back, crossings, rank
    rule.evaluate(view, "bin", "BTC")                        # True, False or None: unknown; a number is a Decimal

    evaluator = Evaluator(view)                              # one per minute: rules share what they compute
    evaluator.evaluate(rule.root, "bin", "BTC")
    rule.evaluate_parts(evaluator, "bin", "BTC")             # {"chg(oi, 15m)": "0.031…"}: the webhook's values

    message = compile_message("OI of {symbol}: {chg(oi, 15m):.1%}", vocabulary)
    message.fill(evaluator, "bin", "BTC", {"symbol": "BTC", "code": "bin", …})     # the words of MESSAGE_WORDS

A `View` is what is known at the end of one minute; the caller that evaluates implements it (see evaluate.View):

    moment_ms                                                the end of the minute, T + 60 s
    get_value(code, symbol, measure)                         a bare name that is no settlement
    get_points(code, symbol, measure, offset_ms, step_ms, count)   strict grid points before last(T), oldest first
    get_settlement(code, symbol, measure, at_ms)             the one in force at a moment
    list_settlements(code, symbol, measure, start_ms, end_ms)      known within (start, end], None where one may lack
    list_symbols(code)                                       the rule's symbols that are listed, for rank
    go_back()                                                the view of the minute before, for crossings

`Measure` names the column and its metric and says how its values lie in time (bar, sample or settlement; grid; span).

    errors        ExpressionError: position, valid words
    words         names of columns and codes
    lexer         words, literals and signs of a text
    parse         text to tree
    tree          the nodes
    needs         what a tree reads
    numbers       the arithmetic: decimals of 34 digits, windows
    evaluate      View, and the exact evaluation at one minute
    arrays        the evaluation of many series or points at once, in floats with a bound of their error
    expression    compile_expression, compile_message, canonical text and printed values
"""

from fademoe.expressions.errors import ExpressionError
from fademoe.expressions.evaluate import Evaluator, Result, View
from fademoe.expressions.expression import (
    MESSAGE_WORDS,
    UNKNOWN,
    Expression,
    Message,
    compile_expression,
    compile_message,
    format_value,
    print_number,
    print_value,
)
from fademoe.expressions.needs import Need, Needs
from fademoe.expressions.words import Kind, Measure, Vocabulary

__all__ = [
    "MESSAGE_WORDS",
    "UNKNOWN",
    "Evaluator",
    "Expression",
    "ExpressionError",
    "Kind",
    "Measure",
    "Message",
    "Need",
    "Needs",
    "Result",
    "View",
    "Vocabulary",
    "compile_expression",
    "compile_message",
    "format_value",
    "print_number",
    "print_value",
]
