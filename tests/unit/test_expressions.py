"""The expression language: what is accepted, what is refused and where, and values worked out by hand."""

import time
from decimal import Decimal as D

import pytest

from fademoe.expressions import (
    Evaluator,
    ExpressionError,
    Vocabulary,
    compile_expression,
    compile_message,
    print_value,
)
from fademoe.expressions.numbers import CONTEXT, compute_atr
from fademoe.feeds import registry
from tests.support.views import ListView

MINUTE, HOUR = 60_000, 3_600_000
NOON = 1_795_694_400_000  # a multiple of a day
WORDS = Vocabulary.build(
    [
        f"{code}-{metric}"
        for code in ("bin", "byb", "okx", "c-bin")
        for metric in ("ohlcv", "fr", "pfr", "ppr", "oi", "lq")
    ]
)


def compiled(text, **kind):
    return compile_expression(text, WORDS, **kind)


def bars(*values, column="c", code="bin", symbol="BTC", end=NOON, step=MINUTE):
    """Return a series whose newest value is that of the minute before `end`."""
    numbers = [None if value is None else D(str(value)) for value in values]
    first = end - step * len(numbers)
    return {(code, symbol, column): {first + i * step: x for i, x in enumerate(numbers) if x is not None}}


def value_of(text, *series, moment=NOON, code="bin", symbol="BTC", **more):
    joined = {}
    for one in series:
        joined |= one
    return compiled(text).evaluate(ListView(moment, joined, **more), code, symbol)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("chg(oi,15m)>3%  and abs( chg(close, 15m) )<0.5%", "chg(oi, 15m) > 3% and abs(chg(c, 15m)) < 0.5%"),
        ("((c))", "c"),
        ("a if b else c".replace("a", "o").replace("b", "(c > o)"), "o if c > o else c"),
        ("(c if c > o else o) + 1", "(c if c > o else o) + 1"),
        ("c - (o - l)", "c - (o - l)"),
        ("(c - o) - l", "c - o - l"),
        ("c - (o + l) * 2 / (h / v)", "c - (o + l) * 2 / (h / v)"),
        ("not (c > o or c > l) and not c > h", "not (c > o or c > l) and not c > h"),
        ("(c > o or c > l) and c > h", "(c > o or c > l) and c > h"),
        ("- c\n>\t-1", "-c > -1"),
        ("sma(c, 60s) + sma(c, 1.5h) + sma(c, 48h)", "sma(c, 1m) + sma(c, 90m) + sma(c, 2d)"),
        ("l < o <= c", "l < o <= c"),
        ("c_bin.oi / okx.oi", "c_bin.oi / okx.oi"),
        ("c - bin.c", "c - bin.c"),
    ],
)
def test_the_canonical_text_parses_to_itself(text, canonical):
    assert compiled(text).text == canonical
    assert compiled(canonical).text == canonical


