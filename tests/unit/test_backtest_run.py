"""Runs over rows in memory: what a strategy may see and when, what it may return, and that a run repeats."""

import decimal
import hashlib
import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import psycopg2
import pytest

from fademoe.account.market import Settlement, Tier
from fademoe.backtest.market import Market, NotCovered, SeriesHash
from fademoe.backtest.plan import LAST_MS, MissingData, check_data, read_tiers, read_tiers_file
from fademoe.backtest.report import make_report
from fademoe.backtest.run import Result, write_ledger
from fademoe.backtest.strategies import StrategyFailed, StrategyFile
from fademoe.backtest.view import Lives, RunMinute
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window
from fademoe.errors import ConfigError, StoreError
from fademoe.feeds.lags import find_lag
from fademoe.signals import Stopped
from fademoe.store.coverage import Series
from fademoe.store.read.market import Known
from tests.support.markets import SEEN, START, MemoryLoader, draw_market, make_plan, read_strategy, run_in_memory

HEAD = "from decimal import Decimal\nfrom fademoe.strategy import Limit, Market, Stop, Strategy, Target\n"


def watch(
    body: str, loader: MemoryLoader, minutes: int, symbols: tuple[str, ...] = ("A",), **changes: object
) -> tuple[Result, list[object]]:
    """Run a strategy whose `on_minute` is `body`; return the result and what it appended to `seen`."""
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    text = (
        f"{HEAD}from tests.support.markets import SEEN as seen\n"
        f"class Watched(Strategy):\n    def on_minute(self, view):\n{lines}\n"
    )
    SEEN.clear()
    result = run_in_memory(make_plan(read_strategy(text), symbols, minutes, **changes), loader)
    return result, list(SEEN)


def flat(symbol: str, minutes: int, skip: frozenset[int] = frozenset()) -> MemoryLoader:
    """Minute n has a close of 100 + n."""
    loader = MemoryLoader()
    for n in range(minutes):
        if n not in skip:
            loader.add("bin-ohlcv", symbol, START + n * MINUTE_MS, 100 + n, 101 + n, 99 + n, 100 + n, 1000)
            loader.add("bin-mark", symbol, START + n * MINUTE_MS, 100 + n, 101 + n, 99 + n, 100 + n)
    return loader


def test_the_candle_of_the_minute_is_the_last_row():
    _, seen = watch("seen.append(view.rows('A', 'c', 3))", flat("A", 3), 3)
    assert seen == [[None, None, 100], [None, 100, 101], [100, 101, 102]]


def test_rows_go_over_the_edges_of_days_and_chunks():
    loader = flat("A", 6 * 1440)
    body = "if view.ts % 3_600_000 == 0: seen.append(view.rows('A', 'c', 3000))"
    _, seen = watch(body, loader, 6 * 1440, skip=2000)
    last = 100 + 6 * 1440 - 1
    assert seen[-1] == list(range(last - 2999, last + 1))
    assert all(rows == list(range(int(rows[-1]) - 2999, int(rows[-1]) + 1)) for rows in seen[20:])


def test_an_absent_minute_is_none_and_its_value_is_not_the_one_before():
    loader = flat("A", 4, frozenset({2}))
    _, seen = watch("seen.append((view.value('A', 'c'), view.rows('A', 'c', 2)))", loader, 4)
    assert seen == [(100, [None, 100]), (101, [100, 101]), (None, [101, None]), (103, [None, 103])]


