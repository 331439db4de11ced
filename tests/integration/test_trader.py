"""Paper accounts over PostgreSQL: the same ledger as a backtest, whatever is killed; switches; reconciliation."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import cursor as Cursor

from fademoe.alerts.records import add_silence
from fademoe.alerts.rules import Silence
from fademoe.backtest.database import execute
from fademoe.backtest.plan import Plan
from fademoe.cli.main import main
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, floor_to, to_iso
from fademoe.runtime.services import Services
from fademoe.runtime.startup import wait_for_schema
from fademoe.settings import Settings
from fademoe.signals import StopSignal
from fademoe.store import trader as store
from fademoe.store.connection import Database
from fademoe.store.derived import follow
from fademoe.trader import program, reconciliation
from tests.support.clocks import until
from tests.support.markets import START, draw_market, store_market

MINUTES = 600
END = START + MINUTES * MINUTE_MS
SYMBOLS = ("A", "B")
CODES = ("bin", "byb")
COUNTING = """
from fademoe.strategy import Limit, Stop, Strategy, Target

class Counting(Strategy):
    params = {"share": 0.5}
    seen = None

    def on_minute(self, view):
        self.calls = getattr(self, "calls", 0) + 1
        self.last = {symbol: view.value(symbol, "c") for symbol in view.symbols}
        if self.calls % 7 == 0:
            side = 1 if self.calls % 2 else -1
            return {symbol: Target(side * self.share) for symbol in view.symbols}
        if self.calls % 7 == 3:
            return {
                symbol: [Limit(-view.position(symbol), view.value(symbol, "c") * 2, reduce=True)]
                for symbol in view.symbols
                if view.position(symbol) > 0 and view.value(symbol, "c")
            }
"""


@pytest.fixture
def database_with_market(database_url: str) -> Iterator[str]:
    """A database with a drawn market of Binance and Bybit, all of it covered; OKX lists none of its coins."""
    lives = {(code, symbol): None for code in CODES for symbol in SYMBOLS}
    store_market(database_url, draw_market(list(SYMBOLS), MINUTES, 5, CODES), Window(START, END), lives)
    yield database_url


@pytest.fixture
def sql(database_with_market: str) -> Iterator[Cursor]:
    connection = psycopg2.connect(database_with_market)
    connection.autocommit = True
    with connection.cursor() as cursor:
        yield cursor
    connection.close()


class Trader:
    """The program, a minute at a time, by a clock that the test sets; each step may be a new process."""

    def __init__(self, url: str, sql: Cursor, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.url = url
        self.sql = sql
        self.now = START
        self.file = folder / "counting.py"
        self.file.write_text(COUNTING)
        monkeypatch.setattr(program, "now_ms", lambda: self.now)
        monkeypatch.setattr("fademoe.cli.trader.now_ms", lambda: self.now)
        monkeypatch.setattr(reconciliation, "now_ms", lambda: self.now)
        monkeypatch.setenv("FADEMOE_DATABASE_URL", url)
        self.database, self.reading = Database(url), Database(url)
        self.program = self.start()

    def start(self) -> program.TraderProgram:
        """Forget all that a process knows."""
        self.program = program.TraderProgram(self.database, self.reading, StopSignal())
        return self.program

    def run_until(self, until: int, restart_every: int = 0, at_once: int = 1) -> None:
        """Step all that is ready, minute by minute, or some minutes at once."""
        steps = 0
        while self.now < until:
            self.now = min(until, self.now + at_once * MINUTE_MS)
            self.beat()
            while self.program.step_once():
                pass
            steps += 1
            if restart_every and steps % restart_every == 0:
                self.start()

    def beat(self) -> None:
        """Let the collector say that it works."""
        self.sql.execute(
            "INSERT INTO perp_status (unit, kind, state, message, interval_s, heartbeat)"
            " VALUES ('stream binance', 'stream', 'running', '', 5, now())"
            " ON CONFLICT (unit) DO UPDATE SET heartbeat = excluded.heartbeat"
        )

    def fall_silent(self) -> None:
        """Let the collector say nothing for an hour."""
        self.sql.execute("UPDATE perp_status SET heartbeat = now() - interval '1 hour'")

    def ledger(self, name: str = "paper") -> list[tuple[Any, ...]]:
        return self.database.run(lambda cursor: store.read_ledger(cursor, name, 0, 100_000))

    def account(self, name: str = "paper") -> store.TraderAccount:
        found = self.database.run(lambda cursor: store.find_account(cursor, name))
        assert found is not None
        return found


@pytest.fixture
def trader(database_with_market: str, sql: Cursor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Trader]:
    made = Trader(database_with_market, sql, monkeypatch, tmp_path)
    yield made
    made.database.close()
    made.reading.close()


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(trader: Trader, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `fademoe trader …`; return its exit code and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["trader", *arguments])
        written = capsys.readouterr()
        return code, written.out + written.err

    return run


def add(trader: Trader, command: Command, *more: str, name: str = "paper") -> None:
    code, text = command("add", name, str(trader.file), "--symbols", "A,B", "--exchange", "binance", *more)
    assert code == 0, text


def backtest(trader: Trader, until: int) -> list[tuple[Any, ...]]:
    """Return the ledger of the backtest of the account's minutes."""
    plan = Plan.from_json({**trader.account().plan, "until": until})
    with trader.reading.open_transaction() as cursor:
        outcome = execute(cursor, plan)
    return [tuple(row.to_texts().values()) for row in outcome.result.ledger]


