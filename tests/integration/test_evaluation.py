"""Evaluation on PostgreSQL: what live evaluation saw is what a replay sees, also where rows came late."""

import random
from decimal import Decimal as D

import pytest

from fademoe.clock import MINUTE_MS, Window
from fademoe.evaluation import LiveEngine, Watch, engine, replay
from fademoe.evaluation.blocks import fits_blocks
from fademoe.evaluation.board import Board, collect_reads
from fademoe.evaluation.engine import MAX_LATE_MINUTES
from fademoe.evaluation.reading import read_versions
from fademoe.expressions import Vocabulary, compile_expression, compile_message
from fademoe.feeds import registry
from fademoe.metrics import Candle, Funding, Liquidations, OpenInterest
from fademoe.store import coverage
from fademoe.store.arrivals import LIVE
from fademoe.store.connection import Database
from fademoe.store.coverage import Covered, Series
from fademoe.store.partitions import Partitions
from fademoe.store.writer import Batch, Writer

START = 1_795_694_400_000
HOUR = 60 * MINUTE_MS
SYMBOLS = ("BTC", "ETH", "SOL")
CODES = ("bin", "byb")
TEXTS = (
    "chg(c, 3m) > 0.1%",
    "c > sma(c, 5m)",
    "chg(oi, 15m) > 0 or oi > 105",
    "sum(lql, 4m) > 20",
    "cross_above(c, sma(c, 3m))",
    "rank(chg(c, 2m)) > 0.5",
    "byb.c > bin.c and fr > 0",
    "sum(fr, 1d) >= 0 and annual(fr) < 1",
    "x.spread_bps > 10 and vwap > 0",
    "oi_chg > 0",
    "sum(oi_chg, 10m) > 0 or x.oi > 210",
    "x.lql > 10 and x.oi > lag(x.oi, 5m)",
)


@pytest.fixture
def words():
    return Vocabulary.build(registry.list_perpspecs())


def watches(words, texts=TEXTS, symbols=None):
    return [Watch(text, compile_expression(text, words, truth=True), None, CODES, symbols) for text in texts]


class Market:
    """Writes rows of a made-up market, each at the minute in which it arrives."""

    def __init__(self, database, seed):
        self.random = random.Random(seed)
        self.writer = Writer(database)
        self.close = {}
        self.waiting = []  # (minute of arrival, batch, covered)
        with database.open_transaction() as cursor:
            for code, name in (("bin", "binance"), ("byb", "bybit")):
                cursor.executemany(
                    "INSERT INTO perp_lives (exchange, code, instrument, symbol, listed_ms)"
                    " VALUES (%s, %s, %s, %s, %s)",
                    [(name, code, f"{symbol}USDT", symbol, START - 40 * HOUR) for symbol in SYMBOLS],
                )
                for metric in ("ohlcv", "oi", "lq", "fr"):
                    series = [Series(f"{code}-{metric}", symbol) for symbol in SYMBOLS]
                    coverage.want(cursor, series, START - 40 * HOUR, None)

    def arrive(self, minute, delay):
        """Make the rows of a minute; `delay` in minutes says when each arrives, None never."""
        for code in CODES:
            for symbol in SYMBOLS:
                close = self.close.get((code, symbol), 100.0) + self.random.choice((-0.2, 0, 0.1, 0.2))
                self.close[code, symbol] = close
                text = f"{close:.1f}"
                candle = Candle(minute, text, text, text, text, "1")
                self._queue(minute, delay(), code, "ohlcv", "1m", symbol, [candle], minute)
                events = [Liquidations(minute, "10", "0")] if self.random.random() < 0.4 else []
                self._queue(minute, delay(), code, "lq", "1m", symbol, events, minute)
                sample = OpenInterest(minute + MINUTE_MS, f"{100 + self.random.random() * 10:.2f}")
                # a live row far later than others is recorded by name in perp_arrivals, which needs a real clock
                self._queue(minute + MINUTE_MS, 0 if delay() == 0 else None, code, "oi", "1m", symbol, [sample], None)
                if minute % (5 * MINUTE_MS) == 0:
                    exact = OpenInterest(minute, f"{100 + self.random.random() * 10:.2f}", "5000")
                    self._queue(minute + 4 * MINUTE_MS, delay(), code, "oi", "5m", symbol, [exact], minute)
                if minute % (8 * HOUR) == 0:
                    settled = Funding(minute, "0.0001", 8)
                    self._queue(minute + 10 * MINUTE_MS, 0, code, "fr", "settlement", symbol, [settled], None)

    def _queue(self, minute, delay, code, metric, interval, symbol, rows, covered_ms):
        if delay is None:
            return
        series = Series(f"{code}-{metric}", symbol)
        span = 5 * MINUTE_MS if interval == "5m" else MINUTE_MS
        windows = [Window(covered_ms, covered_ms + span)] if covered_ms is not None else []
        batch = Batch(metric, interval, {series: rows})
        self.waiting.append((minute + delay * MINUTE_MS, batch, [Covered(series, windows)] if windows else []))

    def store(self, until):
        due = [item for item in self.waiting if item[0] <= until]
        self.waiting = [item for item in self.waiting if item[0] > until]
        for _, batch, covered in due:
            self.writer.write([batch], covered, LIVE)


