"""500 hostile expressions: each is refused within 50 ms, or evaluated within bounds to a number, a truth or unknown."""

import random
import re
import time
from decimal import Decimal as D

from fademoe.expressions import Evaluator, ExpressionError, Vocabulary, compile_expression, compile_message, print_value
from fademoe.feeds import registry
from tests.support.views import ListView

NOON = 1_795_694_400_000
MINUTE = 60_000
WORDS = Vocabulary.build(registry.list_perpspecs())
AT_MOST_S = 0.05
EVALUATED_AT_MOST_S = 3.0

CODE = (
    "__import__('os').system('true')",
    "().__class__.__bases__[0].__subclasses__()",
    "c.__class__",
    "bin.__dict__",
    "c.__init__.__globals__",
    "getattr(c, 'x')",
    "eval('1')",
    "exec('1')",
    "open('/etc/passwd')",
    "[x for x in c]",
    "{c: o}",
    "{c}",
    "(c for c in o)",
    "lambda: 1",
    "c := 1",
    "(c := 1)",
    "yield c",
    "await c",
    "f'{c}'",
    "b'c'",
    "c if",
    "import os",
    "del c",
    "c; o",
    "c\\\no",
    "*c",
    "**c",
    "sma(*c, 5m)",
    "sma(x=c, d=5m)",
    "sma(c, d=5m)",
    "sma",
    "sma()",
    "sma(,)",
    "sma(c)",
    "sma(c, 0m)",
    "sma(c, -5m)",
    "sma(c, 5m)(c)",
    "sma(c, 1e9m)",
    "sma(c, 1e-9m)",
    "sma(c, 999999999d)",
    "bin.sma(c, 5m)",
    "c.o.h",
    "x.sources",
    "...",
    "None",
    "True",
    "nan",
    "inf",
    "infinity",
    "1e999",
    "1e-999",
    "9" * 1000,
    "0." + "0" * 900 + "1",
    "1_0",
    "0b1",
    "0o7",
    "1j",
    "c\x00o",
    "c\u00a0> o",
    "\uff43 > o",
    "\u0441 > o",  # a Cyrillic letter that looks like c
    "c > \u2460",
    "c \u2264 o",
    "#c",
    "c #",
    "'",
    '"',
    "`c`",
    "c ? o : h",
    "c && o",
    "c || o",
    "!c",
    "c <> o",
    "c === o",
    "c = o",
    "c += 1",
    "c++",
    "--",
    "(((",
    ")))",
    "(",
    ")(",
    "()",
    "c()",
    "c(o)",
    "1(2)",
    "1.c",
    "c.1",
    "..",
    "%",
    "%%%",
    "5%5",
    "5%%",
    "c%",
    "5m",
    "5m + 1",
    "\n\n\n",
    "\t",
    " " * 2001,
    "c" * 2000,
    "c." * 1000,
    "c," * 1000,
    "1 " * 1000,
    "not",
    "not " * 500 + "c > o",
    "-" * 1999 + "c",
    "(" * 1000 + "c" + ")" * 999,
    "c<" * 999 + "c",
    "c if c>o else " * 140 + "c",
    "sma(" * 300 + "c",
    "{" * 500,
    "c[" * 500,
)
HEAVY = (
    "rsi(c, 31d)",
    "atr(31d)",
    "ema(c, 31d)",
    "zscore(c, 31d)",
    "sma(sma(sma(c, 31d), 31d), 31d)",
    "ema(ema(ema(c, 1d), 1d), 1d)",
    "rsi(rsi(rsi(c, 7d), 7d), 7d)",
    "min(max(min(max(c, 12h), 12h), 12h), 12h)",
    "std(std(c, 3h), 3h)",
    "lag(" * 40 + "c" + ", 31d)" * 40,
    "lag(" * 11 + "c" + ", 31d)" * 11,
    "chg(" * 12 + "c" + ", 1m)" * 12,
    "+".join(f"sma(c, {n}m)" for n in range(2, 40)),
    "+".join(f"rsi(c, {n}h)" for n in range(2, 30)),
    " and ".join(f"cross_above(c, sma(c, {n}m))" for n in range(2, 30)),
    "*".join(["1e30"] * 90),
    "/".join(["1e-30"] * 90),
    "log(" * 30 + "c" + ")" * 30,
    "1 / 0",
    "log(0)",
    "log(-1)",
    "0 / 0",
    "chg(c - c, 1m)",
    "abs(" * 60 + "c" + ")" * 60,
)
PIECES = re.findall(
    r"\S+",
    "c o h l v ( ) , + - * / < > = ! % . _ @ & | ~ ^ [ ] { } ' \" : ; \\ # $ ? 1 5m 3% 1e30 0.1"
    " and or not if else is in lambda sma( ema( rsi( max( rank( cross_above( annual( fr oi bin. x. 31d True None",
)


def make_texts():
    chance = random.Random(500)
    texts = [*CODE, *HEAVY]
    while len(texts) < 500:
        texts.append("".join(chance.choice(PIECES) + chance.choice(("", " ")) for _ in range(chance.randrange(1, 60))))
    return texts


def test_hostile_expressions_are_refused_or_bounded():
    closes = {NOON - k * MINUTE: D(100 + k % 7) for k in range(1, 3_000)}
    view = ListView(NOON, {("bin", "BTC", column): closes for column in "ohlcv"}, symbols=["BTC"])
    refused, slow, odd = 0, [], []
    texts = make_texts()
    for text in texts:
        began_s = time.process_time()
        try:
            rule = compile_expression(text, WORDS)
        except ExpressionError as error:
            refused += 1
            assert 1 <= error.position <= max(len(text), 1) + 1, text
            rule = None
        took_s = time.process_time() - began_s
        if took_s > AT_MOST_S:
            slow.append((text[:60], took_s))
        if rule is not None:
            began_s = time.process_time()
            value = Evaluator(view).evaluate(rule.root, "bin", "BTC")
            if time.process_time() - began_s > EVALUATED_AT_MOST_S:
                slow.append((text[:60], time.process_time() - began_s))
            if not (value is None or isinstance(value, bool) or (isinstance(value, D) and value.is_finite())):
                odd.append((text[:60], value))
            assert print_value(value) is None or len(print_value(value)) < 7_000
    assert len(texts) == 500
    assert slow == []
    assert odd == []
    assert 400 < refused < 500


def test_hostile_messages_are_refused():
    for text in ("{c!r}", "{c.__class__}", "{c:{c}}", "{c:>1000000}", "{c:.999f}", "{" * 401, "{c" * 300, "}"):
        began_s = time.process_time()
        try:
            compile_message(text, WORDS)
        except ExpressionError:
            assert time.process_time() - began_s < AT_MOST_S
        else:
            raise AssertionError(text)