def test_the_ledger_is_that_of_the_backtest_however_often_it_is_killed(trader: Trader, command: Command):
    add(trader, command)
    trader.run_until(START + 300 * MINUTE_MS, restart_every=7)
    expected = backtest(trader, trader.account().cursor)
    assert trader.account().cursor == trader.now
    assert len(expected) > 60
    assert [tuple(row) for row in trader.ledger()] == expected
    code, text = command("reconcile", "paper", "--day", to_iso(floor_to(START, DAY_MS)))
    assert (code, text.split()[0]) == (0, "equal")
    listed = json.loads(command("list", "--json")[1])
    assert listed["on"] is True
    assert listed["accounts"][0]["cursor"] == trader.now


def test_an_account_begins_after_it_was_made_however_long_the_database_was_away(
    trader: Trader, command: Command, monkeypatch: pytest.MonkeyPatch
):
    def wait(settings: Settings) -> Services:
        trader.now += 5 * MINUTE_MS + 1
        return wait_for_schema(settings)

    monkeypatch.setattr("fademoe.cli.trader.wait_for_schema", wait)
    add(trader, command)
    assert trader.account().since == START + 6 * MINUTE_MS


def test_a_minute_waits_for_its_data_five_minutes_and_a_late_row_is_named(
    trader: Trader, sql: Cursor, command: Command
):
    add(trader, command)
    gap = START + 20 * MINUTE_MS
    sql.execute("SELECT covered FROM perp_coverage WHERE source = 'bin-ohlcv' AND symbol = 'A'")
    (whole,) = sql.fetchone()
    rows = "source = 'bin-ohlcv' AND symbol = 'A'"
    sql.execute(f"UPDATE perp_coverage SET covered = covered - int8multirange(int8range({gap}, NULL)) WHERE {rows}")
    sql.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM perp_data WHERE {rows} AND ts >= {gap}")
    sql.execute(f"DELETE FROM perp_data WHERE {rows} AND ts >= {gap}")
    trader.run_until(gap + 3 * MINUTE_MS)
    assert trader.account().cursor == gap  # it waits
    trader.run_until(gap + 8 * MINUTE_MS)
    assert trader.account().cursor == gap + 3 * MINUTE_MS  # minutes that ended five minutes ago
    sql.execute("INSERT INTO perp_data SELECT * FROM kept")
    sql.execute(f"UPDATE perp_coverage SET covered = %s WHERE {rows}", (whole,))
    trader.run_until(gap + 30 * MINUTE_MS)
    assert trader.account().cursor == trader.now
    code, text = command("reconcile", "paper", "--day", to_iso(floor_to(START, DAY_MS)), "--json")
    answer = json.loads(text)
    assert code == 1
    assert not answer["equal"]
    assert f"late: bin-ohlcv A was not there when {to_iso(gap)} was stepped" in answer["differences"][0]["causes"]


def take_data(sql: Cursor, since: int) -> None:
    """Let nothing be stored from `since` on; `give_data` stores it."""
    sql.execute("CREATE TEMP TABLE covered_then AS SELECT source, symbol, covered FROM perp_coverage")
    sql.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM perp_data WHERE ts >= {since}")
    sql.execute(f"UPDATE perp_coverage SET covered = covered - int8multirange(int8range({since}, NULL))")
    sql.execute(f"DELETE FROM perp_data WHERE ts >= {since}")