def flatten(minute):
    return {
        (result.watch.key, *place): truth
        for result in minute.results
        for place, truth in zip(result.places, result.expr, strict=True)
    }


def run_live(database, market, rules, first, last, delay, restarts=()):
    seen, live, answers, evaluated = None, LiveEngine(rules), {}, {}
    for minute in range(first, last, MINUTE_MS):
        if minute in restarts:
            live = LiveEngine(rules, seen)
        market.arrive(minute, delay)
        market.store(minute)
        with database.open_transaction() as cursor:
            result = live.evaluate(cursor, minute)
        answers[minute], evaluated[minute] = flatten(result), result.evaluated_ms
        seen = result.evaluated_ms
    return answers, evaluated


def replayed(database, rules, first, last, evaluated, **options):
    with database.open_transaction() as cursor:
        return {minute.minute: flatten(minute) for minute in replay(cursor, rules, first, last, evaluated, **options)}


def fits(rule):
    return fits_blocks([rule], collect_reads((one, rule.codes) for one in rule.readers).values())


def test_replay_equals_live_where_rows_come_late_or_never(database, words, monkeypatch):
    market = Market(database, 1)
    rules = watches(words)
    chance = random.Random(1)

    def delay():
        return chance.choices((0, 1, 2, 7, None), (80, 6, 5, 5, 4))[0]

    for minute in range(START - 20 * MINUTE_MS, START, MINUTE_MS):
        market.arrive(minute, delay)
        market.store(minute)
    last = START + 34 * MINUTE_MS
    live, evaluated = run_live(
        database, market, rules, START, last, delay, {START + 11 * MINUTE_MS, START + 26 * MINUTE_MS}
    )
    market.store(last + HOUR)
    again = replayed(database, rules, START, last, evaluated)
    differing = [
        (minute, key, truth, again[minute][key])
        for minute, truths in live.items()
        for key, truth in truths.items()
        if truth is not again[minute][key]
    ]
    assert differing == []
    everything = replayed(database, rules, START, last, evaluated, knows_all=True)
    assert everything != again  # what came late would have changed something
    for rule in rules:  # many minutes at once are the same as one after the other
        with monkeypatch.context() as patch:
            patch.setattr(engine, "choose_minutes", lambda *_: 13)
            at_once = replayed(database, [rule], START, last, {})
            patch.setattr(engine, "fits_blocks", lambda *_: False)
            assert at_once == replayed(database, [rule], START, last, {}), rule.key
    assert [rule.key for rule in rules if not fits(rule)] == [TEXTS[2], TEXTS[5], *TEXTS[-3:]]
    counts = {
        truth: sum(t is truth for truths in live.values() for t in truths.values()) for truth in (True, False, None)
    }
    assert min(counts.values()) > 100


class Given(Market):
    """A market of the rows that a test queues."""

    def arrive(self, minute, delay):
        pass