def test_marks_come_after_their_lag():
    lag = find_lag("bin-mark", "1m").lag_ms
    late = -(-lag // MINUTE_MS)
    _, seen = watch("seen.append(view.value('A', 'mark_c'))", flat("A", late + 3), late + 3)
    assert seen == [None] * late + [100, 101, 102]


def test_samples_between_the_grid_count_for_the_value_alone():
    loader = flat("A", 30)
    for n in range(0, 30, 5):
        loader.add("bin-oi", "A", START + n * MINUTE_MS, 1000 + n)
    loader.add("bin-oi", "A", START + 7 * MINUTE_MS, 5007, interval="1m")
    _, seen = watch("seen.append((view.value('A', 'oi'), view.rows('A', 'oi', 2)))", loader, 12)
    # at 7 min the live sample of that instant is not known yet (2 s), the mark of 5 min is (201 s) from 8:21 on
    assert seen[6] == (1000, [None, 1000])
    assert seen[7] == (5007, [None, 1000])
    assert seen[8] == (5007, [1000, 1005])


def test_a_mark_that_only_the_history_has_is_unknown_until_that_is_known():
    loader = flat("A", 30)
    loader.add("okx-oi", "A", START, 1000)
    loader.add("okx-oi", "A", START + 5 * MINUTE_MS, 1005)  # known after 570 s
    loader.add("okx-oi", "A", START + 10 * MINUTE_MS, 1010, interval="1m")  # known after 2 s
    evaluate = "compile_expression({!r}, Vocabulary.build(['okx-oi'])).evaluate(view.as_expressions(), 'bin', 'A')"
    body = (
        "from fademoe.expressions import Vocabulary, compile_expression\n"
        f"seen.append((view.rows('A', 'oi', 3, 'okx'), {evaluate.format('lag(okx.oi, 5m)')}))"
    )
    _, seen = watch(body, loader, 16)
    assert seen[9] == ([None, None, 1000], None)
    assert seen[10:14] == [([1000, None, 1010], None)] * 4
    assert seen[14] == ([1000, 1005, 1010], 1005)


def test_a_sample_is_stale_after_three_intervals():
    loader = flat("A", 30)
    loader.add("bin-oi", "A", START, 1000)
    _, seen = watch("seen.append(view.value('A', 'oi'))", loader, 20)
    assert [n + 1 for n, value in enumerate(seen) if value is not None] == list(range(4, 16))


def test_a_settlement_is_in_force_until_the_next_one_should_be_known():
    loader = flat("A", 700)
    loader.add("bin-fr", "A", START, "0.0001", 8)
    _, seen = watch("seen.append((view.value('A', 'fr'), view.rows('A', 'fr', 2)))", loader, 700)
    lag = find_lag("bin-fr", "settlement").lag_ms
    known = [n for n, (value, _) in enumerate(seen) if value is not None]
    assert START + (known[0] + 1) * MINUTE_MS >= START + lag
    assert START + (known[-1] + 1) * MINUTE_MS <= START + 8 * HOUR_MS + lag
    assert seen[known[-1]][1] == [None, Decimal("0.0001")]
    assert seen[-1] == (None, [None, Decimal("0.0001")])


def test_expressions_see_the_settlements_of_a_window_as_alerts_do():
    loader = flat("A", 20)
    for number, ts in enumerate((START - 8 * HOUR_MS, START, START + 10 * MINUTE_MS)):
        loader.add("bin-fr", "A", ts, 2**number, 8)
    evaluate = "compile_expression({!r}, Vocabulary.build()).evaluate(view.as_expressions(), 'bin', 'A')"
    texts = ("sum(fr, 8h)", "lag(sum(fr, 8h), 2m)", "lag(fr, 2m)")
    body = (
        "from fademoe.expressions import Vocabulary, compile_expression\n"
        f"seen.append(({', '.join(evaluate.format(text) for text in texts)}))"
    )
    _, seen = watch(body, loader, 14)
    # known 105 s after it: at the end of its second minute
    assert seen == [(1, 1, 1)] + [(2, 1, 1)] * 2 + [(2, 2, 2)] * 8 + [(6, 2, 2)] * 2 + [(6, 6, 4)]


def test_a_column_that_a_live_sample_lacks_is_that_of_the_history():
    loader = flat("A", 30)
    for n in range(0, 15, 5):
        loader.add("bin-oi", "A", START + n * MINUTE_MS, 1000 + n, 10 * n)
    loader.add("bin-oi", "A", START + 14 * MINUTE_MS, 5014, interval="1m")
    loader.add("bin-oi", "A", START + 15 * MINUTE_MS, 5015, interval="1m")
    body = "seen.append([(view.value('A', name), *view.rows('A', name, 2)) for name in ('oi', 'oi_usd')])"
    _, seen = watch(body, loader, 17)
    assert seen[-1] == [(5015, 1010, 5015), (100, 50, 100)]


def test_a_covered_minute_without_liquidations_is_zero():
    loader = flat("A", 10)
    loader.add("bin-lq", "A", START + 2 * MINUTE_MS, 7, 8)
    _, seen = watch("seen.append(view.rows('A', 'lql', 4))", loader, 8)
    assert seen[-1][-1] == 0
    assert 7 in [value for rows in seen for value in rows]


def test_an_absent_minute_of_liquidations_is_unknown():
    loader = flat("A", 30)
    loader.add("bin-lq", "A", START + 2 * MINUTE_MS, 7, 8)
    loader.absent[Series("bin-lq", "A")] = [Window(START + 5 * MINUTE_MS, START + 10 * MINUTE_MS)]
    _, seen = watch("seen.append(view.value('A', 'lql'))", loader, 20)
    last = [minute for minute, value in enumerate(seen) if value is None and minute > 2]
    assert len(last) == 5
    assert last == list(range(last[0], last[0] + 5))
    assert seen[last[-1] + 1] == 0


def test_another_exchange_is_seen_by_its_code():
    loader = flat("A", 3)
    loader.add("byb-ohlcv", "A", START, 1, 1, 1, 55, 1)
    _, seen = watch("seen.append(view.value('A', 'c', 'byb'))", loader, 2)
    assert seen == [55, None]


def test_the_view_shows_the_account_after_the_fills_of_the_minute():
    body = "seen.append((view.ts, view.symbols, view.position('A'), view.cash))\nreturn {'A': Market(2)}"
    _, seen = watch(body, flat("A", 2), 2, conditions={"slippage": Decimal(0), "taker": Decimal(0)})
    assert seen == [
        (START + MINUTE_MS, ("A",), 0, 10_000),
        (START + 2 * MINUTE_MS, ("A",), 2, 10_000 - 2 * 101),
    ]


def test_a_series_that_is_not_covered_stops_the_run_when_it_is_asked_for():
    loader = flat("A", 5)
    loader.missing.add(Series("bin-oi", "A"))
    with pytest.raises(NotCovered):
        watch("if view.ts > 1_700_006_400_000 + 120_000: view.value('A', 'oi')", loader, 5)


def test_an_unknown_column_names_the_valid_ones():
    with pytest.raises(StrategyFailed, match=r"tried.py, line 6: unknown column 'close': valid are o, h, l, c"):
        watch("view.value('A', 'close')", flat("A", 2), 2)


def test_what_a_strategy_prints_goes_to_stderr(capsys: pytest.CaptureFixture[str]):
    text = f"{HEAD}print('read')\nclass L(Strategy):\n    def on_minute(self, view):\n        print('called')"
    run_in_memory(make_plan(read_strategy(text), ["A"], 2), flat("A", 2))
    written = capsys.readouterr()
    assert (written.out, written.err.split()) == ("", ["read", "called", "called"])


def test_no_order_of_the_last_minute_leaves_a_row():
    result, _ = watch("return {'A': Market(1)}", flat("A", 3), 3)
    assert [row.ts for row in result.ledger] == [START + MINUTE_MS, START + 2 * MINUTE_MS]


def test_minutes_are_aligned_to_the_epoch():
    body = "assert view.ts % 420_000 == 0"
    text = f"{HEAD}class S(Strategy):\n    minutes = 7\n    def on_minute(self, view):\n        {body}"
    result = run_in_memory(make_plan(read_strategy(text), ["A"], 30), flat("A", 30))
    assert result.calls == len([n for n in range(30) if (START + (n + 1) * MINUTE_MS) % (7 * MINUTE_MS) == 0])


@pytest.mark.parametrize("days", [1, 9])
def test_settlements_before_the_run_that_were_looked_at_are_hashed(days: int):
    """Those that a strategy decides by are pinned by the certificate, so another rate there is another hash."""

    def run(first_rate: str) -> SeriesHash:
        loader = flat("A", days * 1440 + 60)
        for n, rate in enumerate((first_rate, "0.0002", "0.0003")):
            loader.add("bin-fr", "A", START + n * 8 * HOUR_MS, rate, 8)
        result, _ = watch("view.rows('A', 'fr', 3)", loader, days * 1440 + 60, skip=days * 1440)
        return next(each for each in result.series if each.source == "bin-fr")

    one, other = run("0.0001"), run("0.0004")
    assert one.rows_before == other.rows_before == 3
    assert one.sha256_before != other.sha256_before


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return {'A': Market(1 / 0)}", r"tried.py, line 6: ZeroDivisionError"),
        ("return {'B': Market(1)}", r"tried.py, line 5: on_minute returned an order for 'B'"),
        ("return {'A': Target(float('nan'))}", r"tried.py, line 5: A: share is nan"),
        ("raise SystemExit(3)", r"tried.py, line 6: SystemExit: 3"),
        ("view.value('A', 'c', 'xyz')", r"tried.py, line 6: .*'xyz-ohlcv'"),
    ],
)
def test_a_failing_strategy_names_file_and_line(body: str, words: str):
    with pytest.raises(StrategyFailed, match=words):
        watch(body, flat("A", 2), 2)