@pytest.mark.parametrize(
    ("text", "position", "part"),
    [
        ("50%%", 3, "valid are %, s, m, h, d"),
        ("x%", 2, "directly behind the digits"),
        ("sma(c, 5 m)", 10, "as in 5m"),
        ("c and o", 1, "takes a truth"),
        ("(c > o) + 1", 2, "takes a number"),
        ("not c", 5, "takes a truth"),
        ("c == (o > l)", 7, "takes a number"),
        ("sma(c, 20)", 8, "write 20m"),
        ("max(c, 100)", 8, "did you mean max2"),
        ("sma(c, v)", 8, "is a duration"),
        ("fr_hours == 8h", 13, "only the length of a function"),
        ("chg(oi, 1m)", 9, "oi has a point every 5m"),
        ("sma(oi * c, 7m)", 13, "oi has a point every 5m"),
        ("sma(c, 30s)", 8, "every 1m"),
        ("sma(c, 32d)", 8, "at most 31d"),
        ("ema(fr, 8h)", 9, "irregular times"),
        ("rsi(c, 1m)", 8, "at least two points: 2m"),
        ("c-bin.oi", 1, "write c_bin."),
        ("1_000", 2, "no number with a unit"),
        (".5 > c", 1, "write 0.5"),
        ("c > -.5%", 6, "write 0.5"),
        ("0x1f", 2, "no number with a unit"),
        ("1j", 2, "no number with a unit"),
        ("1e31", 1, "at most 10^30"),
        ("True", 1, "lower case"),
        ("c > None", 5, "lower case"),
        ("C > o", 1, "lower case"),
        ("c ** 2", 3, "there is no **"),
        ("c // 2", 3, "there is no //"),
        ("c % 2", 3, "directly behind"),
        ("c @ o", 3, "no character"),
        ("c & o", 3, "no character"),
        ("~c", 1, "no character"),
        ("c is o", 3, "no word"),
        ("c in o", 3, "no word"),
        ("lambda: c", 1, "no word"),
        ("c[0]", 2, "no character"),
        ("'c'", 1, "no character"),
        ("c = o", 3, "write =="),
        ("bin.lsr", 1, "no column of bin; valid are c, close"),
        ("acm.c", 1, "no code of an exchange; valid are bin, byb, c_bin, okx"),
        ("bin", 1, "write a column behind it"),
        ("sma", 1, "write sma(…)"),
        ("mean(c, 5m)", 1, "no function; valid are lag, chg"),
        ("sma(c, 5m, 5m)", 1, "written sma(x, d)"),
        ("atr(c, 5m)", 1, "written atr(d)"),
        ("annual(c)", 8, "valid are fr, ppr, bin.fr, bin.ppr, byb.fr, byb.ppr, c_bin.fr"),
        ("bin.c.o", 1, "no part"),
        ("bin.sma(c, 5m)", 1, "no function"),
        ("c) + (c", 2, "closes nothing"),
        ("(c", 2, "not closed"),
        ("c,", 1, "no part"),
        ("", 1, "empty"),
        ("c if o", 1, "no expression"),
        ("c > o if c > o else c", 21, "takes a truth"),
        ("sma(c > o, 5m)", 5, "takes a number"),
        ("ema(ema(c, 31d), 31d)", 5, "too many points"),
    ],
)
def test_what_is_refused_says_where_and_what_is_valid(text, position, part):
    with pytest.raises(ExpressionError) as refused:
        compiled(text)
    assert part in str(refused.value)
    assert refused.value.position == position


def test_valid_rates_are_those_that_a_code_has():
    with pytest.raises(ExpressionError) as refused:
        compile_expression("annual(c) > 1", Vocabulary.build(["bin-fr", "byb-ohlcv", "x-oi"]))
    assert refused.value.valid == ("fr", "ppr", "bin.fr")


def test_size_is_bounded():
    assert compiled("+".join(["c"] * 100)).text.count("+") == 99
    for text in ("+".join(["c"] * 101), "c" * 2001, "(" * 61 + "c" + ")" * 61, "-" * 500 + "c"):
        with pytest.raises(ExpressionError):
            compiled(text)


def test_a_rule_has_to_be_a_truth():
    with pytest.raises(ExpressionError, match="true or false"):
        compiled("c - o", truth=True)
    with pytest.raises(ExpressionError, match="a number"):
        compiled("c > o", truth=False)


def test_literals_are_exact():
    assert value_of("-0.5%") == D("-0.005")
    assert value_of("1e3 + 0.1 + 0.2") == D("1000.3")
    assert value_of("1 / 3") == D("0." + "3" * 34)


def test_34_digits_are_kept():
    digits = "1.234567890123456789012345678901234"
    assert compile_expression(f"c > {digits}%", WORDS).root.children[1].value == D(digits).scaleb(-2, CONTEXT)
    zeroes = [D(0)] * 4
    assert compute_atr(zeroes, zeroes, [D(digits)] * 4) == D(digits)
    with pytest.raises(ExpressionError, match="whole number of points"):
        compile_expression(f"sma(c, 1.{'0' * 30}1m)", WORDS)


def test_a_mean_of_equal_prices_is_that_price():
    assert value_of("c > sma(c, 7m)", bars(*["0.1"] * 7)) is False
    assert value_of("c == sma(c, 7m) and c == ema(c, 7m)", bars(*["0.1"] * 28)) is True