@pytest.mark.parametrize(("restarts", "part_ms"), [((), 0), ((), 17), ((3,), 0), ((3,), 17), ((4, 6), 17)])
def test_what_another_exchange_does_not_list_is_unknown_there(database, words, monkeypatch, restarts, part_ms):
    """BTC leaves Bybit in minute 3, ETH comes in minute 5, and rows of both are there in all minutes."""
    market = Given(database, 2)
    with database.open_transaction() as cursor:
        set_time = "UPDATE perp_lives SET {} = %s WHERE code = 'byb' AND symbol = %s"
        cursor.execute(set_time.format("delisted_ms"), (START + 3 * MINUTE_MS + part_ms, "BTC"))
        cursor.execute(set_time.format("listed_ms"), (START + 5 * MINUTE_MS + part_ms, "ETH"))
    for minute in range(START - 9 * MINUTE_MS, START + 9 * MINUTE_MS, MINUTE_MS):
        for symbol in SYMBOLS:
            for code, close in (("bin", "100"), ("byb", "101" if minute < START + 4 * MINUTE_MS else "99")):
                market._queue(minute, 0, code, "ohlcv", "1m", symbol, [Candle(minute, *[close] * 4, "1")], minute)
            sample = OpenInterest(minute, "5")
            market._queue(minute, 0, "byb", "oi", "1m", symbol, [sample], None)
    for symbol in SYMBOLS:
        settled = Funding(START - 2 * HOUR, "0.0001", 8)
        market._queue(START - HOUR, 0, "byb", "fr", "settlement", symbol, [settled], None)
    market.store(START - MINUTE_MS)
    texts = ("byb.oi > 0", "byb.fr > 0", "lag(byb.c, 4m) > 0", "sum(byb.v, 3m) == 3")
    above, below = "cross_above(byb.c, bin.c)", "cross_below(byb.c, bin.c)"
    rules = [watch._replace(codes=("bin",)) for watch in watches(words, (*texts, above, below), ("BTC", "ETH"))]
    last = START + 9 * MINUTE_MS
    begins = {START + number * MINUTE_MS for number in restarts}
    live, evaluated = run_live(database, market, rules, START, last, None, begins)

    def spell(text, symbol):
        words = {True: "+", False: "-", None: "?"}
        return "".join(words[live[minute][text, "bin", symbol]] for minute in sorted(live))

    for text in texts:
        assert (spell(text, "BTC"), spell(text, "ETH")) == ("+++??????", "?????++++"), text
    assert spell(above, "BTC") == "----?????"  # it was above a minute before: false, whatever it is now
    assert spell(below, "ETH") == "??????---"
    assert replayed(database, rules, START, last, evaluated) == live
    for first in (3, 4, 5, 6):
        first_ms = START + first * MINUTE_MS
        later = {minute: truths for minute, truths in live.items() if minute >= first_ms}
        assert replayed(database, rules, first_ms, last, evaluated) == later, first
    for rule in rules:
        own = {minute: {key: truth for key, truth in of.items() if key[0] == rule.key} for minute, of in live.items()}
        assert replayed(database, [rule], START, last, {}) == own, rule.key
        with monkeypatch.context() as patch:
            patch.setattr(engine, "choose_minutes", lambda *_: 2)
            assert replayed(database, [rule], START, last, {}) == own, rule.key


