"""What the program of a stream does with its connections and rows; nothing is connected."""

import signal
from pathlib import Path
from types import SimpleNamespace

from fademoe.clock import MINUTE_MS
from fademoe.exchanges.bybit import EXCHANGE
from fademoe.feeds.instrument import Instrument
from fademoe.metrics import PredictedFunding
from fademoe.signals import StopSignal
from fademoe.store.coverage import Series
from fademoe.streams.minutes import Item
from fademoe.streams.runner import MIN_AGE_S, StreamRunner, has_taken_over
from fademoe.streams.spill import CHUNK_ROWS
from tests.support import lines

START = 1_767_225_600_000
FEED = next(feed for feed in EXCHANGE.stream_feeds if feed.metric == "ppr")


def make_runner(home=Path("/nowhere"), write=None):
    stop = StopSignal()
    services = SimpleNamespace(
        settings=SimpleNamespace(home=home, ws_urls={}), stop=stop, rest=None, writer=SimpleNamespace(write=write)
    )
    return StreamRunner(services, EXCHANGE), stop


def test_a_stop_is_obeyed_while_spilled_rows_are_stored(tmp_path):
    written = []

    def write(batches, covered, arrival):
        (rows,) = batches[0].rows.values()
        written.append(len(rows))
        if len(written) == 2:
            stop._received(signal.SIGTERM, None)
        return len(rows)

    runner, stop = make_runner(tmp_path, write)
    times = range(START, START + 3 * CHUNK_ROWS * MINUTE_MS, MINUTE_MS)
    items = [Item(FEED, Series("byb-ppr", "BTC"), ts, PredictedFunding(ts, "1")) for ts in times]
    runner._spill.write(items)
    assert runner._flush()
    assert written == [CHUNK_ROWS] * 2
    assert sum(map(len, runner._spill.read_chunks())) == len(items), "what is not stored stays on disk"


def test_a_connection_whose_thread_has_died_takes_over_from_nobody_and_is_replaced():
    bitcoin = Instrument(exchange="bybit", code="byb", name="BTCUSDT", symbol="BTC")
    topics = lines.topics_of(EXCHANGE.stream_feeds, [bitcoin])
    old, dead = (lines.Line(EXCHANGE.sockets[0], topics, START).connection for _ in range(2))
    old.health.claimed_until_ms = dead.health.claims_from_ms = START
    assert not has_taken_over(old, [dead])
    runner, _ = make_runner()
    runner._connections = [dead]
    runner._renew(0.0)
    (fresh,) = runner._connections
    assert fresh.is_alive()
    assert fresh.topics is topics
    fresh.end()
    fresh.join(5)


def test_a_server_that_asks_each_new_connection_to_leave_is_not_flooded():
    runner, _ = make_runner()
    topics = lines.topics_of(EXCHANGE.stream_feeds, [])
    connection = lines.Line(EXCHANGE.sockets[0], topics, START).connection
    runner._connections = [connection]
    connection.start()
    connection.health.is_aged = True
    runner._renew(connection.opened_s + MIN_AGE_S - 1)
    assert runner._connections == [connection]
    runner._renew(connection.opened_s + MIN_AGE_S)
    (fresh,) = runner._connections
    assert fresh is not connection
    for each in (connection, fresh):
        each.end()
        each.join(5)