def test_a_strategy_that_sets_its_decimal_context_changes_no_arithmetic_but_its_own():
    order = "return {'A': Market(1)}"
    plain, _ = watch(order, flat("A", 9), 9)
    body = f"import decimal\nseen.append(str(Decimal(1) / 3))\ndecimal.getcontext().prec = 3\n{order}"
    coarse, seen = watch(body, flat("A", 9), 9)
    assert coarse.ledger == plain.ledger
    lines = "decimal.getcontext().prec = 3\nclass A(Strategy):\n    def on_minute(self, view):\n        pass"
    read_strategy(f"{HEAD}import decimal\n{lines}").make({})
    assert decimal.getcontext().prec == 28
    assert set(seen) == {"0." + "3" * 34}


@pytest.mark.parametrize("error", [Stopped, psycopg2.OperationalError, StoreError])
def test_what_ends_a_strategy_from_outside_is_not_its_failure(error: type[Exception]):
    loader = flat("A", 2)
    read = loader.read

    def end(series: Series, *arguments: object, **more: bool) -> bytes:
        if series.source == "bin-pfr":
            raise error
        return read(series, *arguments, **more)

    loader.read = end
    with pytest.raises(error):
        watch("view.value('A', 'pfr')", loader, 2)


def test_params_are_read_by_the_type_of_their_default():
    params = "{'n': 1, 'x': 0.5, 'name': 'a', 'on': True, 'd': Decimal(1)}"
    file = read_strategy(f"{HEAD}class P(Strategy):\n    params = {params}\n    def on_minute(self, view): pass\n")
    read = file.read_params({"n": "7", "x": "2", "on": "false", "d": "0.1"})
    assert read == {"n": 7, "x": 2.0, "name": "a", "on": False, "d": Decimal("0.1")}
    with pytest.raises(ConfigError, match=r"unknown param 'k' of tried\.py: valid are n, x, name, on, d"):
        file.read_params({"k": "1"})
    with pytest.raises(ConfigError, match="param n is 'one': valid is a int"):
        file.read_params({"n": "one"})
    for name, value in (("x", "nan"), ("x", "1e400"), ("d", "-inf")):
        with pytest.raises(ConfigError, match=f"param {name} is '{value}': valid is a "):
            file.read_params({name: value})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "defines one subclass of Strategy; this one: none"),
        ("def f(:\n", "bad.py, line 1: invalid syntax"),
        ("x = 1\nraise KeyError('y')", "bad.py, line 2: KeyError"),
        (f"{HEAD}class A(Strategy):\n    params = {{'a': [1]}}", "params\\['a'\\] is list"),
        (f"{HEAD}class A(Strategy):\n    minutes = 0", "minutes is 0"),
        (f"{HEAD}class A(Strategy):\n    params = 5", r"params is int: valid is a dict such as \{'fast': 20\}"),
        (f"{HEAD}class A(Strategy):\n    params = {{1: 2}}", r"params\[1\]: valid are names as text"),
        (f"{HEAD}class A(Strategy):\n    params = {{'a': float('nan')}}", r"params\['a'\] is nan, not a finite number"),
        (f"{HEAD}class A(Strategy):\n    pass", "bad.py: A has no on_minute"),
        ("import sys\nsys.exit(3)", "bad.py, line 2: SystemExit: 3"),
    ],
)
def test_a_wrong_strategy_file_is_refused(text: str, words: str):
    with pytest.raises(ConfigError, match=words):
        StrategyFile("bad.py", text)