def test_unknown_follows_kleene():
    series = bars(1, None)  # the newest candle is absent
    assert value_of("c > 0", series) is None
    assert value_of("c + 1", series) is None
    assert value_of("c > 0 and 1 > 2", series) is False
    assert value_of("c > 0 and 2 > 1", series) is None
    assert value_of("c > 0 or 2 > 1", series) is True
    assert value_of("not c > 0", series) is None
    assert value_of("1 < 2 < c", series) is None
    assert value_of("2 < 1 < c", series) is False
    assert value_of("1 if c > 0 else 2", series) is None
    assert value_of("min2(c, 1)", series) is None


def test_what_has_no_value_is_unknown():
    assert value_of("1 / (c - c)", bars(1)) is None
    assert value_of("log(c - c)", bars(1)) is None
    assert value_of("chg(c, 1m)", bars(0, 5)) is None
    assert value_of("chg(c, 1m)", bars(-2, -1)) == D("-0.5")
    assert value_of("rsi(c, 2m)", bars(*[5] * 20)) is None
    assert value_of("std(c, 3m)", bars(5, 5, 5)) == 0
    assert value_of("zscore(c, 3m)", bars(5, 5, 5)) is None
    squares = "1e30"
    for _ in range(6):
        squares = f"({squares})*({squares})"
    assert value_of(f"1 < {squares}") is True
    assert value_of("-".join(["1e30 / 1e-99 / 1e-99"] * 2)) == 0


def test_windows_with_a_hole_are_unknown_until_they_are_whole():
    for function in ("sma", "sum", "min", "max", "std", "zscore"):
        assert value_of(f"{function}(c, 3m)", bars(1, None, 2, 3)) is None, function
        assert value_of(f"{function}(c, 3m)", bars(None, 1, 2, 4)) is not None, function
    assert value_of("ema(c, 2m)", bars(None, *range(1, 8))) is None
    assert value_of("ema(c, 2m)", bars(None, *range(1, 9))) is not None
    assert value_of("rsi(c, 2m)", bars(None, *range(1, 20))) is None
    assert value_of("rsi(c, 2m)", bars(None, *range(1, 21))) == 100
    assert value_of("lag(c, 2m)", bars(7, None, 2)) == 7  # one point only
    assert value_of("chg(c, 2m)", bars(4, None, 5)) == D("0.25")


def test_functions_by_hand():
    series = bars(1, 2, 4, 8)
    assert value_of("sum(c, 3m)", series) == 14
    assert value_of("sma(c, 4m)", series) == D("3.75")
    assert value_of("min(c, 3m) + max(c, 2m)", series) == 10
    assert value_of("diff(c, 3m)", series) == 7
    assert value_of("std(c, 2m)", series) == 2
    assert value_of("zscore(c, 2m)", series) == 1
    assert abs(value_of("ema(c, 2m)", bars(*range(1, 9))) - D("7.5")) < D("1e-30")
    assert value_of("sma(sma(c, 2m), 3m)", series) == D(21) / 6
    assert value_of("lag(lag(c, 1m), 2m)", series) == 1
    assert value_of("sum(lag(c, 1m), 2m)", series) == 6
    assert value_of("max2(c, 10) - min2(c, 3)", series) == 7
    assert value_of("sum(1 if c > 3 else 0, 4m)", series) == 2


def test_average_true_range_takes_four_times_its_length():
    wide = {"h": range(11, 19), "l": range(9, 17), "c": range(10, 18)}
    series = {key: row for column, values in wide.items() for key, row in bars(*values, column=column).items()}
    assert value_of("atr(2m)", series) == 2
    assert value_of("atr(3m)", series) is None


def test_samples_are_read_bare_between_the_marks_and_strictly_inside_functions():
    """oi has a point every five minutes; a live row between them is seen by the bare name only."""
    marks = {NOON - 10 * MINUTE: D(100), NOON - 5 * MINUTE: D(110), NOON: D(120), NOON + 3 * MINUTE: D(999)}
    series = {("bin", "BTC", "oi"): marks}
    moment = NOON + 4 * MINUTE
    assert value_of("oi", series, moment=moment) == 999
    assert value_of("sma(oi, 15m)", series, moment=moment) == 110
    assert value_of("chg(oi, 5m)", series, moment=moment) == D("0." + "09" * 16 + "1")
    assert value_of("oi", series, moment=NOON + 19 * MINUTE) is None  # older than three intervals