def give_data(sql: Cursor) -> None:
    sql.execute("INSERT INTO perp_data SELECT * FROM kept")
    sql.execute(
        "UPDATE perp_coverage AS c SET covered = t.covered FROM covered_then AS t"
        " WHERE (c.source, c.symbol) = (t.source, t.symbol)"
    )


def test_a_host_that_slept_loses_no_minute(trader: Trader, sql: Cursor, command: Command):
    """The program was not restarted, and the collector has nothing of the hours yet."""
    add(trader, command)
    slept = START + 20 * MINUTE_MS
    trader.run_until(slept)
    take_data(sql, slept)
    trader.run_until(slept + 180 * MINUTE_MS, at_once=180)
    assert trader.account().cursor == slept
    give_data(sql)
    trader.run_until(slept + 181 * MINUTE_MS)
    assert trader.account().cursor == trader.now
    assert [tuple(row) for row in trader.ledger()] == backtest(trader, trader.now)


def test_a_clock_that_is_set_back_holds_no_switch_back(trader: Trader, sql: Cursor, command: Command):
    trader.now = START + DAY_MS
    trader.start()
    trader.now = START
    add(trader, command)
    trader.run_until(START + 20 * MINUTE_MS)
    take_data(sql, trader.now)
    trader.fall_silent()
    for _ in range(10):
        trader.now += MINUTE_MS
        while trader.program.step_once():
            pass
    assert trader.account().cursor == trader.now - 5 * MINUTE_MS
    assert (trader.account().trip or "").startswith("no heartbeat")


@pytest.mark.long
@pytest.mark.parametrize("when_off", ["hold", "close"])
def test_off_ends_orders_and_holds_or_closes(trader: Trader, command: Command, when_off: str):
    add(trader, command, "--when-off", when_off)
    trader.run_until(START + 30 * MINUTE_MS)
    assert json.loads(trader.account().state)["account"]["positions"]
    assert command("off", "--reason", "lunch")[0] == 0
    assert "paper is on; but the switch of all accounts is off" in command("on", "paper", "--reason", "seen")[1]
    trader.run_until(START + 60 * MINUTE_MS)
    off = START + 30 * MINUTE_MS
    later = [row for row in trader.ledger() if row[1] >= off]
    assert {row[2] for row in later if row[1] == off} <= {"expiry", "funding"}
    fills = [row for row in later if row[2] == "fill"]
    if when_off == "hold":
        assert not fills
        assert json.loads(trader.account().state)["account"]["positions"]
    else:
        assert {(row[1], row[10]) for row in fills} == {(off + MINUTE_MS, "market")}
        assert not json.loads(trader.account().state)["account"]["positions"]
    assert command("on")[0] == 0
    trader.run_until(START + 90 * MINUTE_MS)
    assert any(row[2] == "fill" and row[1] > START + 60 * MINUTE_MS for row in trader.ledger())
    assert command("reconcile", "paper", "--day", to_iso(floor_to(START, DAY_MS)))[0] == 0


@pytest.mark.long
@pytest.mark.parametrize("latency", ["0", "2"])
def test_closing_is_at_the_next_open_and_waits_for_a_candle(
    trader: Trader, sql: Cursor, command: Command, latency: str
):
    add(trader, command, "--when-off", "close", "--latency", latency)
    off = START + 30 * MINUTE_MS
    trader.run_until(off)
    held = set(json.loads(trader.account().state)["account"]["positions"])
    assert held == {"A", "B"}
    first = off + MINUTE_MS  # latency delays what the strategy decides: a position might be liquidated meanwhile
    sql.execute(f"DELETE FROM perp_data WHERE source = 'bin-ohlcv' AND symbol = 'A' AND ts IN ({first})")
    assert command("off", "--reason", "lunch")[0] == 0
    trader.run_until(START + 60 * MINUTE_MS)
    rows = [(row[1], row[2], row[3], row[10]) for row in trader.ledger() if row[1] > off and row[2] != "funding"]
    assert rows == [
        (first, "expiry", "A", "no_candle"),
        (first, "fill", "B", "market"),
        (first + MINUTE_MS, "fill", "A", "market"),
    ]
    assert not json.loads(trader.account().state)["account"]["positions"]
    assert command("reconcile", "paper", "--day", to_iso(floor_to(START, DAY_MS)))[0] == 0


