"""A paper account lives a simulated day through faults and kills of its servers: the backtest says the same."""

import itertools
import os
import time

import pytest

from fademoe.backtest.database import execute
from fademoe.backtest.plan import Plan
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Pace, ceil_to, floor_to, now_ms, set_pace, to_host_s, to_iso
from fademoe.store import trader as store
from fademoe.store.connection import Database
from tests.support.chaos import REST_FAULTS
from tests.support.clocks import until
from tests.support.installation import Installation
from tests.support.simulator import Simulator

SPEED = int(os.environ.get("TRADER_SPEED", "6"))  # of the clock: five minutes of it have to do for a restart
MINUTES = int(os.environ.get("TRADER_MINUTES", "60"))  # 1440: a day
KILL_S = float(os.environ.get("TRADER_KILL_S", "60"))  # of the host
BEFORE_MS = 40 * MINUTE_MS  # so long before a settlement of all contracts it begins
KILLED = ("trader", "postgres", "redis")
PROGRAMS = ("postgres", "redis", "stream-binance", "scheduler", "worker:worker_00", "worker-live", "trader")
SYMBOLS = ("BTC", "ETH", "PEPE")
TRADING = """
from fademoe.strategy import Limit, Stop, Strategy, Target

class Trading(Strategy):
    params = {"share": 0.3}

    def on_minute(self, view):
        self.calls = getattr(self, "calls", 0) + 1
        self.rates = [view.value(symbol, "fr") for symbol in view.symbols]
        orders = {}
        for symbol in view.symbols:
            closes = view.rows(symbol, "c", 5)
            if None in closes:
                continue
            held = view.position(symbol)
            if self.calls % 3 == 0:
                orders[symbol] = Target(self.share if closes[-1] > closes[0] else -self.share)
            elif self.calls % 3 == 1 and held:
                orders[symbol] = [
                    Limit(-held / 2, closes[-1], reduce=True),
                    Stop(-held, min(closes) if held > 0 else max(closes), reduce=True),
                ]
        return orders
"""


@pytest.mark.full
def test_the_ledger_of_a_day_with_faults_and_kills_is_that_of_its_backtest(folder):
    clock = start_clock()
    simulator = Simulator("--no-limits", "--clock", clock)
    simulator.start()
    system = Installation(folder, simulator, list(SYMBOLS), workers=1)
    system.with_settings(FADEMOE_EXCHANGES="binance", FADEMOE_CLOCK=clock)
    try:
        system.up(PROGRAMS)
        until(lambda: system.query("SELECT 1 FROM perp_data WHERE source = 'bin-mark' LIMIT 1"), 120)
        strategy = folder / "trading.py"
        strategy.write_text(TRADING)
        options = ("--symbols", ",".join(SYMBOLS), "--exchange", "binance")
        made = system.run("trader", "add", "paper", str(strategy), *options)
        assert made.returncode == 0, made.stdout + made.stderr
        ((since,),) = system.query("SELECT since FROM perp_trader_accounts")
        make_trouble(system, simulator, since + MINUTES * MINUTE_MS)
        compare(system, since, since + MINUTES * MINUTE_MS)
    finally:
        system.down()
        simulator.stop()


def start_clock() -> str:
    """Let the clocks run fast, from a little before a settlement on; return them as FADEMOE_CLOCK takes them."""
    host_ms = now_ms()
    target_ms = ceil_to(host_ms + 2 * HOUR_MS, 8 * HOUR_MS) - BEFORE_MS
    pace = Pace(SPEED, host_ms - (target_ms - host_ms) // (SPEED - 1))
    set_pace(pace)
    return f"{pace.speed}@{pace.since_ms}"


def make_trouble(system: Installation, simulator: Simulator, end: int) -> None:
    """Kill the trader and the servers in turn, and let requests and sockets fail, until the clock shows `end`."""
    for kind, share in REST_FAULTS:
        simulator.fault(kind=kind, probability=share, seconds=2)
    simulator.fault(kind="lost_close", probability=0.05)
    for name in itertools.cycle(KILLED):
        time.sleep(max(0.0, min(KILL_S, to_host_s((end - now_ms()) / 1000))))
        if now_ms() >= end:
            break
        system.kill(name)
        simulator.fault(kind="drop_sockets", exchange="binance", count=1)
        print(f"{to_iso(now_ms())} {name} was killed", flush=True)
    simulator.clear()


def compare(system: Installation, since: int, end: int) -> None:
    """See that the ledger is the backtest's, with the settlements in their minutes, and that reconciliation says so."""
    until(system.answers, 60)
    until(lambda: system.query("SELECT cursor FROM perp_trader_accounts")[0][0] >= end, 120)
    ((cursor,),) = system.query("SELECT cursor FROM perp_trader_accounts")
    print(system.query("SELECT kind, reason, count(*) FROM perp_trader_ledger GROUP BY 1, 2 ORDER BY 1, 2"))
    print(system.query("SELECT ts, missing FROM perp_trader_minutes WHERE missing <> '{}' ORDER BY ts"))
    print(system.query("SELECT minute, is_off, reason FROM perp_trader_events ORDER BY minute"))
    database = Database(system.database_url)
    try:
        ledger = database.run(lambda sql: store.read_ledger(sql, "paper", 0, 1_000_000))
        account = database.run(lambda sql: store.find_account(sql, "paper"))
        with database.open_transaction() as sql:
            again = execute(sql, Plan.from_json({**account.plan, "until": cursor})).result.ledger
    finally:
        database.close()
    assert [tuple(row) for row in ledger] == [tuple(row.to_texts().values()) for row in again]
    begun = since + 10 * MINUTE_MS  # by then it holds something
    truth = {symbol: system.simulator.truth("binance", "fr", symbol, begun, cursor) for symbol in SYMBOLS}
    settled = {(ts, symbol) for symbol, rows in truth.items() for ts in rows}
    booked = {(row[1], row[3]) for row in ledger if row[2] == "funding" and row[1] >= begun}
    assert booked == settled
    for day in range(floor_to(since, DAY_MS), cursor, DAY_MS):
        reported = system.run("trader", "reconcile", "paper", "--day", to_iso(day)[:10])
        assert reported.stdout.startswith("equal"), reported.stdout + reported.stderr
