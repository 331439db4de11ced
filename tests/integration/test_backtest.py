"""The backtester over PostgreSQL: runs by command, certificates that verify, refusals, funding as SQL adds it up."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import psycopg2
import pytest
from redis import Redis

from fademoe.cli.main import main
from fademoe.clock import HOUR_MS, MINUTE_MS, Window, now_ms, to_iso
from fademoe.metrics import Liquidations
from fademoe.queue.workload import has_research_worker
from fademoe.store import coverage
from fademoe.store.certificate import certify
from fademoe.store.connection import Database
from fademoe.store.corrections import Difference, correct, read_stored_rows, record_missing
from fademoe.store.coverage import Absence, Covered, Series
from fademoe.store.read import market as read
from fademoe.store.writer import Batch, Writer
from tests.conftest import fresh_database
from tests.support.clocks import until
from tests.support.markets import EXCHANGES, START, MemoryLoader, draw_market, store_market

MINUTES = 1500
END = START + MINUTES * MINUTE_MS
GONE = START + 1000 * MINUTE_MS  # the delisting of B on Bybit
HOLD = """
from fademoe.strategy import Strategy, Target

class Hold(Strategy):
    params = {"share": 0.5}

    def on_minute(self, view):
        if view.ts // 60_000 % 60 == 0:
            return {symbol: Target(self.share) for symbol in view.symbols}
"""


def draw() -> MemoryLoader:
    """A market of three exchanges, whose contracts settle every 1, 4 and 8 hours; those of OKX change to 1 hour."""
    loader = draw_market(["A", "B"], MINUTES, 3, EXCHANGES)
    for code, hours in (("bin", 8), ("byb", 4), ("okx", 1)):
        for symbol in ("A", "B"):
            rows = loader.rows[Series(f"{code}-fr", symbol)]
            rows.clear()
            for n in range(0, MINUTES, 60):
                ts = START + n * MINUTE_MS
                every = 2 if code == "okx" and n < 600 else hours
                if ts % (every * HOUR_MS) == 0:
                    mark = None if n % 480 else f"{100 + n / 10:.1f}"
                    loader.add(f"{code}-fr", symbol, ts, f"{0.0001 + n / 10**7:.8f}", every, mark)
    return loader


@pytest.fixture(scope="module")
def stored(postgres_url: str, _template: str) -> Iterator[str]:
    """A database with a drawn market, all of it covered."""
    with fresh_database(postgres_url) as url:
        lives = {(code, symbol): None for code in EXCHANGES for symbol in ("A", "B")} | {("byb", "B"): GONE}
        store_market(url, draw(), Window(START, END), lives)
        yield url


@pytest.fixture
def command(stored: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run a command in this process over the stored market; return its exit code, stdout and stderr."""
    monkeypatch.setenv("FADEMOE_DATABASE_URL", stored)
    file = tmp_path / "hold.py"
    file.write_text(HOLD)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["backtest", *(str(file) if word == "FILE" else word for word in arguments)])
        written = capsys.readouterr()
        return code, written.out, written.err

    return run


RANGE = ("--since", to_iso(START), "--until", to_iso(END))


def run_hold(command, exchange: str, *more: str) -> dict:
    code, out, err = command("run", "FILE", "--symbols", "A,B", "--exchange", exchange, *RANGE, *more, "--json")
    assert code == 0, err
    return json.loads(out)


def test_a_run_verifies_and_is_listed(command, stored: str):
    first = run_hold(command, "binance", "--param", "share=0.25")
    assert first["certified"] is True
    assert first["unknown"] == []
    assert first["certificate"]["params"] == {"share": 0.25}
    assert first["certificate"]["symbols"] == ["A", "B"]
    second = run_hold(command, "binance", "--param", "share=0.25")
    assert second["certificate"] == first["certificate"]
    assert second["id"] != first["id"]
    code, out, _ = command("verify", first["id"], "--json")
    assert (code, json.loads(out)) == (0, {"equal": True})
    code, out, _ = command("verify", first["id"])
    assert out.splitlines()[-1].startswith("equal")
    code, out, _ = command("list", "--json")
    assert {first["id"], second["id"]} <= {run["id"] for run in json.loads(out)}
    code, out, _ = command("show", first["id"], "--json")
    assert json.loads(out)["report"] == first["report"]
    with psycopg2.connect(stored) as connection, connection.cursor() as cursor:
        for series in first["certificate"]["series"]:
            metric = series["source"].rpartition("-")[2]
            made = certify(
                cursor,
                Series(series["source"], series["symbol"]),
                metric,
                Window(START, END),
                MINUTE_MS,
                sparse=metric == "fr",
            )
            assert (series["rows"], series["sha256"]) == (made["rows"], made["sha256"]), series


