"""Arrays against the exact evaluation: the same truths, or open; numbers within their bound."""

import random
from decimal import Decimal as D

import numpy as np
import pytest

from fademoe.clock import Window
from fademoe.evaluation.arrays import BoardArrays
from fademoe.evaluation.board import Board, BoardEvaluator, BoardView, EarlierTruths, collect_reads
from fademoe.evaluation.reading import Contract
from fademoe.evaluation.watches import Listing, Watch, WatchEvaluator
from fademoe.expressions import ExpressionError, Vocabulary, compile_expression
from fademoe.expressions.arrays import OPEN, ArrayEvaluator
from fademoe.feeds import registry

MINUTE = 60_000
HOUR = 60 * MINUTE
NOON = 1_795_694_400_000
MOMENT = NOON + 3 * MINUTE
WORDS = Vocabulary.build(registry.list_perpspecs())
SYMBOLS = [f"S{number}" for number in range(40)]
COLUMNS = {"ohlcv": ("o", "h", "l", "c", "v", "tbv"), "oi": ("oi",), "lq": ("lql",), "ppr": ("ppr",)}
TRUTHS = {True: 1, False: 0, None: -1}


def make_board(reads, seed):
    """Fill a board with made-up rows: random walks, flat series, zeroes, holes, tiny and huge values."""
    chance = random.Random(seed)
    board = Board(reads.values(), MOMENT)
    for table in board.points.values():
        table.add_symbols(SYMBOLS)
        for number, symbol in enumerate(SYMBOLS):
            kind = number % 5
            base, places = ((100, 2), (D("0.0000123"), 9), (60000, 1), (5, 0), (D("1e17"), 4))[kind]
            value = D(base)
            newest = table.find_newest(MOMENT)
            for ts in range(table.base_ms, newest + 1, table.grid_ms):
                if kind != 3:
                    value += D(chance.choice((-3, -1, 0, 0, 1, 3))).scaleb(-places)
                if chance.random() < (0.02 if number % 3 == 0 else 0.0):
                    continue
                row = [
                    None if chance.random() < 0.002 else D(0) if chance.random() < 0.02 else value
                    for _ in table.columns
                ]
                table.put(symbol, ts, row)
    for table in board.settlements.values():
        table.add_symbols(SYMBOLS)
        for number, symbol in enumerate(SYMBOLS):
            for ts in range(NOON - 72 * 60 * MINUTE, NOON + 1, 8 * 60 * MINUTE):
                table.covered[number] = [Window(NOON - 90 * 60 * MINUTE, NOON + 1)]
                table.put(symbol, ts, [D(8) if c == "fr_hours" else D(number - 5).scaleb(-4) for c in table.columns])
    return board


class Writer:
    """Writes random expressions."""

    def __init__(self, seed):
        self.chance = random.Random(seed)

    def number(self, depth):
        chance = self.chance
        if depth <= 0 or chance.random() < 0.25:
            return chance.choice(
                ("c", "o", "h", "l", "v", "tbv", "oi", "lql", "ppr", "fr", "byb.c", "1", "0", "2.5", "0.1%")
            )
        inner = self.number(depth - 1)
        form = chance.randrange(10)
        length = f"{chance.choice((2, 3, 7)) * 5}m"
        if form < 3:
            return f"({inner}) {chance.choice('+-*/')} ({self.number(depth - 1)})"
        if form < 6:
            name = chance.choice(("lag", "chg", "diff", "sma", "sum", "min", "max", "std", "zscore"))
            return f"{name}({inner}, {length})"
        if form == 6:
            return chance.choice(
                (f"ema({chance.choice('cov')}, {length})", "rsi(c, 10m)", "atr(10m)", "rsi(c * v, 5m)")
            )
        if form == 7:
            return f"{chance.choice(('min2', 'max2'))}({inner}, {self.number(depth - 1)})"
        if form == 8:
            return chance.choice((f"abs({inner})", f"log({inner})", f"-({inner})", "annual(fr)", f"rank({inner})"))
        return f"({inner}) if {self.truth(depth - 1)} else ({self.number(depth - 1)})"

    def truth(self, depth):
        chance = self.chance
        if depth <= 1 or chance.random() < 0.6:
            sign = chance.choice(("<", "<=", ">", ">=", "==", "!="))
            return f"({self.number(depth - 1)}) {sign} ({self.number(depth - 1)})"
        if chance.random() < 0.2:
            return f"not ({self.truth(depth - 1)})"
        return f"({self.truth(depth - 1)}) {chance.choice(('and', 'or'))} ({self.truth(depth - 1)})"