def test_what_is_missing_is_listed_with_the_command_that_fills_it():
    plan = make_plan(read_strategy(f"{HEAD}class A(Strategy):\n    def on_minute(self, view): pass"), ["A"], 1440)
    known = {Series(f"bin-{metric}", "A"): Known((Window(0, LAST_MS),), ()) for metric in ("ohlcv", "fr", "mark")}
    half = START + 12 * HOUR_MS
    known[Series("bin-ohlcv", "A")] = Known((Window(0, half),), ())
    with pytest.raises(MissingData) as raised:
        check_data(plan, known, {"A": (Window(0, LAST_MS),)})
    assert str(raised.value).splitlines() == [
        "data are missing:",
        "bin-ohlcv A 2023-11-15T12:00:00Z .. 2023-11-16T00:00:00Z",
        "fill them with: scripts/seed_backfill.py --exchanges binance --metrics ohlcv --symbols A "
        "--since 2023-11-15T12:00:00Z --until 2023-11-16T00:00:00Z --wait",
    ]
    check_data(plan, known, {"A": (Window(0, half),)})  # delisted by then: nothing is missing


@pytest.mark.parametrize(
    "text",
    [
        '{"A": [[null, "NaN"]]}',
        '{"A": [["5", "NaN"], ["7", "0.1"]]}',
        '{"A": [["NaN", "0.1"], ["7", "0.1"]]}',
        '{"A": [["Infinity", "0.1"]]}',
        '{"A": [["-5", "0.1"], [null, "0.2"]]}',
        '{"A": [["0", "0.1"], [null, "0.2"]]}',
        '{"A": [["7", "0.1"], ["5", "0.2"]]}',
        '{"A": [[true, "0.1"]]}',
        '{"A": [["1e99999", "0.1"]]}',
        '{"A": [[null, "1"]]}',
        '{"A": null}',
        '{"A": []}',
        "[1]",
        "[" * 100_000,
    ],
)
def test_a_wrong_file_of_tiers_is_refused(tmp_path: Path, text: str):
    file = tmp_path / "tiers.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match="tiers"):
        read_tiers_file(file)