def test_a_changed_row_differs_by_its_first_line(command, stored: str):
    made = run_hold(command, "okx")
    connection = psycopg2.connect(stored)
    change = "UPDATE perp_data SET o = o + %s WHERE source = 'okx-ohlcv' AND symbol = 'A' AND ts = %s"
    at = START + 60 * MINUTE_MS  # where the first order fills
    with connection, connection.cursor() as cursor:
        cursor.execute(change, (1, at))
    code, out, _ = command("verify", made["id"], "--json")
    with connection, connection.cursor() as cursor:
        cursor.execute(change, (-1, at))
    connection.close()
    answer = json.loads(out)
    assert code == 1
    assert answer["equal"] is False
    assert answer["first"]["was"]["seq"] == 1
    assert answer["first"]["was"]["price"] != answer["first"]["is"]["price"]
    assert command("verify", made["id"])[0] == 0


@pytest.mark.parametrize("code", EXCHANGES)
def test_funding_is_what_sql_adds_up(command, stored: str, code: str):
    made = run_hold(command, EXCHANGES[code])
    connection = psycopg2.connect(stored)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            """
            WITH held AS (
                SELECT symbol, ts, position, lead(ts) OVER (PARTITION BY symbol ORDER BY seq) AS until
                FROM perp_backtest_ledger WHERE run = %(run)s AND kind IN ('fill', 'delisting', 'liquidation')
            )
            SELECT coalesce(sum(-h.position * coalesce(f.fr_mark, m.mark_o, c.o) * f.fr), 0)::text, count(*)
            FROM perp_data AS f
            JOIN held AS h ON h.symbol = f.symbol AND h.ts < f.ts AND (h.until >= f.ts OR h.until IS NULL)
            LEFT JOIN perp_data AS m ON m.source = %(code)s || '-mark' AND m.symbol = f.symbol AND m.ts = f.ts
            LEFT JOIN perp_data AS c ON c.source = %(code)s || '-ohlcv' AND c.symbol = f.symbol AND c.ts = f.ts
            WHERE f.source = %(code)s || '-fr' AND h.position <> 0
            """,
            {"run": made["id"], "code": code},
        )
        total, count = cursor.fetchone()
    connection.close()
    assert Decimal(made["report"]["funding"]) == Decimal(total)
    assert made["report"]["rows"]["funding"] == count
    assert count >= 4
    assert ("delisting" in made["report"]["rows"]) == (code == "byb")


def test_missing_data_refuse_a_run(command, stored: str):
    late = to_iso(END + HOUR_MS)
    options = ("--symbols", "A", "--exchange", "binance", "--since", to_iso(START), "--until", late)
    code, out, _ = command("run", "FILE", *options)
    assert code == 1
    assert f"bin-ohlcv A {to_iso(END)} .. {late}" in out.splitlines()
    assert out.splitlines()[-1].startswith("fill them with: scripts/seed_backfill.py --exchanges binance")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--exchange", "mtgox"), "--exchange is 'mtgox': valid are binance, bybit, okx"),
        (("--symbols", "NOPE"), "no contract of NOPE"),
        (("--param", "x=1"), "unknown param 'x' of hold.py: valid are share"),
        (("--since", "2023-11-15T00:00:30Z"), "whole minutes"),
        (("--capital", "-1"), "valid are numbers above 0"),
        (("--slippage", "7"), "valid are numbers from 0 to 0.5"),
        (("--margin", "none"), "valid are cross, isolated"),
        (("--as-of", to_iso(END - MINUTE_MS)), "is after --as-of"),
    ],
)
def test_a_wrong_argument_is_exit_2(command, arguments: tuple[str, ...], words: str):
    options = {"--symbols": "A", "--exchange": "binance", "--since": to_iso(START), "--until": to_iso(END)}
    options |= dict([arguments])
    code, _, err = command("run", "FILE", *(word for pair in options.items() for word in pair))
    assert code == 2
    assert words in err