def test_a_contract_whose_end_becomes_known_late_is_closed_and_the_reconciliation_names_its_end(
    trader: Trader, sql: Cursor, command: Command
):
    add(trader, command)
    trader.run_until(START + 30 * MINUTE_MS)
    assert "A" in json.loads(trader.account().state)["account"]["positions"]
    ended = START + 20 * MINUTE_MS
    sql.execute("UPDATE perp_lives SET delisted_ms = %s WHERE code = 'bin' AND symbol = 'A'", (ended,))
    trader.run_until(START + 60 * MINUTE_MS)
    assert "A" not in json.loads(trader.account().state)["account"]["positions"]
    closed = [(row[1], row[2]) for row in trader.ledger() if row[3] == "A" and row[1] >= START + 30 * MINUTE_MS]
    assert closed[0] == (START + 30 * MINUTE_MS, "delisting")
    code, text = command("reconcile", "paper", "--day", to_iso(floor_to(START, DAY_MS)), "--json")
    assert code == 1
    causes = json.loads(text)["differences"][0]["causes"]
    assert f"end: the contract of A ended at {to_iso(ended)}; it may have become known later" in causes


def crash(trader: Trader, sql: Cursor, ts: int) -> None:
    """Let prices from `ts` on be by a third against what the account holds."""
    held = json.loads(trader.account().state)["account"]["positions"]["A"]
    factor = "0.7" if not held[0].startswith("-") else "1.3"
    for prefix, source in (("", "bin-ohlcv"), ("mark_", "bin-mark")):
        changed = ", ".join(f"{prefix}{name} = {prefix}{name} * {factor}" for name in ("o", "h", "l", "c"))
        sql.execute(f"UPDATE perp_data SET {changed} WHERE source = '{source}' AND ts >= {ts}")


def lose_candles(trader: Trader, sql: Cursor, ts: int) -> None:
    """Let no candle of A be there from `ts` on."""
    rows = "source = 'bin-ohlcv' AND symbol = 'A'"
    sql.execute(f"UPDATE perp_coverage SET covered = covered - int8multirange(int8range({ts}, NULL)) WHERE {rows}")


@pytest.mark.parametrize(
    ("kind", "options", "plant"),
    [
        ("daily loss", ("--max-daily-loss", "0.05"), crash),
        pytest.param("drawdown", ("--max-drawdown", "0.05"), crash, marks=pytest.mark.full),
        pytest.param(
            "gross exposure", ("--max-exposure", "0.8", "--param", "share=-0.3"), crash, marks=pytest.mark.full
        ),
        pytest.param(
            "rejections", ("--max-rejections", "1", "--param", "share=0.9"), lambda *_: None, marks=pytest.mark.full
        ),
        ("stale data", ("--max-stale", "2"), lose_candles),
    ],
)
def test_a_kill_switch_trips_within_the_minute_and_needs_a_reason(
    trader: Trader, sql: Cursor, command: Command, kind: str, options: tuple[str, ...], plant: Callable[..., None]
):
    add(trader, command, *options)
    trader.run_until(START + 12 * MINUTE_MS)
    at = trader.now
    plant(trader, sql, at)
    until = at + (2 if kind in ("daily loss", "drawdown", "gross exposure") else 12) * MINUTE_MS
    while trader.account().trip is None and trader.now < until:
        trader.run_until(trader.now + MINUTE_MS)
        if plant is crash:
            trader.start()  # what watches is stored, too
    account = trader.account()
    assert account.trip_kind == kind
    if plant is crash:
        assert account.cursor <= at + MINUTE_MS
    fills = [row for row in trader.ledger() if row[2] == "fill"]
    trader.run_until(trader.now + 20 * MINUTE_MS, restart_every=3)
    assert trader.account().cursor > account.cursor
    assert [row for row in trader.ledger() if row[2] == "fill"] == fills
    assert command("on", "paper")[0] == 2
    assert command("on", "paper", "--reason", " ")[0] == 2
    assert trader.account().trip_kind == kind
    assert command("on", "paper", "--reason", "seen, it was planted")[0] == 0
    assert trader.account().trip is None
    actions = trader.database.run(lambda cursor: store.list_actions(cursor, "paper", 5))
    assert actions[0].reason == "seen, it was planted"