def evaluators(board, code="bin"):
    exact = BoardEvaluator(BoardView(board, {"bin": SYMBOLS, "byb": SYMBOLS}), EarlierTruths())
    return exact, ArrayEvaluator(BoardArrays(board, code, SYMBOLS, exact, SYMBOLS, {}))


@pytest.mark.parametrize("seed", range(4))
def test_truths_are_the_exact_ones_or_open(seed):
    writer = Writer(seed)
    rules = []
    while len(rules) < 60:
        try:
            rules.append(compile_expression(writer.truth(3), WORDS, truth=True))
        except ExpressionError:  # a length that does not fit the grid of its names
            continue
    board = make_board(collect_reads((rule, ("bin",)) for rule in rules), seed)
    exact, arrays = evaluators(board)
    decided = open_ones = 0
    for rule in rules:
        truths = np.broadcast_to(arrays.decide(rule.root), (len(SYMBOLS), 1))[:, 0].tolist()
        for symbol, truth in zip(SYMBOLS, truths, strict=True):
            if truth == OPEN:
                open_ones += 1
                continue
            decided += 1
            expected = TRUTHS[exact.evaluate(rule.root, "bin", symbol)]
            assert truth == expected, (rule.text, symbol)
    assert decided > 2 * open_ones  # the rows are odd, and half of the comparisons are of zeroes or flat prices


@pytest.mark.parametrize(
    "text",
    [
        "sma(c, 20m)",
        "ema(c, 10m)",
        "rsi(c, 14m)",
        "atr(10m)",
        "std(c, 20m)",
        "zscore(v, 30m)",
        "chg(oi, 15m)",
        "sma(oi * c, 15m)",
        "ema(rsi(c, 5m), 4m)",
        "sma(lag(c, 3m) / v, 5m)",
        "sum(fr, 1d)",
        "annual(fr)",
        "rank(chg(c, 5m))",
        "log(c)",
        "sma(fr * c, 10m)",
    ],
)
def test_numbers_are_within_their_bound(text):
    number = compile_expression(text, WORDS)
    board = make_board(collect_reads([(number, ("bin",))]), 7)
    exact, arrays = evaluators(board)
    found = arrays.compute(number.root)
    checked = 0
    for row, symbol in enumerate(SYMBOLS):
        expected = exact.evaluate(number.root, "bin", symbol)
        value, error = float(found.value[row, 0]), float(found.error[row, 0])
        if np.isinf(error) or (np.isnan(error) and not np.isnan(value)):
            continue
        assert np.isnan(value) == (expected is None), symbol
        if expected is not None:
            checked += 1
            assert abs(D(value) - expected) <= D(error) + abs(expected) * D("1e-30"), symbol
            assert error <= 1e-6 * max(abs(value), 1e-3) or "std" in text or "zscore" in text or value == 0
    assert checked > 10


