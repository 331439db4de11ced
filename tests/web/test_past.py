"""Rows as of a moment: what a copy of the database taken then has, and what a live client could know."""

import time
from urllib.parse import quote

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Window, now_ms, to_iso
from fademoe.metrics import Candle, OpenInterest
from fademoe.store import corrections
from fademoe.store.arrivals import HISTORY, LIVE, Origin, Way
from fademoe.store.corrections import Difference
from fademoe.store.coverage import Covered, Series
from fademoe.store.writer import Batch, Writer
from tests.support.clocks import settled_end

START = settled_end(HOUR_MS) - 3 * DAY_MS
BTC, ETH, OI = Series("bin-ohlcv", "BTC"), Series("bin-ohlcv", "ETH"), Series("bin-oi", "BTC")


def write(database, series, metric, interval, rows, origin=HISTORY):
    covered = [Covered(series, [Window(row.ts, row.ts + 1) for row in rows])]
    return Writer(database).write([Batch(metric, interval, {series: rows})], covered, origin)


def candles(minutes, close="1.50"):
    return [Candle(START + i * MINUTE_MS, "1.0", "2", "0.5", close, "10", "15", i, None) for i in minutes]


def samples(minutes, coins, usd=None):
    return [OpenInterest(START + i * MINUTE_MS, coins, usd) for i in minutes]


def read(client, perpspec, **parameters):
    query = "&".join(f"{name}={quote(str(value))}" for name, value in parameters.items())
    answer = client.get(f"/api/data/{perpspec}?order=asc&limit=1000&{query}")
    assert answer.status_code == 200, answer.data
    return answer.get_json()


def take_copy(client, perpspec, **parameters):
    """Return the time, and all rows of a perpspec as they are now."""
    time.sleep(0.01)  # times are in ms: what is stored now is stored before the time that is returned
    at_ms, rows = now_ms(), read(client, perpspec, **parameters)["rows"]
    time.sleep(0.01)
    return at_ms, rows


def test_recorded_rows_are_those_of_a_copy_taken_then(client, database):
    """Live rows, history over and between them, corrections twice, an audit and a file.

    Of live rows the greatest lag of their minute counts, so each minute is of one symbol here.
    """
    perpspecs = ("bin-ohlcv", "bin-oi", "bin-vwap", "bin-oi_chg")
    copies = {(perpspec, length): [] for perpspec in perpspecs for length in ("", "15m", "1h")}

    def step(work):
        work()
        for (perpspec, length), taken in copies.items():
            taken.append(take_copy(client, perpspec, step=length))

    def correct(series, ts, column, old, new, interval="1m"):
        database.run(lambda cursor: corrections.correct(cursor, series, interval, [Difference(ts, column, old, new)]))

    def audit():
        rows = candles([50, 51], "7")
        database.run(lambda cursor: corrections.record_missing(cursor, BTC, [row.ts for row in rows]))
        write(database, BTC, "ohlcv", "1m", rows, Origin(Way.AUDIT))

    step(lambda: None)
    step(lambda: write(database, BTC, "ohlcv", "1m", candles([10, 11, 30]), LIVE))
    step(lambda: write(database, ETH, "ohlcv", "1m", candles([12, 13]), LIVE))
    step(lambda: write(database, OI, "oi", "1m", samples(range(12), "10"), LIVE))
    step(lambda: write(database, BTC, "ohlcv", "1m", candles(range(40))))
    step(lambda: write(database, OI, "oi", "5m", samples(range(0, 30, 5), "11.0", "99")))
    step(lambda: correct(BTC, START + 10 * MINUTE_MS, "c", "1.50", "1.7"))
    step(lambda: correct(BTC, START + 10 * MINUTE_MS, "c", "1.7", "1.80"))
    step(lambda: correct(BTC, START + 20 * MINUTE_MS, "tbv", None, "3"))
    step(lambda: correct(OI, START, "oi", "11.0", "12"))
    step(audit)
    step(lambda: write(database, BTC, "ohlcv", "1m", candles(range(40, 200)), Origin(Way.ARCHIVE, 1)))
    for (perpspec, length), taken in copies.items():
        for at_ms, rows in taken:
            body = read(client, perpspec, as_of=at_ms, knowledge="recorded", step=length)
            assert body["rows"] == rows, (perpspec, length)
            assert (body["knowledge"], body["basis"]) == ("recorded", "measured")
    first = copies["bin-oi", ""][4][0]
    assert read(client, "bin-oi", as_of=first, knowledge="recorded")["rolled_back"] == 6, "three of two columns"


def test_a_page_of_the_past_is_followed_by_the_next(client, database):
    write(database, BTC, "ohlcv", "1m", candles(range(0, 40, 2)))
    at_ms, rows = take_copy(client, "bin-ohlcv")
    write(database, BTC, "ohlcv", "1m", candles(range(40)))
    found, cursor = [], ""
    while cursor is not None:
        body = client.get(f"/api/data/bin-ohlcv?order=asc&limit=7&as_of={at_ms}&knowledge=recorded&cursor={cursor}")
        found += body.get_json()["rows"]
        cursor = body.get_json()["next"]
    assert found == rows