@pytest.mark.long
@pytest.mark.parametrize("minutes_off", [0, 10])
@pytest.mark.parametrize(
    ("options", "plant"),
    [
        (("--max-daily-loss", "0.05"), crash),
        (("--max-drawdown", "0.05"), crash),
        (("--max-rejections", "1", "--param", "share=0.9"), lambda *_: None),
    ],
)
def test_a_kill_switch_that_is_reset_counts_again(
    trader: Trader,
    sql: Cursor,
    command: Command,
    options: tuple[str, ...],
    plant: Callable[..., None],
    minutes_off: int,
):
    add(trader, command, *options)
    trader.run_until(START + 12 * MINUTE_MS)
    plant(trader, sql, trader.now)
    while trader.account().trip is None:
        trader.run_until(trader.now + MINUTE_MS)
    kind, off = trader.account().trip_kind, trader.now
    trader.run_until(trader.now + minutes_off * MINUTE_MS)
    trader.start()
    assert command("on", "paper", "--reason", "seen")[0] == 0
    reset = trader.now
    trader.run_until(reset + 8 * MINUTE_MS, restart_every=3)
    assert trader.account().trip is None
    trader.run_until(reset + 20 * MINUTE_MS, restart_every=3)
    events = trader.database.run(lambda cursor: store.list_events(cursor, "paper", Window(off, reset + 8 * MINUTE_MS)))
    assert [(each.minute, each.is_off) for each in events] == ([(off, True), (reset, False)] if minutes_off else [])
    assert any(row[2] == "fill" and row[1] > reset for row in trader.ledger())
    assert command("reconcile", "paper", "--day", to_iso(floor_to(START, DAY_MS)))[0] == 0
    if plant is not crash:
        trader.run_until(reset + 40 * MINUTE_MS)
        assert trader.account().trip_kind == kind


@pytest.mark.full
def test_a_trip_and_the_switches_survive_kill_9(trader: Trader, sql: Cursor, command: Command, tmp_path: Path):
    add(trader, command, "--max-daily-loss", "0.05")
    trader.run_until(START + 12 * MINUTE_MS)
    crash(trader, sql, trader.now)
    environment = {**os.environ, "FADEMOE_DATABASE_URL": trader.url, "FADEMOE_HOME": str(tmp_path)}
    kills = 0
    while trader.account().cursor < END:
        trader.beat()
        running = subprocess.Popen([sys.executable, "-m", "fademoe", "trader", "run"], env=environment)
        try:
            before = trader.account().cursor
            until(lambda: trader.account().cursor > before, 60)  # noqa: B023
        finally:
            running.kill()
            running.wait()
        kills += 1
    assert kills > 1
    assert trader.account().trip_kind == "daily loss"
    assert [row for row in trader.ledger() if row[2] == "fill" and row[1] > START + 13 * MINUTE_MS] == []
    assert command("on", "paper")[0] == 2
    assert command("on", "paper", "--reason", "seen")[0] == 0
    assert command("off", "--reason", "lunch")[0] == 0
    assert json.loads(command("list", "--json")[1])["on"] is False


@pytest.mark.long
@pytest.mark.parametrize("after", ["resume", "wait"])
def test_an_hour_without_data_and_heartbeat_is_off_and_goes_on_as_the_account_says(
    trader: Trader, sql: Cursor, command: Command, after: str
):
    add(trader, command, "--after-stale", after)
    trader.run_until(START + 20 * MINUTE_MS)
    hour = f"ts >= {START + 20 * MINUTE_MS} AND ts < {START + 80 * MINUTE_MS}"
    sql.execute("CREATE TEMP TABLE known AS SELECT source, symbol, covered FROM perp_coverage")
    sql.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM perp_data WHERE {hour}")
    sql.execute(f"DELETE FROM perp_data WHERE {hour}")
    sql.execute(f"UPDATE perp_coverage SET covered = int8multirange(int8range(0, {START + 20 * MINUTE_MS}))")
    beat, trader.beat = trader.beat, trader.fall_silent
    trader.run_until(START + 80 * MINUTE_MS, restart_every=25)
    account = trader.account()
    assert account.trip_kind == "dead man"
    assert account.cursor >= START + 70 * MINUTE_MS, "minutes go on without their data"
    assert [row for row in trader.ledger() if row[2] == "fill" and row[1] >= START + 20 * MINUTE_MS] == []
    sql.execute("INSERT INTO perp_data SELECT * FROM kept")
    same = "(c.source, c.symbol) = (k.source, k.symbol)"
    sql.execute(f"UPDATE perp_coverage AS c SET covered = k.covered FROM known AS k WHERE {same}")
    trader.beat = beat
    trader.run_until(START + 110 * MINUTE_MS)
    fills = [row for row in trader.ledger() if row[2] == "fill" and row[1] > START + 80 * MINUTE_MS]
    assert bool(fills) is (after == "resume")
    assert (trader.account().trip is None) is (after == "resume")