@pytest.mark.parametrize("restarts", [(), (2, 6), (4, 5)])
def test_a_derived_value_changes_with_the_sample_that_it_is_computed_from(database, words, restarts):
    market = Given(database, 2)
    texts = ("oi_chg == 10", "oi_chg == 4", "sum(oi_chg, 5m) == 4", "x.oi == 220", "x.oi == 214", "oi_chg == -4")
    rules = watches(words, texts, ("BTC",))

    def sample(minute, mark, value, interval, code="bin"):
        at, ts = (START + number * MINUTE_MS for number in (minute, mark))
        batch = Batch("oi", interval, {Series(f"{code}-oi", "BTC"): [OpenInterest(ts, value)]})
        market.waiting.append((at, batch, []))

    for code in CODES:
        sample(0, 0, "100", "5m", code)
        sample(5, 5, "110", "1m", code)
    sample(9, 5, "104", "5m")
    sample(10, 10, "100", "1m")
    last = START + 13 * MINUTE_MS
    begins = {START + (5 + number) * MINUTE_MS for number in restarts}
    live, evaluated = run_live(database, market, rules, START, last, None, begins)
    seen = {text: [(m - START) // MINUTE_MS for m in live if live[m][text, "bin", "BTC"]] for text in texts}
    assert seen == {
        "oi_chg == 10": [5, 6, 7, 8],
        "oi_chg == 4": [9],
        "sum(oi_chg, 5m) == 4": [9],
        "x.oi == 220": [5, 6, 7, 8],
        "x.oi == 214": [9, 10, 11, 12],
        "oi_chg == -4": [10, 11, 12],
    }
    assert replayed(database, rules, START, last, evaluated) == live
    assert replayed(database, rules, START + 9 * MINUTE_MS, last, evaluated) == {
        minute: truths for minute, truths in live.items() if minute >= START + 9 * MINUTE_MS
    }


@pytest.mark.parametrize("restarts", [(), (3, 5), (9,)])
def test_a_value_across_exchanges_is_known_when_the_slowest_of_its_rows_is(database, words, restarts):
    """A live sample of one exchange and a statistic of another; then a live sample gives way beside a statistic."""
    market = Given(database, 2)
    rules = watches(words, ("x.oi == 220", "x.oi == 300", "x.oi == 301"), ("BTC",))
    for minute, mark, code, value, interval in (
        (5, 5, "bin", "110", "1m"),
        (6, 5, "byb", "110", "5m"),
        (10, 10, "bin", "150", "1m"),
        (11, 10, "byb", "150", "5m"),
        (13, 10, "bin", "151", "5m"),
    ):
        at, ts = (START + number * MINUTE_MS for number in (minute, mark))
        batch = Batch("oi", interval, {Series(f"{code}-oi", "BTC"): [OpenInterest(ts, value)]})
        market.waiting.append((at, batch, []))
    first, last = START + 5 * MINUTE_MS, START + 22 * MINUTE_MS
    begins = {first + number * MINUTE_MS for number in restarts}
    live, evaluated = run_live(database, market, rules, first, last, None, begins)
    seen = {text: [(m - START) // MINUTE_MS for m in live if live[m][text, "bin", "BTC"]] for text, *_ in rules}
    assert seen == {"x.oi == 220": [14, 15, 16, 17, 18], "x.oi == 300": [], "x.oi == 301": [19, 20, 21]}
    assert replayed(database, rules, first, last, evaluated) == live
    before = {minute: truths for minute, truths in live.items() if minute < START + 19 * MINUTE_MS}
    assert replayed(database, rules, first, START + 19 * MINUTE_MS, {}) == before  # 570 s after the mark, too


def test_every_derived_metric_is_read_as_it_was_before_a_correction(database, words):
    rows = {
        "ohlcv": ("o, h, l, c, v, qv, n, tbv", "1, 1, 1, {0}, 2, {0}, 1, {0}", "1m", MINUTE_MS, "c"),
        "oi": ("oi, oi_usd", "{0}, 5", "5m", 5 * MINUTE_MS, "oi"),
        "fr": ("fr, fr_hours", "{0}, 8", "settlement", 8 * HOUR, "fr"),
        "lq": ("lql, lqs", "{0}, 1", "1m", MINUTE_MS, "lql"),
    }
    Given(database, 2)
    Partitions(database).ensure(Window(START - 24 * HOUR, START + HOUR))
    with database.open_transaction() as cursor:
        covered = f"{{[{START - 40 * HOUR},{START + HOUR})}}"
        cursor.execute("UPDATE perp_coverage SET covered = %s::int8multirange", (covered,))
        for metric, (columns, values, interval, step, changed) in rows.items():
            for code in CODES:
                for ts, value in ((START - step, 3), (START, 4)):
                    cursor.execute(
                        f"INSERT INTO perp_data (ts, symbol, source, interval, {columns})"
                        f" VALUES (%s, 'BTC', %s, %s, {values.format(value)})",
                        (ts, f"{code}-{metric}", interval),
                    )
            cursor.execute(
                'INSERT INTO perp_corrections (at, source, symbol, ts, "column", old_value, new_value)'
                " VALUES (to_timestamp(%s), %s, 'BTC', %s, %s, 9, 4)",
                (START / 1000 + 3600, f"bin-{metric}", START, changed),
            )
        texts = ("cvd", "vwap", "fr_apr", "oi_chg", "x.oi", "x.fr_1h", "x.lql", "x.spread_bps")
        for text in texts:
            rule = watches(words, [f"{text} > 1"], ("BTC",))[0]._replace(codes=("bin",))
            (table,) = Board(collect_reads([(rule.expr, rule.codes)]).values(), START).tables
            versions = read_versions(cursor, table, ["BTC"], Window(START, START + 1))
            place = table.columns.index(rule.expr.needs.columns[0].measure.column)
            seen = [(version.seen_ms, version.values[place]) for version in versions]
            assert [at for at, _ in seen] == [0, START + HOUR], text
            assert (seen[0][1] == seen[1][1]) == (text in ("cvd", "vwap")), text  # only the close was another


def test_a_sample_between_the_marks_is_not_late_when_it_is_forgotten(database, words):
    market = Given(database, 2)
    rules = watches(words, ["oi > 1"], ("BTC",))
    for number in (1, 2, 40):
        ts = START + number * MINUTE_MS
        market.waiting.append((ts, Batch("oi", "1m", {Series("bin-oi", "BTC"): [OpenInterest(ts, "5")]}), []))
    run_live(database, market, rules, START, START + 42 * MINUTE_MS, None)
    with database.open_transaction() as cursor:
        cursor.execute("SELECT * FROM perp_late")
        assert cursor.fetchall() == []


@pytest.mark.parametrize(
    ("read", "text", "ago"), [("read_rows", "lql == 0", 1), ("read_long", "sum(lql, 40m) == 0", 30)]
)
def test_a_minute_that_is_stored_while_it_is_read_is_no_zero(
    database, database_url, words, monkeypatch, read, text, ago
):
    """A row and its coverage are committed right after the rows were read: the minute is not one without events."""
    other = Database(database_url)
    market = Given(other, 2)
    row_ms = START - ago * MINUTE_MS
    for minute in range(START - 45 * MINUTE_MS, START + MINUTE_MS, MINUTE_MS):
        events = [Liquidations(minute, "10", "0")] if minute == row_ms else []
        at = 0 if minute != row_ms else (START - minute) // MINUTE_MS + 60
        market._queue(minute, at, "bin", "lq", "1m", "BTC", events, minute)
    market.store(START)

    original = vars(engine)[read]

    def read_and_store(cursor, table, wanted):
        found = original(cursor, table, wanted)
        market.store(START + HOUR)
        return found

    rules = [rule._replace(codes=("bin",)) for rule in watches(words, [text], ("BTC",))]
    with monkeypatch.context() as patch, database.open_transaction() as cursor:
        patch.setattr(engine, read, read_and_store)
        (truth,) = flatten(LiveEngine(rules).evaluate(cursor, START)).values()
    assert market.waiting == []
    assert truth is not True
    with database.open_transaction() as cursor:
        assert flatten(LiveEngine(rules).evaluate(cursor, START)) == {(text, "bin", "BTC"): False}
    other.close()


def test_values_and_messages_of_a_result(database, words):
    market = Market(database, 3)
    rules = watches(words, ["chg(close, 3m) > 1%"], ("BTC",))
    for minute in range(START - 5 * MINUTE_MS, START, MINUTE_MS):
        market.arrive(minute, lambda: 0)
        market.store(minute)
    live = LiveEngine(rules)
    with database.open_transaction() as cursor:
        assert live.list_missing(cursor, START) == [("bin-ohlcv", "BTC"), ("byb-ohlcv", "BTC")]
    market.arrive(START, lambda: 0)
    market.store(START)
    with database.open_transaction() as cursor:
        assert live.list_missing(cursor, START) == []
        (result,) = live.evaluate(cursor, START).results
        place = result.places[0]
        values = result.read_values(place)
        text = result.fill(compile_message("{symbol} {close:.1f}", words), place, {"symbol": "BTC"})
    assert place == ("bin", "BTC")
    assert D(values["close"]) == D(f"{market.close['bin', 'BTC']:.1f}")
    assert set(values) == {"chg(close, 3m)", "close"}
    with database.open_transaction() as cursor:  # a name that stands in a function only is told, too
        alone = LiveEngine(watches(words, ["chg(oi, 5m) > 900"], ("BTC",))).evaluate(cursor, START).results[0]
        assert alone.read_values(place)["oi"] is not None
    assert text == f"BTC {market.close['bin', 'BTC']:.1f}"


def test_a_series_that_was_late_is_waited_for_as_soon_as_it_is_on_time(database, words):
    market = Market(database, 5)
    live = LiveEngine(watches(words, ["bin.close > 1"], ("BTC",)))
    for number in range(7):
        minute = START + number * MINUTE_MS
        with database.open_transaction() as cursor:
            waited = live.list_missing(cursor, minute)
            assert bool(waited) == (number not in (MAX_LATE_MINUTES, MAX_LATE_MINUTES + 1)), number
        if number > MAX_LATE_MINUTES + 1:
            market.arrive(minute, lambda: 0)
            market.store(minute)
        with database.open_transaction() as cursor:
            live.evaluate(cursor, minute)
        if number == MAX_LATE_MINUTES + 1:
            market.arrive(minute, lambda: 0)
            market.store(minute)  # nobody waited, but it has come in time
        with database.open_transaction() as cursor:
            live.note_recovered(cursor, minute)