def test_a_range_in_which_none_of_the_symbols_traded_is_exit_2(command):
    after = ("--since", to_iso(GONE), "--until", to_iso(GONE + HOUR_MS))
    code, _, err = command("run", "FILE", "--symbols", "B", "--exchange", "bybit", *after)
    assert code == 2
    assert "--symbols is 'B': no contract of bybit traded in the range" in err
    code, _, err = command("run", "FILE", "--symbols", "A,B", "--exchange", "bybit", *after)
    assert code == 0, err


def test_an_absent_settlement_stops_a_run_unless_holes_are_allowed(command, stored: str):
    database = Database(stored)
    window = Window(START + 700 * MINUTE_MS, START + 760 * MINUTE_MS)
    series = Series("bin-fr", "B")
    with database.open_transaction() as cursor:
        coverage.record(cursor, [Covered(series, [window], [Absence(window, "the exchange has no row", 2)])])
    options = ("--symbols", "B", "--exchange", "binance", *RANGE)
    code, _, err = command("run", "FILE", *options)
    assert code == 1
    assert "B: a position is held" in err
    code, out, _ = command("run", "FILE", *options, "--allow-holes", "--json")
    with database.open_transaction() as cursor:
        absent = read.read_known(cursor, series).absent
        cursor.execute("UPDATE perp_coverage SET absent = '{}' WHERE source = 'bin-fr' AND symbol = 'B'")
        cursor.execute("DELETE FROM perp_absence")
    database.close()
    made = json.loads(out)
    assert code == 0
    assert made["certified"] is made["certificate"]["certified"] is False
    assert [(each["from"], each["to"]) for each in made["unknown"]] == [tuple(map(to_iso, each)) for each in absent]


def test_a_run_as_of_a_time_reads_the_values_of_that_time(command, stored: str):
    before = run_hold(command, "bybit")
    time.sleep(0.05)
    at = now_ms()
    time.sleep(0.05)
    series = Series("byb-ohlcv", "A")
    database = Database(stored)
    place = START + 60 * MINUTE_MS
    with database.open_transaction() as cursor:
        (old,) = read_stored_rows(cursor, series, "ohlcv", "1m", [Window(place, place + 1)])[place][:1]
        correct(cursor, series, "1m", [Difference(place, "o", old, str(Decimal(old or 0) + 1))])
    now = run_hold(command, "bybit")
    past = run_hold(command, "bybit", "--as-of", str(at))
    other = Series("okx-mark", "A")
    with database.open_transaction() as cursor:
        (mark,) = read_stored_rows(cursor, other, "mark", "1m", [Window(place, place + 1)])[place][:1]
        correct(cursor, other, "1m", [Difference(place, "mark_o", mark, str(Decimal(mark or 0) + 1))])
    code, out, _ = command("verify", past["id"], "--json")
    with database.open_transaction() as cursor:
        cursor.execute(
            "UPDATE perp_data SET o = %s WHERE source = 'byb-ohlcv' AND symbol = 'A' AND ts = %s", (old, place)
        )
        cursor.execute(
            "UPDATE perp_data SET mark_o = %s WHERE source = 'okx-mark' AND symbol = 'A' AND ts = %s", (mark, place)
        )
    database.close()
    assert (code, json.loads(out)) == (0, {"equal": True})  # a correction that came later changes nothing
    assert now["certificate"]["sha256"] != before["certificate"]["sha256"]
    assert past["certificate"]["sha256"] == before["certificate"]["sha256"]
    assert past["certificate"]["as_of"]["newest_correction"] >= 1