def test_numbers_of_tiers_are_read_as_they_are_written(tmp_path: Path):
    file = tmp_path / "tiers.json"
    file.write_text('{"A": [[50000, 0.004], [null, "0.01"]]}')
    assert read_tiers("A", read_tiers_file(file)["A"]) == (
        Tier(Decimal(50000), Decimal("0.004")),
        Tier(None, Decimal("0.01")),
    )


def test_contracts_are_seen_and_traded_within_their_lives():
    lives = {"A": (Window(0, START + 3 * MINUTE_MS + 5),), "B": (Window(START + 2 * MINUTE_MS + 59_999, LAST_MS),)}
    loader = flat("A", 6)
    for series, rows in list(flat("B", 6).rows.items()):
        loader.rows[series] = rows
    body = "return dict.fromkeys(view.symbols, Market(1))"
    text = f"{HEAD}class L(Strategy):\n    def on_minute(self, view):\n        {body}"
    result = run_in_memory(make_plan(read_strategy(text), ["A", "B"], 6), loader, lives)
    minutes = [((row.ts - START) // MINUTE_MS, row.symbol, row.kind, row.reason) for row in result.ledger]
    assert minutes == [
        (1, "A", "fill", "market"),
        (2, "A", "fill", "market"),
        (3, "A", "delisting", "delisted"),
        (3, "A", "rejection", "not_listed"),
        (3, "B", "fill", "market"),
        (4, "B", "fill", "market"),
        (5, "B", "fill", "market"),
    ]


def test_nothing_trades_in_the_minute_of_a_delisting_though_the_next_contract_begins_in_it():
    lives = {"A": (Window(0, START + 2 * MINUTE_MS + 1), Window(START + 2 * MINUTE_MS + 700, LAST_MS))}
    body = "seen.append(view.symbols)\n        return {'A': Market(1)}"
    text = (
        f"{HEAD}from tests.support.markets import SEEN as seen\n"
        f"class L(Strategy):\n    def on_minute(self, view):\n        {body}"
    )
    SEEN.clear()
    result = run_in_memory(make_plan(read_strategy(text), ["A"], 5), flat("A", 5), lives)
    minutes = [((row.ts - START) // MINUTE_MS, row.kind, row.reason) for row in result.ledger]
    assert minutes == [
        (1, "fill", "market"),
        (2, "delisting", "delisted"),
        (2, "rejection", "not_listed"),
        (3, "fill", "market"),
        (4, "fill", "market"),
    ]
    assert SEEN == [("A",), ("A",), (), ("A",), ("A",)]


def test_a_rank_of_the_minute_before_is_among_the_contracts_of_then():
    """The greatest of three ends: the second one crosses."""
    loader = MemoryLoader()
    for n in range(12):
        for symbol, volume in (("A", 10), ("B", 5), ("C", 20)):
            loader.add("bin-ohlcv", symbol, START + n * MINUTE_MS, 100, 100, 100, 100, volume, None, 1, 1)
    whole = (Window(0, LAST_MS),)
    lives = {"A": whole, "B": whole, "C": (Window(0, START + 6 * MINUTE_MS),)}
    plan = make_plan(read_strategy('long = "cross_above(rank(v), 0.7)"', "rank.toml"), ["A", "B", "C"], 12)
    result = run_in_memory(plan, loader, lives)
    assert [(row.kind, row.symbol, (row.ts - START) // MINUTE_MS) for row in result.ledger] == [("fill", "A", 7)]


def test_the_hash_of_a_strategy_is_that_of_its_file(tmp_path: Path):
    content = b'long = "c > 0"\r\n'
    (tmp_path / "crlf.toml").write_bytes(content)
    assert StrategyFile.open(tmp_path / "crlf.toml").sha256 == hashlib.sha256(content).hexdigest()


def test_settlements_of_a_minute_are_found_by_their_time():
    loader = flat("A", 10)
    loader.add("bin-fr", "A", START + 2 * MINUTE_MS + 13, "0.01", 8, "99")
    market = Market(loader, "bin", START, START + 10 * MINUTE_MS, {})
    minute = RunMinute(market, ["A"], Lives({"A": (Window(0, LAST_MS),)}), {})
    minute.move(START + 2 * MINUTE_MS)
    assert minute.list_settlements("A") == [Settlement(START + 2 * MINUTE_MS + 13, Decimal("0.01"), Decimal(99))]


TRADER = f"""{HEAD}
class Trader(Strategy):
    params = {{"n": 20}}

    def on_minute(self, view):
        orders = {{}}
        for place, symbol in enumerate(view.symbols):
            closes = view.rows(symbol, "c", self.n)
            if None in closes:
                continue
            last, mean = closes[-1], sum(closes) / self.n
            side = 1 if last > mean else -1
            if view.ts // 60_000 % 7 == place:
                held = view.position(symbol)
                orders[symbol] = [
                    Target(side * 0.4),
                    Stop(-held, last * (1 - side * Decimal("0.004")), reduce=True),
                    Limit(-held, last * (1 + side * Decimal("0.004")), reduce=True),
                ] if held else Target(side * 0.4)
        return orders
"""


def test_a_run_repeats_to_the_byte_and_its_report_adds_up():
    plan = make_plan(read_strategy(TRADER), ["A", "B"], 1500, params={"n": "15"})
    first, second = (run_in_memory(plan, draw_market(["A", "B"], 1500, holes=0.02)) for _ in range(2))
    assert len(first.ledger) > 300
    assert first.sha256 == second.sha256
    assert write_ledger(first.ledger) == write_ledger(second.ledger)
    report = make_report(first, plan.capital, {"A": 0.1, "B": None})
    assert Decimal(report["profit"]) == sum(Decimal(parts["profit"]) for parts in report["by_symbol"].values())
    profits = [Decimal(t["profit"]) for t in report["trades_list"] if t["profit"] is not None]
    held = {s for s, parts in report["by_symbol"].items() if parts["position"] != "0"}
    closed = sum(profits) + sum(
        (_open_profit(first, t) for t in report["trades_list"] if t["profit"] is None), Decimal(0)
    )
    assert held == {t["symbol"] for t in report["trades_list"] if t["closed"] is None}
    assert abs(closed - Decimal(report["profit"])) < Decimal("1E-9")


def test_a_report_counts_large_accounts_to_the_last_digit():
    loader = flat("A", 3)
    for ts, (interval, o, h, l, *_) in list(loader.rows[Series("bin-mark", "A")].items()):  # noqa: E741
        loader.rows[Series("bin-mark", "A")][ts] = (interval, o, h, l, "100.123456789012345678")
    text = f"{HEAD}class L(Strategy):\n    def on_minute(self, view):\n        return {{'A': Market(123456789)}}"
    plan = make_plan(read_strategy(text), ["A"], 3, capital="1e12")
    result = run_in_memory(plan, loader)
    report = make_report(result, plan.capital, {})
    last = result.equity.lines.splitlines()[-1].split("\t")[1]
    assert report["equity"] == last
    assert report["by_symbol"]["A"]["profit"] == report["profit"]


def _open_profit(result: Result, trade: dict[str, str]) -> Decimal:
    """Return what an open trade has earned so far: all of its symbol less what its closed trades did."""
    rows = [row for row in result.ledger if row.symbol == trade["symbol"] and row.ts >= int(trade["opened"])]
    position = result.account.positions[trade["symbol"]]
    turned = rows[0].position - (rows[0].quantity or 0) if rows[0].kind == "fill" else Decimal(0)
    assert rows[0].price is not None
    assert rows[0].quantity
    share = abs(rows[0].position / rows[0].quantity)
    first = -rows[0].position * rows[0].price - rows[0].fee * share if turned else rows[0].amount - rows[0].fee
    return first + sum((row.amount - row.fee for row in rows[1:]), Decimal(0)) + position.quantity * position.price


def test_a_hole_fills_and_decides_nothing():
    drawn = random.Random(5)
    for seed in range(10):
        loader = draw_market(["A", "B"], 200, seed, holes=0.3)
        result = run_in_memory(make_plan(read_strategy(TRADER), ["A", "B"], 200, params={"n": "3"}), loader)
        stored = {symbol: set(loader.rows[Series("bin-ohlcv", symbol)]) for symbol in ("A", "B")}
        fills = [row for row in result.ledger if row.kind == "fill"]
        assert all(row.ts in stored[row.symbol] for row in fills)
        expired = [row for row in result.ledger if row.reason == "no_candle"]
        assert all(row.ts not in stored[row.symbol] for row in expired)
        assert drawn
        assert fills
        assert expired


def test_a_year_is_let_go_as_it_passes():
    loader = MemoryLoader()
    market = Market(loader, "bin", START, START + 40 * DAY_MS, {})
    bars = market.get_bars("ohlcv", "A")
    for day in range(40):
        market.move(START + day * DAY_MS)
        bars.read_day("c", day)
    assert len(bars._tables) <= 4
    assert len(bars._days["c"]) <= 3


def run_rules(
    text: str, closes: Sequence[Decimal | int | None]
) -> list[tuple[int, str, str, Decimal | None, Decimal | None]]:
    """Run rules over minutes whose four prices are the close; return (minute, kind, reason, quantity, price)."""
    loader = MemoryLoader()
    for n, close in enumerate(closes):
        if close is not None:
            loader.add("bin-ohlcv", "A", START + n * MINUTE_MS, close, close, close, close, 1_000_000)
    plan = make_plan(
        StrategyFile("rules.toml", text), ["A"], len(closes), conditions={"slippage": Decimal(0), "taker": Decimal(0)}
    )
    result = run_in_memory(plan, loader)
    return [((r.ts - START) // MINUTE_MS, r.kind, r.reason, r.quantity, r.price) for r in result.ledger]


def test_rules_change_the_side_without_rebalancing():
    rules = 'long = "c > 105"\nshort = "c < 95"\nexit = "c == 100"\nsize = 0.5'
    assert run_rules(rules, [100, 110, 110, 120, 90, 90, 100, 100]) == [
        (2, "fill", "target", Decimal("45.45454545"), 110),
        # equity 5000.0000005 + 45.45454545 x 90 = 9090.909091, half of it short is 50.50505050 coins
        (5, "fill", "target", Decimal("-95.95959595"), 90),
        (7, "fill", "target", Decimal("50.5050505"), 100),
    ]


def test_stop_and_take_are_sent_when_a_position_is_opened():
    rules = 'long = "c == 110"\nstop = "2%"\ntake = "10%"'
    ledger = run_rules(rules, [100, 110, 100, 100, 108, 111, 112, 112])
    # bought at 100 in minute 2; the take at 110 is passed in minute 5; the stop ends when there is nothing to reduce
    assert [(minute, kind, reason, price) for minute, kind, reason, _, price in ledger] == [
        (2, "fill", "target", 100),
        (5, "fill", "limit", 110),
    ]


@pytest.mark.parametrize(
    ("take", "ends"), [("99%", (4, "limit", 1)), ("100%", (6, "stop", 150)), (7, (6, "stop", 150))]
)
def test_a_take_that_no_price_can_reach_is_left_out(take: object, ends: tuple[int, str, int]):
    rules = f'short = "c == 110"\nstop = "50%"\ntake = {take!r}'
    ledger = run_rules(rules, [100, 110, 100, 100, Decimal("0.9"), 100, 150, 100])
    assert [(minute, reason, price) for minute, _, reason, _, price in ledger] == [(2, "target", 100), ends]


def test_an_unknown_rule_decides_nothing():
    rules = 'long = "sma(c, 2m) > 0"\nexit = "c < 100"'
    ledger = run_rules(rules, [100, None, 100, None, 100, 100, 100])
    assert [minute for minute, *_ in ledger] == [6]


def check_holes(seeds: range) -> None:
    """Run rules over markets with holes: all fills, and all minutes that decided them, are stored ones."""
    filled = expired = 0
    for seed in seeds:
        drawn = random.Random(seed)
        closes = [None if drawn.random() < 0.3 else drawn.randrange(95, 106) for _ in range(40)]
        for minute, kind, reason, _, _ in run_rules('long = "c > 101"\nshort = "c < 99"\nexit = "c == 100"', closes):
            assert closes[minute - 1] is not None, (seed, minute)
            assert (closes[minute] is None) == (reason == "no_candle"), (seed, minute, kind)
            filled, expired = filled + (kind == "fill"), expired + (reason == "no_candle")
    assert filled > len(seeds)
    assert expired > len(seeds)


def test_rules_decide_and_fill_in_stored_minutes_alone():
    check_holes(range(30))


@pytest.mark.full
def test_rules_decide_and_fill_in_stored_minutes_alone_in_ten_thousand_runs():
    check_holes(range(10_000))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("long = 1", "rules.toml: long is 1: valid is an expression"),
        ('long = "c >"', "rules.toml: long: "),
        ('long = "c"', "has to be true or false"),
        ('exit = "c > 1"', "one of long and short is required"),
        ('long = "c > 1"\nsizes = 1', "unknown key 'sizes': valid are long, short, exit, size, stop, take, params"),
        ('long = "c > 1"\nstop = "much"', "stop is 'much'"),
        ("size = " + "9" * 5_000, "rules.toml: "),
        ('long = "c > 1"\nsize = "1e99999"', "size is '1e99999'"),
        ('long = "c > {x:>99999999999}"\n[params]\nx = 1', "long: names in braces are params, such as {fast}: 'x:>9"),
        ('long = "c > {x}"\n[params]\nx = ' + "9" * 5000, "rules.toml: .*4300 digits"),
    ],
)
def test_wrong_rules_are_refused(text: str, words: str):
    with pytest.raises(ConfigError, match=words):
        StrategyFile("rules.toml", text)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("size", "-1", "size is '-1': valid are numbers above 0"),
        ("size", "0", "size is '0': valid are numbers above 0"),
        ("stop", "2", "stop is '2'"),
        ("take", "-0.1", "take is '-0.1'"),
        ("n", "0", "rules.toml: long: "),
        ("n", "-3", "rules.toml: long: "),
    ],
)
def test_wrong_params_of_rules_are_refused_before_the_run(name: str, value: str, words: str):
    rules = StrategyFile("rules.toml", 'long = "sma(c, {n}m) > c"\nstop = "2%"\n[params]\nn = 5\n')
    assert rules.read_params({"stop": "3%", "size": "0.5"})["stop"] == Decimal("0.03")
    with pytest.raises(ConfigError, match=words):
        rules.read_params({name: value})


def test_a_strategy_that_exits_has_failed():
    with pytest.raises(StrategyFailed, match=r"tried\.py, line 5: SystemExit: 3"):
        watch_exit = f"{HEAD}class L(Strategy):\n    def on_minute(self, view):\n        raise SystemExit(3)"
        run_in_memory(make_plan(read_strategy(watch_exit), ["A"], 2), flat("A", 2))
