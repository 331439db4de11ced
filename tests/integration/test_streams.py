"""Live data from real stream processes, against the simulator and its faults."""

import os
import signal
import time
from dataclasses import replace

import pytest

from fademoe.clock import MINUTE_MS, floor_to, now_ms
from fademoe.feeds import registry
from fademoe.metrics import Liquidations
from fademoe.store.coverage import Series
from fademoe.streams.minutes import Item
from fademoe.streams.runner import StreamRunner
from tests.support.clocks import sleep_until, until
from tests.support.simulator import Simulator

SYMBOLS = ["BTC", "ETH", "PEPE", "币安人生"]


def follow(system, symbols=SYMBOLS):
    system.environment["FADEMOE_SYMBOLS"] = ",".join(symbols)
    return system.start("stream", "binance")


def state(system):
    rows = system.query("SELECT state, message FROM perp_status WHERE unit = 'stream binance'")
    return rows[0] if rows else ("", "")


def newest(system, symbol="BTC"):
    return system.query("SELECT max(ts) FROM perp_data WHERE source = 'bin-ohlcv' AND symbol = %s", symbol)[0][0] or 0


def is_repaired(system, start_ms, end_ms):
    assert system.run("reconcile").returncode == 0
    return system.covers("bin-ohlcv", SYMBOLS, start_ms, end_ms)


@pytest.mark.waits(25)
def test_closed_bars_are_stored_and_what_a_broken_socket_missed_is_fetched(fast_system):
    system, simulator = fast_system, fast_system.simulator
    system.start("worker", "--live")
    follow(system)
    until(lambda: state(system)[0] == "running", 20)
    simulator.fault(exchange="binance", kind="lost_close", probability=1.0)
    start_ms = floor_to(now_ms(), MINUTE_MS)
    closed_ms, end_ms = start_ms + MINUTE_MS, start_ms + 2 * MINUTE_MS
    sleep_until(closed_ms + 4000)
    assert newest(system) < start_ms  # the minute before may have closed just before
    assert system.query("SELECT source, count(*) FROM perp_coverage WHERE upper_inf(wanted) GROUP BY 1 ORDER BY 1") == [
        ("bin-lq", len(SYMBOLS)),
        ("bin-ohlcv", len(SYMBOLS)),
        ("bin-ppr", len(SYMBOLS)),
    ]
    simulator.clear()
    simulator.fault(exchange="binance", kind="drop_sockets", count=1)
    until(lambda: newest(system) >= closed_ms, 90)
    until(lambda: is_repaired(system, start_ms, end_ms), 60)
    for symbol in SYMBOLS:
        assert system.differences("binance", "bin-ohlcv", symbol, start_ms, end_ms) == []
    assert newest(system) < floor_to(now_ms(), MINUTE_MS)  # never an open one
    before = time.monotonic()
    system.stop()
    assert time.monotonic() - before < 10
    assert state(system)[0] == "stopped"


@pytest.mark.long
@pytest.mark.waits(31)
def test_a_stream_without_its_exchange_says_why_and_goes_on_by_itself(system):
    simulator = Simulator("--no-limits")
    system.environment["FADEMOE_BINANCE_REST_URL"] = simulator.url
    system.environment["FADEMOE_BINANCE_WS_URL"] = simulator.url.replace("http", "ws")
    follow(system)
    until(lambda: state(system)[0] == "waiting", 20)
    assert "cannot be reached" in state(system)[1]
    assert simulator.url in state(system)[1]
    simulator.start()
    try:
        until(lambda: state(system)[0] == "running", 60)
        simulator.stop()
        until(lambda: state(system)[0] == "waiting", 30)
        assert "next try in" in state(system)[1]
        simulator.start()
        until(lambda: state(system)[0] == "running", 60)
    finally:
        simulator.stop()


def test_a_symbol_that_the_exchange_does_not_list_is_named(system):
    """The fault: the stream did not say which symbols it does not follow."""
    follow(system, ["BTCC", "1000PEPE"])
    until(lambda: "not on its list" in state(system)[1], 20)
    names = "not on its list: BTCC, 1000PEPE (PEPE is meant)"
    assert state(system) == ("waiting", f"no contracts to follow yet; {names}")
    system.stop()
    follow(system, ["BTC", "BTCC", "1000PEPE"])
    until(lambda: state(system)[0] == "running" and names in state(system)[1], 20)


def test_a_killed_stream_leaves_a_gap_that_is_known(system):
    program = follow(system)
    until(lambda: state(system)[0] == "running", 20)
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    wanted = system.query("SELECT lower(wanted) FROM perp_coverage WHERE symbol = 'BTC'")[0][0]
    assert floor_to(wanted, MINUTE_MS) == wanted
    follow(system)
    until(lambda: state(system)[0] == "running", 20)
    assert system.query("SELECT lower(wanted) FROM perp_coverage WHERE symbol = 'BTC'")[0][0] == wanted


def test_events_that_come_late_correct_the_row_of_their_minute_and_that_is_recorded(system):
    exchange, series, ts = registry.load_exchanges()["okx"], Series("okx-lq", "BTC"), floor_to(now_ms(), MINUTE_MS)
    feed = next(feed for feed in exchange.stream_feeds if feed.metric == "lq")
    context = system.context()
    runner = StreamRunner(context, exchange)
    quiet = ts + MINUTE_MS
    runner.store([Item(feed, series, ts, Liquidations(ts, "1", "0")), Item(feed, series, quiet, None)])
    sums = [Liquidations(ts, "1.5", "0"), Liquidations(quiet, "0", "2"), Liquidations(ts, "1.5", "7")]
    for _ in range(2):
        runner.store([Item(feed, series, row.ts, row, replaces=True) for row in sums])
    context.close()
    stored = system.query("SELECT ts, lql::text, lqs::text FROM perp_data WHERE source = 'okx-lq' ORDER BY ts")
    assert stored == [(ts, "1.5", "7"), (quiet, "0", "2")]
    changed = system.query('SELECT ts, "column", old_value, new_value FROM perp_corrections ORDER BY id')
    assert [(each[0] - ts, *map(str, each[1:])) for each in changed] == [(0, "lql", "1", "1.5"), (0, "lqs", "0", "7")]


def test_a_minute_without_events_proves_nothing_where_the_history_has_a_row_for_each(system):
    """It counted as complete, so that its row of zeros was never fetched."""
    exchange, series, ts = registry.load_exchanges()["okx"], Series("okx-lq", "BTC"), floor_to(now_ms(), MINUTE_MS)
    feed = next(feed for feed in exchange.stream_feeds if feed.metric == "lq")
    history = replace(exchange.find_rest_feed("pfr"), metric="lq")
    context = system.context()
    for number, table in enumerate(
        (
            exchange,
            replace(exchange, rest_feeds=(replace(history, sparse=True),)),
            replace(exchange, rest_feeds=(history,)),
        )
    ):
        minute = ts + number * 2 * MINUTE_MS
        items = [
            Item(feed, series, minute, Liquidations(minute, "1", "0")),
            Item(feed, series, minute + MINUTE_MS, None),
        ]
        StreamRunner(context, table).store(items)
    context.close()
    (covered,) = system.query("SELECT covered::text FROM perp_coverage WHERE source = 'okx-lq'")
    assert covered == (f"{{[{ts},{ts + 5 * MINUTE_MS})}}",)