def test_a_run_as_of_a_time_refuses_what_was_not_stored_then(command, stored: str, tmp_path: Path):
    """Nothing, what was fetched later, what the audit added: each is named, though all of it is stored now."""
    options = ("--symbols", "A", "--exchange", "binance", *RANGE)
    code, out, _ = command("run", "FILE", *options, "--as-of", to_iso(END))
    assert code == 1
    assert out.splitlines()[0] == f"data were not stored at {to_iso(END)}:"
    assert {line.split()[0] for line in out.splitlines()[1:-1]} == {"bin-ohlcv", "bin-fr", "bin-mark"}
    assert out.splitlines()[-1] == "give a later --as-of, or none"
    time.sleep(0.01)
    at = now_ms()
    time.sleep(0.01)
    file = tmp_path / "lq.toml"
    file.write_text('long = "sum(lql, 60m) > 0"\nshort = "sum(lqs, 60m) > 0"\n')
    with closing(Database(stored)) as database:
        series = Series("bin-lq", "A")
        with database.open_transaction() as cursor:
            times = read_stored_rows(cursor, series, "lq", "1m", [Window(START, END)])
        ts = next(ts for ts in range(START + HOUR_MS, END, MINUTE_MS) if ts not in times)
        Writer(database).write([Batch("lq", "1m", {series: [Liquidations(ts, "5", "5")]})], [])
        code, out, _ = command("run", str(file), *options, "--as-of", str(at))
        assert code == 1
        assert out.splitlines()[1].startswith(f"bin-lq A {to_iso(ts)} .. ")
        assert command("run", str(file), *options, "--as-of", str(now_ms()))[0] == 0
        place = START + 90 * MINUTE_MS
        database.run(lambda cursor: record_missing(cursor, Series("bin-ohlcv", "A"), [place]))
        code, out, _ = command("run", "FILE", *options, "--as-of", str(at))
        assert code == 1
        assert out.splitlines()[1].startswith(f"bin-ohlcv A {to_iso(place)} .. ")
        database.run(lambda cursor: cursor.execute("DELETE FROM perp_corrections WHERE \"column\" = ''"))
        database.run(
            lambda cursor: cursor.execute(
                "DELETE FROM perp_data WHERE source = 'bin-lq' AND symbol = 'A' AND ts = %s", (ts,)
            )
        )