def test_every_day_is_reconciled_once_it_is_over_and_missed_ones_are_made_up_for(
    trader: Trader, command: Command, monkeypatch
):
    """One that was asked for before the day's end keeps no later one from running."""
    add(trader, command)
    trader.run_until(START + 5 * MINUTE_MS)
    first = floor_to(START, DAY_MS)
    days = []

    def store_as_equal(database, reading, name, day):
        days.append((day - first) // DAY_MS)
        database.run(lambda cursor: store.save_reconciliation(cursor, name, day, day + DAY_MS, [], []))
        return store.Reconciliation(day, day + DAY_MS, True, [], [], 0)

    assert command("reconcile", "paper", "--day", to_iso(first))[0] == 0
    monkeypatch.setattr(program, "reconcile", store_as_equal)
    trader.program._papers["paper"].cursor = first + 3 * DAY_MS + HOUR_MS
    for hours in (25, 26, 72, 74):
        trader.now = first + hours * HOUR_MS
        for _ in range(3):
            trader.program._reconcile_next()
    assert days == [0, 1, 2]


def test_a_channel_that_is_not_there_is_refused(trader: Trader, command: Command):
    options = ("--symbols", "A", "--exchange", "binance", "--channel", "desk")
    code, text = command("add", "other", str(trader.file), *options)
    assert (code, "no such channel" in text) == (2, True)


def test_a_silence_holds_for_its_minutes_however_many_are_stepped_at_once(
    trader: Trader, sql: Cursor, command: Command
):
    channel = "INSERT INTO perp_alert_channels VALUES ('desk', 'mine.toml', 'http://127.0.0.1:1', '', 0, 2678400000)"
    sql.execute(channel)
    end = START + 20 * MINUTE_MS
    silence = Silence(match={"rule": "trader-paper"}, until_ms=end)
    trader.database.run(lambda cursor: add_silence(cursor, silence))
    add(trader, command, "--channel", "desk")
    trader.run_until(START + 40 * MINUTE_MS, at_once=40)
    sql.execute("SELECT t.minute, o.silenced FROM perp_outbox AS o JOIN perp_transitions AS t ON t.id = o.transition")
    reported = sql.fetchall()
    assert {silenced for _, silenced in reported} == {True, False}
    assert all(silenced == (minute + MINUTE_MS < end) for minute, silenced in reported)


def test_what_cannot_be_stored_is_refused(trader: Trader, command: Command):
    trader.file.write_text(
        "from fademoe.strategy import Strategy\n\nclass Odd(Strategy):\n"
        "    def __init__(self):\n        self.kept = object()\n\n    def on_minute(self, view):\n        return None\n"
    )
    code, text = command("add", "odd", str(trader.file), "--symbols", "A", "--exchange", "binance")
    assert code == 2
    assert "attribute kept of the strategy is object" in text


def test_settlements_are_booked_on_paper(trader: Trader, command: Command):
    add(trader, command)
    trader.run_until(START + 9 * HOUR_MS, at_once=100)
    booked = [row for row in trader.ledger() if row[2] == "funding"]
    assert booked
    assert [row for row in backtest(trader, trader.now) if row[2] == "funding"] == booked


def reading(expression: str) -> str:
    """Return a strategy that trades by what it reads."""
    return (
        "from fademoe.strategy import Strategy, Target\n\nclass Reading(Strategy):\n"
        "    def on_minute(self, view):\n"
        f"        found = {expression}\n"
        "        return {'A': Target(0.5 if found > 0 else -0.5)} if found else None\n"
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "expression",
    [
        "view.value('A', 'cvd')",
        "(view.value('A', 'vwap') or 0) - (view.value('A', 'c') or 0)",
        "view.value('A', 'oi_chg')",
        "(view.value('A', 'oi', 'x') or 0) - 2 * (view.value('A', 'oi') or 0)",
        "view.value('A', 'spread_bps', 'x')",
    ],
)
def test_a_derived_column_is_read_on_paper_as_in_a_backtest(trader: Trader, command: Command, expression: str):
    trader.file.write_text(reading(expression))
    add(trader, command)
    trader.run_until(START + 40 * MINUTE_MS)
    assert trader.account().cursor == trader.now
    assert trader.account().trip is None
    expected = backtest(trader, trader.now)
    assert expected
    assert trader.ledger() == expected


def test_a_minute_waits_for_what_a_derived_column_is_computed_from(trader: Trader, sql: Cursor, command: Command):
    """Of the exchanges that are followed and list the coin; the other ones have no part in it."""
    trader.file.write_text(reading("view.value('A', 'spread_bps', 'x')"))
    add(trader, command)
    trader.run_until(START + 5 * MINUTE_MS)
    sql.execute(
        "UPDATE perp_coverage SET covered = covered - int8multirange(int8range(%s, NULL)) WHERE source = 'byb-ohlcv'",
        (START + 4 * MINUTE_MS,),
    )
    trader.run_until(START + 8 * MINUTE_MS)
    assert trader.account().cursor < trader.now
    trader.database.run(lambda cursor: follow(cursor, ["bin"]))
    trader.run_until(START + 9 * MINUTE_MS)
    assert trader.account().cursor == trader.now


@pytest.mark.long
@pytest.mark.parametrize("expression", ["byb.c > c", "okx.c > 0 or c > 0"])
def test_rules_that_name_another_exchange_decide_on_paper_as_in_a_backtest(
    trader: Trader, command: Command, tmp_path: Path, expression: str
):
    trader.file = tmp_path / "rules.toml"
    trader.file.write_text(f'long = "{expression}"\nshort = "not ({expression})"\nsize = 0.4\n')
    add(trader, command)
    trader.run_until(START + 60 * MINUTE_MS)
    expected = backtest(trader, trader.now)
    assert expected
    assert trader.ledger() == expected
    code, text = command("reconcile", "paper", "--day", to_iso(floor_to(START, DAY_MS)))
    assert (code, text.split()[0]) == (0, "equal")


@pytest.mark.parametrize("wanted", ["'{}'", f"'{{[{START - 10 * DAY_MS},{START})}}'"])
def test_another_series_that_nobody_wants_any_more_is_not_waited_for(
    trader: Trader, sql: Cursor, command: Command, tmp_path: Path, wanted: str
):
    trader.file = tmp_path / "rules.toml"
    trader.file.write_text('long = "byb.c > c"\n')
    sql.execute(f"UPDATE perp_coverage SET wanted = {wanted}, covered = wanted WHERE source = 'byb-ohlcv'")
    add(trader, command)
    trader.run_until(START + 5 * MINUTE_MS)
    assert trader.account().cursor == trader.now


def test_what_a_strategy_reads_is_not_waited_for_from_before_it_was_wanted(
    trader: Trader, sql: Cursor, command: Command
):
    trader.file.write_text(reading("view.value('A', 'oi')"))
    sql.execute(
        "UPDATE perp_coverage SET wanted = wanted * from_start, covered = covered * from_start"
        " FROM (SELECT int8multirange(int8range(%s, NULL)) AS from_start) AS s WHERE source = 'bin-oi'",
        (START,),
    )
    add(trader, command)
    trader.run_until(START + 5 * MINUTE_MS)
    assert trader.account().cursor == trader.now


def test_a_series_that_nobody_declares_any_more_is_not_waited_for(trader: Trader, sql: Cursor, command: Command):
    add(trader, command)
    trader.run_until(START + 5 * MINUTE_MS)
    reads = json.dumps([["gone-ohlcv", "A", "ohlcv"], ["bin-gone", "A", "gone"]])
    sql.execute("UPDATE perp_trader_accounts SET state = jsonb_set(state::jsonb, '{reads}', %s)::text", (reads,))
    trader.start()
    trader.run_until(START + 9 * MINUTE_MS)
    assert trader.account().trip is None
    assert trader.account().cursor == trader.now


@pytest.mark.parametrize(
    ("column", "metric", "minutes"),
    [
        ("c", "ohlcv", 0),  # the candle of the minute itself counts as known
        ("mark_c", "mark", 1),  # a bar of a minute, known 45 s after its end
        ("oi", "oi", 6),  # a sample, known 7 minutes after its moment
        ("fr", "fr", 1),  # a settlement, known 105 s after its moment
    ],
)
def test_a_minute_waits_for_the_rows_of_another_exchange_that_are_known_by_its_end(
    trader: Trader, sql: Cursor, command: Command, column: str, metric: str, minutes: int
):
    trader.file.write_text(reading(f"(view.value('A', '{column}', 'byb') or 0) - (view.value('A', 'c') or 0)"))
    add(trader, command)
    trader.run_until(START + 15 * MINUTE_MS)
    at = START + 20 * MINUTE_MS
    sql.execute(
        "UPDATE perp_coverage SET covered = covered - int8multirange(int8range(%s, NULL))"
        " WHERE source = %s AND symbol = 'A'",
        (at, f"byb-{metric}"),
    )
    trader.run_until(at + (minutes + 4) * MINUTE_MS)
    assert trader.account().cursor == at + minutes * MINUTE_MS


FAILING = """
from fademoe.strategy import Strategy, Target

class Failing(Strategy):
    calls = 0

    def on_minute(self, view):
        self.calls = self.calls + 1
        if self.calls == 50:
            {fails}
        if self.calls % 7 == 0:
            return {{symbol: Target(0.4 if self.calls % 2 else -0.4) for symbol in view.symbols}}
"""


@pytest.mark.long
@pytest.mark.parametrize("at_once", [1, 100])
@pytest.mark.parametrize(
    ("fails", "words"),
    [
        ("raise ValueError('no more')", "ValueError: no more"),
        ("self.kept = object()", "attribute kept of the strategy is object"),
        ("import functools; self.kept = functools.reduce(lambda one, _: [one], range(10_000), 0)", "RecursionError"),
        ("view.value('A', 'nothing')", "unknown column 'nothing'"),
    ],
)
def test_a_step_that_fails_turns_its_account_off_in_its_minute_and_no_other(
    trader: Trader, command: Command, at_once: int, fails: str, words: str
):
    """However many minutes are stepped at once."""
    add(trader, command, name="good")
    trader.file.write_text(FAILING.format(fails=fails))
    add(trader, command)
    trader.run_until(START + 100 * MINUTE_MS, at_once=at_once)
    assert trader.account("good").cursor == trader.now
    assert trader.account("good").trip is None
    account = trader.account()
    assert words in (account.trip or "")
    assert account.cursor == trader.now
    failed = START + 49 * MINUTE_MS
    events = trader.database.run(lambda cursor: store.list_events(cursor, "paper", Window(START, END)))
    assert [(event.minute, event.is_off) for event in events] == [(failed, True)]
    expected = backtest(trader, failed)
    assert len(expected) > 10
    assert [row for row in trader.ledger() if row[1] < failed] == expected


def test_an_account_that_cannot_be_loaded_stops_no_other(trader: Trader, sql: Cursor, command: Command):
    add(trader, command)
    add(trader, command, name="newer")
    sql.execute("UPDATE perp_trader_accounts SET state = '{}' WHERE name = 'newer'")
    trader.run_until(START + 5 * MINUTE_MS)
    assert trader.account().cursor == trader.now


def test_a_day_that_cannot_be_reconciled_is_noted_and_the_next_ones_follow(
    trader: Trader, sql: Cursor, command: Command
):
    trader.file.write_text(reading("1 / (view.value('A', 'c') - 7)"))
    add(trader, command)
    trader.run_until(START + 5 * MINUTE_MS)
    sql.execute(f"UPDATE perp_data SET c = 7 WHERE source = 'bin-ohlcv' AND ts = {START + 2 * MINUTE_MS}")
    first = floor_to(START, DAY_MS)
    trader.program._papers["paper"].cursor = first + 2 * DAY_MS
    sql.execute("UPDATE perp_trader_accounts SET cursor = %s", (first + 2 * DAY_MS,))
    sql.execute("INSERT INTO perp_trader_days SELECT account, day + %s, state FROM perp_trader_days", (DAY_MS,))
    trader.now = first + 3 * DAY_MS
    for _ in range(2):
        trader.program._reconcile_next()
    stored = trader.database.run(lambda cursor: store.list_reconciliations(cursor, "paper", 5))
    assert [each.day for each in stored] == [first + DAY_MS, first]
    assert not stored[1].is_equal
    assert "ZeroDivision" in stored[1].differences[0]["causes"][0] or "DivisionByZero" in str(stored[1].differences)