def test_the_market_knows_a_row_after_its_lag(client, database):
    """A bar at ts + 60 s + 2 s, a statistic at ts + 201 s; that they were fetched days later does not matter."""
    write(database, BTC, "ohlcv", "1m", candles(range(30)))
    write(database, OI, "oi", "5m", samples(range(0, 30, 5), "11"))
    ts = START + 10 * MINUTE_MS

    def newest(perpspec, at_ms):
        body = read(client, perpspec, as_of=to_iso(at_ms))
        assert (body["knowledge"], body["basis"], body["rolled_back"]) == ("market", "rule", 0)
        return body["rows"][-1]["ts"]

    assert newest("bin-ohlcv", ts + 62 * SECOND_MS) == ts
    assert newest("bin-ohlcv", ts + 62 * SECOND_MS - 1) == ts - MINUTE_MS
    assert newest("bin-oi", ts + 201 * SECOND_MS) == ts
    assert newest("bin-oi", ts + 201 * SECOND_MS - 1) == ts - 5 * MINUTE_MS
    assert read(client, "bin-ohlcv", as_of=ts, knowledge="recorded")["rows"] == []


def test_the_market_knew_the_sample_before_the_statistic(client, database):
    """What came live is known at once, with the value and the interval of then."""
    write(database, OI, "oi", "1m", samples([0], "10"), LIVE)
    at_ms, _ = take_copy(client, "bin-oi")
    write(database, OI, "oi", "5m", samples([0, 5], "11", "3"))
    lag_ms = database.run(lambda cursor: (cursor.execute("SELECT last_lag FROM perp_minutes"), cursor.fetchone())[1])[
        0
    ][0]
    (row,) = [row for row in read(client, "bin-oi", as_of=at_ms)["rows"] if row["ts"] == START]
    assert (row["oi"], row["oi_usd"], row["interval"]) == ("10", None, "1m")
    body = read(client, "bin-oi", as_of=at_ms, columns="oi,+known_ms", to=START + 1)
    assert body["rows"][0]["known_ms"] == START + lag_ms
    assert (body["basis"], body["rolled_back"]) == ("measured", 1)


@pytest.mark.parametrize("knowledge", ["market", "recorded"])
def test_a_row_that_came_live_long_after_its_minute_is_known_from_then_on(client, database, knowledge):
    """It is recorded by name: the lag of its minute is that of the other symbols."""
    write(database, BTC, "ohlcv", "1m", candles([0]), LIVE)
    database.run(lambda cursor: cursor.execute("UPDATE perp_minutes SET last_lag[1] = 1500"))
    write(database, ETH, "ohlcv", "1m", candles([0]), LIVE)
    late_ms = database.run(lambda cursor: (cursor.execute("SELECT known_to_ms FROM perp_arrivals"), cursor.fetchone()))[
        1
    ][0]

    def ask(**parameters):
        body = read(client, "bin-ohlcv", columns="c,+known_ms", knowledge=knowledge, **parameters)
        assert body["basis"] == "measured"
        return [(row["symbol"], row["known_ms"]) for row in body["rows"]]

    in_time = [("BTC", START + MINUTE_MS + (2_000 if knowledge == "market" else 1_500))]
    assert ask(as_of=late_ms - 1) == in_time
    assert ask(as_of=late_ms) == ask() == [*in_time, ("ETH", late_ms)]


def test_a_sample_does_not_vanish_when_the_history_replaces_it(client, database):
    """The statistic of Bybit is stated at ts + 420 s, but stands here from ts + 330 s on."""
    series = Series("byb-oi", "BTC")
    write(database, series, "oi", "1m", samples([0], "10"), LIVE)
    write(database, series, "oi", "5m", samples([0, 5], "11"))
    replaced_ms = START + 330 * SECOND_MS
    database.run(lambda cursor: cursor.execute("UPDATE perp_minutes SET last_lag[1] = 2000"))
    database.run(
        lambda cursor: cursor.execute("UPDATE perp_corrections SET at = to_timestamp(%s)", (replaced_ms / 1000,))
    )

    def ask(at_ms):
        body = read(client, "byb-oi", as_of=at_ms, columns="oi,+known_ms", to=START + 1)
        assert body["basis"] == ("measured" if body["rows"] else "rule")
        return [(row["oi"], row["interval"], row["known_ms"] - START) for row in body["rows"]]

    assert ask(START + 1_999) == []
    assert ask(START + 2_000) == ask(replaced_ms - 1) == [("10", "1m", 2_000)]
    assert ask(replaced_ms) == ask(START + 421 * SECOND_MS) == [("11", "5m", 330_000)]
    (row,) = read(client, "byb-oi", columns="oi,+known_ms", to=START + 1)["rows"]
    assert row["known_ms"] == replaced_ms