@pytest.mark.full
def test_a_sweep_is_followed_while_two_workers_do_it(
    command, stored: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    grid = ("--grid", "share=0.05,0.1,0.15,0.2,0.25,0.3,0.35,0.4,0.45,0.5,0.55,0.6")
    options = ("--symbols", "A,B", "--exchange", "binance", *RANGE, *grid, "--json")
    monkeypatch.setenv("FADEMOE_REDIS_URL", redis_url)
    code, out, err = command("sweep", "FILE", *options)  # no worker: in the command
    assert code == 0, err
    alone = json.loads(out)
    home = tmp_path / "home"
    environ = dict(os.environ) | {"FADEMOE_HOME": str(home)}
    start = [sys.executable, "-m", "fademoe", "worker", "--research"]
    workers = [subprocess.Popen(start, env=environ) for _ in range(2)]
    redis = Redis.from_url(redis_url)

    def stop_one() -> None:
        """End a worker while chunks are run: the other one does what it gave back."""
        until(lambda: list(home.glob("sweeps/*/*.arrow")), 60)
        workers[0].terminate()

    stopping = threading.Thread(target=stop_one)
    try:
        until(lambda: has_research_worker(redis), 60)
        stopping.start()
        code, out, err = command("sweep", "FILE", *options)
        assert code == 0, err
        made = json.loads(out)
        assert made["report"] == alone["report"]
        assert made["report"]["trials"] == made["report"]["exact"] == 12
        assert all("%" in line for line in err.splitlines())
        until(lambda: not list(home.glob("sweeps/*")), 60)
    finally:
        stopping.join()
        for worker in workers:
            worker.terminate()
            worker.wait(60)
        redis.close()


def test_a_sweep_and_a_walk_forward_are_stored(command, tmp_path: Path):
    file = tmp_path / "cross.toml"
    file.write_text('long = "c > sma(c, {n}m)"\nshort = "c < sma(c, {n}m)"\nsize = 0.3\n[params]\nn = 10\n')
    options = (str(file), "--symbols", "A", "--exchange", "binance", *RANGE, "--grid", "n=5,20,60", "--json")
    code, out, err = command("sweep", *options, "--best", "1")
    assert code == 0, err
    made = json.loads(out)
    assert made["report"]["trials"] == 3
    assert made["report"]["best"]["agrees"] is True
    code, out, _ = command("walk-forward", *options, "--train", "12h", "--test", "6h")
    assert code == 0
    assert len(json.loads(out)["report"]["folds"]) == 2
    listed = json.loads(command("list", "--json")[1])
    assert [run["kind"] for run in listed[:2]] == ["walk-forward", "sweep"]


def test_derived_columns_are_read_by_strategies_and_rules(command, stored: str, tmp_path: Path):
    file = tmp_path / "derived.py"
    file.write_text(
        "from fademoe.strategy import Strategy, Target\n"
        "class Derived(Strategy):\n"
        "    def on_minute(self, view):\n"
        "        if view.ts // 60_000 % 240:\n"
        "            return None\n"
        "        now = [view.value('A', c) for c in ('vwap', 'cvd', 'oi_chg', 'fr_apr')]\n"
        "        across = [view.value('A', c, 'x') for c in ('oi', 'lql', 'spread_bps', 'fr_1h')]\n"
        "        parts = [view.rows('A', 'oi', 8, code) for code in ('bin', 'byb', 'okx')]\n"
        "        sums = {a + b + c for a in parts[0] for b in parts[1] for c in parts[2]}\n"
        "        assert across[0] in sums, (across, parts)\n"
        "        taken, traded = view.rows('A', 'tbv', 2)[0], view.rows('A', 'v', 2)[0]\n"
        "        assert now[1] == 2 * taken - traded, now\n"  # its lag is not that of the candle
        "        assert now[3] == view.value('A', 'fr') * 8760 / view.value('A', 'fr_hours'), now\n"
        "        return {'A': Target(0.1)}\n"
    )
    options = ("--symbols", "A", "--exchange", "binance", *RANGE, "--json")
    code, out, err = command("run", str(file), *options)
    assert code == 0, err
    made = json.loads(out)
    assert {"x-oi", "bin-cvd"} <= {each["source"] for each in made["certificate"]["series"]}
    assert command("verify", made["id"])[0] == 0
    rules = tmp_path / "derived.toml"
    rules.write_text('long = "cvd > 0 and x.spread_bps >= 0"\nshort = "cvd < 0 and x.oi > 0"\nsize = 0.2\n')
    code, out, err = command("run", str(rules), *options)
    assert code == 0, err
    made = json.loads(out)
    assert made["report"]["rows"]["fill"] > 10
    code, out, err = command("run", str(rules), *options, "--as-of", str(now_ms()))
    assert code == 0, err
    past = json.loads(out)
    assert past["certificate"]["series"] == made["certificate"]["series"]
    assert past["certificate"]["sha256"] == made["certificate"]["sha256"]


def test_a_command_that_is_interrupted_cancels_its_run(command, monkeypatch: pytest.MonkeyPatch):
    def interrupt(self: object, share: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fademoe.backtest.database.PROGRESS_S", 0)
    monkeypatch.setattr("fademoe.cli.backtest._Teller.say", interrupt)
    assert command("run", "FILE", "--symbols", "A", "--exchange", "binance", *RANGE)[0] == 1
    assert json.loads(command("list", "--json")[1])[0]["state"] == "cancelled"


@pytest.mark.parametrize("words", [("run",), ("sweep", "--grid", "share=0.1,0.2")])
def test_a_run_that_breaks_is_failed_and_says_why(command, stored: str, words: tuple[str, ...]):
    database = Database(stored)
    name, *options = words
    database.run(lambda cursor: cursor.execute("ALTER TABLE perp_terms RENAME TO kept"))
    try:
        with pytest.raises(psycopg2.errors.UndefinedTable):
            command(name, "FILE", "--symbols", "A", "--exchange", "binance", *RANGE, *options)
    finally:
        database.run(lambda cursor: cursor.execute("ALTER TABLE kept RENAME TO perp_terms"))
        database.close()
    (newest, *_) = json.loads(command("list", "--json")[1])
    assert newest["state"] == "failed"
    assert newest["message"].startswith('UndefinedTable: relation "perp_terms" does not exist')