def test_names_of_a_mixed_window_step_on_the_coarsest_grid():
    oi = {("bin", "BTC", "oi"): {NOON - 5 * MINUTE: D(10), NOON: D(20)}}
    closes = bars(*range(1, 11), end=NOON)  # the newest close is 10, that of five minutes before is 5
    assert value_of("sum(oi * c, 10m)", oi, closes) == 20 * 10 + 10 * 5


def test_names_of_other_exchanges():
    assert value_of("okx.c - c", bars(5), bars(8, code="okx")) == 3
    assert value_of("okx.c - c", bars(5)) is None


def test_settlements_are_in_force_until_the_next_is_due():
    rows = {NOON - 8 * HOUR: (D("0.0001"), 8), NOON: (D("0.0003"), 4)}
    lags = {"fr": 2 * MINUTE}
    settled = {"settlements": {("bin", "BTC"): rows}, "lags_ms": lags}
    assert value_of("fr", moment=NOON + MINUTE, **settled) == D("0.0001")  # the new one is not known yet
    assert value_of("fr", moment=NOON + 2 * MINUTE, **settled) == D("0.0003")
    assert value_of("fr", moment=NOON + 4 * HOUR + 2 * MINUTE, **settled) == D("0.0003")
    assert value_of("fr", moment=NOON + 4 * HOUR + 3 * MINUTE, **settled) is None
    assert value_of("lag(fr, 1h)", moment=NOON + HOUR, **settled) == D("0.0001")
    assert value_of("diff(fr, 8h)", moment=NOON + HOUR, **settled) == D("0.0002")
    assert value_of("annual(fr)", moment=NOON + HOUR, **settled) == D("0.0003") * 8760 / 4


def test_sums_of_settlements_go_over_the_settlements():
    rows = {NOON - 16 * HOUR: (D(1), 8), NOON - 8 * HOUR: (D(2), 8), NOON: (D(4), 8)}
    settled = {"settlements": {("bin", "BTC"): rows}}
    assert value_of("sum(fr, 16h)", **settled) == 6  # (end - d, end]
    assert value_of("sma(fr, 16h)", **settled) == 3
    assert value_of("max(fr, 1d) - min(fr, 1d)", **settled) == 3
    assert value_of("sum(fr, 1h)", moment=NOON + 2 * HOUR, **settled) == 0
    assert value_of("sma(fr, 1h)", moment=NOON + 2 * HOUR, **settled) is None
    assert value_of("sum(fr, 1h)", moment=NOON + 2 * HOUR, holes=frozenset({("bin", "BTC")}), **settled) is None
    late = {**settled, "lags_ms": {"fr": 2 * MINUTE}}  # it ends where the newest may be known
    assert [value_of("sum(fr, 8h)", moment=NOON + n * MINUTE, **late) for n in range(4)] == [2, 2, 4, 4]
    assert value_of("lag(sum(fr, 8h), 1m)", moment=NOON + 2 * MINUTE, **late) == 2


def test_a_covered_minute_without_liquidations_is_zero():
    series = bars(5, None, None, column="lql")
    assert value_of("sum(lql, 3m)", series, zeroes=frozenset({("bin", "BTC")})) == 5
    assert value_of("sum(lql, 3m)", series) is None


def test_rank_counts_the_others_that_are_known():
    series = {}
    for symbol, close in (("BTC", 3), ("ETH", 1), ("SOL", 3), ("XRP", 9)):
        series |= bars(close, symbol=symbol)
    symbols = ["BTC", "ETH", "SOL", "XRP", "HYPE"]
    assert value_of("rank(c)", series, symbols=symbols) == D("0.5")
    assert value_of("rank(c)", series, symbols=symbols, symbol="HYPE") is None
    assert value_of("rank(c)", series, symbols=["BTC", "HYPE"]) is None