@pytest.mark.parametrize(
    "text",
    [
        "v * zscore(c, 20m) < 5",
        "sum(v, 5m) * rsi(c, 14m) < 5",
        "v * log(c - sma(c, 7m)) <= 0",
        "(0 if zscore(c, 20m) > 1 else 1) * v >= 0",
        "not (v * chg(c - sma(c, 7m), 1m) > 0)",
        "v / zscore(c, 20m) <= 0",
        "min2(v, zscore(c, 20m)) < 5",
        "abs(v * zscore(c, 20m)) < 5",
        "sum(v * zscore(c, 5m), 5m) < 5",
        "zscore(c, 20m) * 0 == 0",
        "cross_below(v * zscore(c, 20m), 1) or v * rsi(c, 14m) < 5",
    ],
)
def test_zero_times_what_may_be_unknown_is_not_certain(text):
    rule = compile_expression(text, WORDS, truth=True)
    board = Board(collect_reads([(rule, ("bin",))]).values(), MOMENT)
    (table,) = board.points.values()
    table.add_symbols(SYMBOLS)
    flat = {"c": D("100.1"), "v": D(0)}
    for symbol in SYMBOLS:
        for ts in range(table.base_ms, table.find_newest(MOMENT) + 1, table.grid_ms):
            table.put(symbol, ts, [flat[column] for column in table.columns])
    exact, arrays = evaluators(board)
    assert exact.evaluate(rule.root, "bin", SYMBOLS[0]) is None
    assert set(np.broadcast_to(arrays.decide(rule.root), (len(SYMBOLS), 1))[:, 0].tolist()) <= {-1, OPEN}


@pytest.mark.parametrize("text", ["12345678901.000000000000000001", "0." + "1" * 34, "1e-30", "123456789012345678.5"])
def test_values_of_many_digits_are_kept(text):
    rule = compile_expression("c", WORDS)
    board = Board(collect_reads([(rule, ("bin",))]).values(), MOMENT)
    (table,) = board.points.values()
    table.add_symbols(SYMBOLS)
    ts = table.find_newest(MOMENT)
    table.put("S0", ts, [D(text)])
    assert table.read("c", "S0", ts, MINUTE, 1) == [D(text)]


def settle(text, moment, times, covered):
    """Evaluate over settlements of 1, 2, 4 … at given times, of which those known at `moment` are on the board."""
    rule = compile_expression(text, WORDS)
    board = Board(collect_reads([(rule, ("bin",))]).values(), moment)
    (table,) = board.settlements.values()
    table.add_symbols(["BTC"])
    table.covered[0] = [covered]
    for number, ts in enumerate(times):
        if table.lags.is_known(ts, "settlement", moment):
            table.put("BTC", ts, [D(8) if column == "fr_hours" else D(2**number) for column in table.columns])
    return rule.evaluate(BoardView(board, {"bin": ["BTC"]}), "bin", "BTC")


def test_a_window_of_settlements_ends_where_they_are_known():
    times = [NOON - 16 * HOUR, NOON - 8 * HOUR, NOON]
    covered = Window(NOON - 100 * HOUR, NOON + HOUR)
    found = [settle("sum(fr, 8h)", NOON + n * MINUTE, times, covered) for n in range(-2, 5)]
    assert found == [2, 2, 2, 2, 4, 4, 4]  # known after 105 s: never none of them, never two
    assert settle("lag(sum(fr, 8h), 3m)", NOON + 4 * MINUTE, times, covered) == 2
    assert settle("sum(fr, 1h) - lag(sum(fr, 1h), 1m)", NOON + HOUR + MINUTE, times, covered) == 0