def test_a_step_of_then_is_complete_where_all_its_rows_were_known(client, database):
    """The late row changes values, bars and completeness together; a step is known when its last row is."""
    hole = [m for m in range(60) if m != 30]
    write(database, BTC, "ohlcv", "1m", candles(hole))
    before_ms, _ = take_copy(client, "bin-ohlcv")
    write(database, BTC, "ohlcv", "1m", candles([30]))
    whole = [Covered(BTC, [Window(START, START + HOUR_MS)])]
    Writer(database).write([], whole)

    def ask(**parameters):
        body = read(client, "bin-ohlcv", step="1h", columns="v,+known_ms", **parameters)
        return [(row["v"], row["bars"], row["absent"], row["complete"], row["known_ms"]) for row in body["rows"]]

    late_ms = START + HOUR_MS + 2 * SECOND_MS
    assert ask() == ask(as_of=late_ms) == [("600", 60, 0, True, late_ms)]
    assert ask(as_of=late_ms - 1) == [("590", 59, 0, False, late_ms - MINUTE_MS)]
    ((volume, bars, absent, is_complete, known_ms),) = ask(as_of=before_ms, knowledge="recorded")
    assert (volume, bars, absent, is_complete) == ("590", 59, 0, False) and known_ms <= before_ms
    lines = client.get(f"/api/export/bin-ohlcv?step=1h&columns=v,%2Bknown_ms&as_of={late_ms}").text.splitlines()
    assert lines[0].endswith(",v,bars,expected,absent,complete,known_ms")
    assert lines[1].endswith(f",600,60,60,0,true,{late_ms}")


def test_known_ms_is_a_column(client, database):
    write(database, BTC, "ohlcv", "1m", candles(range(3)))
    before_ms = now_ms()
    plain = read(client, "bin-ohlcv", columns="c")
    assert list(plain) == ["perpspec", "rows", "next"]
    market = read(client, "bin-ohlcv", columns="c,+known_ms")
    assert market["rows"] == [row | {"known_ms": row["ts"] + 62 * SECOND_MS} for row in plain["rows"]]
    recorded = read(client, "bin-ohlcv", columns="known_ms", knowledge="recorded")["rows"]
    assert set(recorded[0]) > {"o", "h", "l", "c", "known_ms"}
    assert all(before_ms - 60_000 <= row["known_ms"] <= before_ms for row in recorded)
    lines = client.get("/api/data/bin-ohlcv?columns=c,%2Bknown_ms&format=csv&order=asc").text.splitlines()
    assert lines[:2] == ["ts,symbol,source,interval,c,known_ms", f"{START},BTC,bin-ohlcv,1m,1.50,{START + 62_000}"]


def test_what_nobody_recorded_is_unknown_and_says_so(client, database, sql):
    sql.execute(
        "INSERT INTO perp_arrivals (source, symbol, start_ms, end_ms, way, known_to_ms)"
        " VALUES ('bin-ohlcv', 'BTC', %s, %s, 'before', %s)",
        (START, START + HOUR_MS, START + DAY_MS),
    )
    database.run(lambda cursor: cursor.execute("ALTER TABLE perp_arrivals RENAME TO kept"))
    database.run(lambda cursor: cursor.execute("CREATE TABLE perp_arrivals (LIKE kept)"))
    write(database, BTC, "ohlcv", "1m", candles(range(3)))
    database.run(lambda cursor: cursor.execute("DROP TABLE perp_arrivals"))
    database.run(lambda cursor: cursor.execute("ALTER TABLE kept RENAME TO perp_arrivals"))
    assert read(client, "bin-ohlcv", as_of=START + DAY_MS - 1, knowledge="recorded")["rows"] == []
    body = read(client, "bin-ohlcv", as_of=START + DAY_MS, knowledge="recorded")
    assert (len(body["rows"]), body["basis"]) == (3, "unknown")


@pytest.mark.parametrize("knowledge", ["market", "recorded"])
@pytest.mark.parametrize("perpspec", ["bin-ohlcv", "bin-fr", "bin-vwap", "bin-oi", "bin-oi_chg", "x-oi", "x-fr"])
def test_an_answer_whose_changes_are_deleted_by_now_is_unknown(client, perpspec, knowledge):
    """Changed values are kept for 365 days, live samples whose place the history took for 100."""
    kept_days = 100 if "oi" in perpspec or perpspec == "x-fr" else 365

    def ask(days):
        return read(client, perpspec, as_of=now_ms() - days * DAY_MS, knowledge=knowledge)["basis"]

    assert ask(kept_days + 1) == "unknown"
    assert ask(kept_days - 1) == ("rule" if knowledge == "market" else "measured")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("as_of=2099-01-01", "not after now"),
        ("as_of=yesterday", "ISO 8601"),
        ("knowledge=mine", "market"),
    ],
)
def test_wrong_moments_are_refused(client, query, words):
    answer = client.get(f"/api/data/bin-ohlcv?{query}")
    assert answer.status_code == 400
    assert words in answer.get_data(as_text=True)