def test_a_crossing_is_true_in_one_minute():
    series = bars(1, 1, 3, 3)
    assert value_of("cross_above(c, 2)", series) is False
    assert value_of("cross_above(c, 2)", series, moment=NOON - MINUTE) is True
    assert value_of("cross_below(2, c)", series, moment=NOON - MINUTE) is True
    assert value_of("cross_above(c, 2)", series, moment=NOON - 2 * MINUTE) is False
    assert value_of("cross_above(2, c)", series, moment=NOON - 3 * MINUTE) is None  # nothing is known of before
    assert value_of("sum(1 if cross_above(c, 2) else 0, 2m)", series) == 1


def test_values_of_names_and_calls_are_listed_by_their_source_text():
    rule = compiled("chg(close,1m)>3% and v > 0")
    evaluator = Evaluator(ListView(NOON, bars(4, 5)))
    assert rule.evaluate_parts(evaluator, "bin", "BTC") == {"chg(close,1m)": "0.25", "close": "5", "v": None}


def test_what_is_needed():
    needs = compiled("chg(oi, 15m) > 3% and cross_above(c, ema(byb.c, 5m)) and rank(fr) > 0").needs
    found = {(need.code, need.measure.column): (need.back_ms, need.is_bare, need.is_strict) for need in needs.columns}
    assert found == {
        (None, "oi"): (15 * MINUTE, True, True),  # bare for the values of a transition
        (None, "c"): (0, True, False),
        ("byb", "c"): (19 * MINUTE, False, True),
        (None, "fr"): (0, True, False),
    }
    assert needs.minutes_back == 1
    assert needs.ranks


def test_messages():
    view = ListView(NOON, bars(4, 5) | bars("-0.00001", column="o"))
    words = {"symbol": "BTC", "code": "bin", "rule": "r", "severity": "info", "state": "firing", "minute": "12:00"}

    def fill(text):
        return compile_message(text, WORDS).fill(Evaluator(view), "bin", "BTC", words)

    assert fill("{symbol} on {code}: {chg(close, 1m):.1%} {{x}}") == "BTC on bin: 25.0% {x}"
    assert fill("{c * 1000:+,.2f} {c:e} {c:g} {okx.c:.1f} {c > 1}") == "+5,000.00 5e+0 5 unknown true"
    assert fill("{o:.2f} {c / 3}") == "0.00 1." + "6" * 32 + "7"


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("{c!r}", 3),
        ("{c[0]}", 3),
        ("{c:d}", 4),
        ("{c:>10}", 4),
        ("{c:{v}}", 4),
        ("{", 1),
        ("a } b", 3),
        ("{}", 2),
        ("x" * 1001, 1001),
    ],
)
def test_messages_are_checked(text, position):
    with pytest.raises(ExpressionError) as refused:
        compile_message(text, WORDS)
    assert refused.value.position == position


def test_values_are_printed_plainly():
    assert print_value(D("1E+3")) == "1000"
    assert print_value(D("-0.0")) == "0"
    assert print_value(D("1.500")) == "1.5"
    assert print_value(D("1E-7")) == "0.0000001"
    assert print_value(None) is None
    assert print_value(False) == "false"


def test_refusals_are_fast():
    started = time.process_time()
    for text in (
        "(" * 2000,
        "-" * 2000,
        "not " * 500,
        "c<" * 999 + "c",
        "sma(" * 400 + "c",
        "9" * 2000,
        "{" * 2000,
        "c\n" * 1000,
    ):
        with pytest.raises(ExpressionError):
            compiled(text)
    assert time.process_time() - started < 8 * 0.05


def test_derived_metrics_have_names_too():
    words = Vocabulary.build(registry.list_perpspecs())
    for text in ("x.oi", "x.fr_1h", "x.lql + x.lqs", "x.spread_bps", "vwap", "bin.cvd", "c_bin.oi_chg", "okx.fr_apr"):
        assert compile_expression(text, words).root.text == text
    with pytest.raises(ExpressionError, match="no column"):
        compile_expression("x.sources", words)
    assert words.find(None, "oi").metric == "oi"
    assert words.find("x", "oi").metric == "x-oi"
    assert words.find(None, "fr_hours").metric == "fr"