def test_a_covered_window_before_the_first_settlement_has_a_sum_of_none():
    covered = Window(NOON - 2 * HOUR, NOON + 7 * HOUR)
    assert settle("sum(fr, 1h)", NOON + HOUR, [], covered) == 0
    assert settle("max(fr, 1h)", NOON + HOUR, [], covered) is None
    assert settle("sum(fr, 4h)", NOON + HOUR, [], covered) is None  # not covered
    assert settle("sum(fr, 1h)", NOON + 8 * HOUR, [], covered) is None
    # the interval has become longer: bare it is unknown, and still there was none
    assert settle("sum(fr, 1h)", NOON + 6 * HOUR, [NOON - 3 * HOUR], covered) == 0
    assert settle("fr", NOON + 6 * HOUR, [NOON - 3 * HOUR], covered) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cross_above(oi, lag(oi, 5m))", 6),  # the history is known after 420 s
        ("max(1 if cross_above(oi, lag(oi, 5m)) else 0, 5m) > 0", 6),
        ("cross_above(1 if cross_above(oi, lag(oi, 5m)) else 0, 0.5)", 6),
        ("cross_below(1 if cross_above(oi, lag(oi, 5m)) else 0, 0.5)", 7),
    ],
)
def test_a_crossing_inside_a_function_compares_with_what_was_known_then(text, expected):
    rule = compile_expression(text, WORDS, truth=True)
    watch = Watch("rule", rule, None, ("byb",), ("BTC",))
    board = Board(collect_reads([(rule, ("byb",))]).values(), NOON)
    evaluator = WatchEvaluator([watch], board)
    (table,) = board.points.values()
    table.add_symbols(["BTC"])
    rows = {NOON - 15 * MINUTE: 2, NOON - 10 * MINUTE: 1, NOON - 5 * MINUTE: 0, NOON: 5}
    found = {}
    for minute in range(NOON, NOON + 10 * MINUTE, MINUTE):
        evaluator.remember([Contract("byb", "BTC", None, None, True)])
        board.move_to(minute + MINUTE)
        for ts, value in rows.items():
            if table.lags.is_known(ts, "5m", board.moment_ms) and not table.holds("BTC", ts):
                table.put("BTC", ts, [D(value)])
        (result,) = evaluator.evaluate([Contract("byb", "BTC", None, None, True)])
        found[(minute - NOON) // MINUTE] = result.expr[0]
    assert [number for number, truth in found.items() if truth] == [expected]


def test_what_is_listed_does_not_depend_on_which_minute_is_asked_for_first():
    contracts = [Contract("bin", "BTC", NOON, None, True), Contract("bin", "ETH", None, NOON + 5 * MINUTE, True)]
    for minutes in ((-1, 0, 4, 5), (5, 4, 0, -1), (4, -1, 5, 0)):
        listing = Listing(contracts, NOON + 2 * MINUTE)
        found = {number: sorted(listing.find_listed("bin", NOON + number * MINUTE)) for number in minutes}
        assert found == {-1: ["ETH"], 0: ["BTC", "ETH"], 4: ["BTC", "ETH"], 5: ["BTC"]}


@pytest.mark.parametrize("text", ["1e-400 > 0", "c / 1e-400 > 1", "log(1e-320) < 0", "c * 1e-400 > 0", "0.1 > 0"])
def test_a_literal_that_is_too_small_for_a_float_is_not_zero(text):
    rule = compile_expression(text, WORDS, truth=True)
    board = make_board(collect_reads([(rule, ("bin",))]), 0)
    exact, arrays = evaluators(board)
    truths = np.broadcast_to(arrays.decide(rule.root), (len(SYMBOLS), 1))[:, 0].tolist()
    known = [TRUTHS[exact.evaluate(rule.root, "bin", symbol)] for symbol in SYMBOLS]
    assert all(truth in (OPEN, right) for truth, right in zip(truths, known, strict=True))
    assert 1 in known and (OPEN in truths) == ("e-" in text)


def test_a_column_that_a_live_sample_lacks_is_that_of_the_history():
    rules = [compile_expression(text, WORDS) for text in ("oi", "oi_usd", "lag(oi, 5m)", "lag(oi_usd, 5m)")]
    moment = NOON + 2 * MINUTE
    board = Board(collect_reads((rule, ("bin",)) for rule in rules).values(), moment)
    (table,) = board.points.values()
    table.add_symbols(["BTC"])
    for number, ts in enumerate(range(NOON - 20 * MINUTE, NOON - 4 * MINUTE, 5 * MINUTE)):
        table.put("BTC", ts, [D(number), D(10 * number)])  # columns oi, oi_usd
    for ts in (NOON - MINUTE, NOON, NOON + MINUTE):
        table.put("BTC", ts, [D(100), None])
    view = BoardView(board, {"bin": ["BTC"]})
    assert [rule.evaluate(view, "bin", "BTC") for rule in rules] == [100, 30, 3, 20]
    exact = BoardEvaluator(view, EarlierTruths())
    arrays = ArrayEvaluator(BoardArrays(board, "bin", ["BTC"], exact, ["BTC"], {}))
    assert [float(arrays.compute(rule.root).value[0, 0]) for rule in rules] == [100, 30, 3, 20]
