"""What a stream that lost rows, or hears no events, tells of itself, and the alert that comes of it."""

import signal

import pytest

from fademoe.alerts.conditions import read_conditions
from fademoe.clock import MINUTE_MS, Window, monotonic_s
from fademoe.errors import StoreError
from fademoe.exchanges.binance import EXCHANGE
from fademoe.feeds.instrument import Instrument
from fademoe.metrics import PredictedFunding
from fademoe.store.coverage import Series, want
from fademoe.store.partitions import Partitions
from fademoe.streams.buffer import Buffer
from fademoe.streams.minutes import Item
from fademoe.streams.runner import StreamRunner
from tests.support import lines
from tests.support.clocks import settled_end, until

START = 1_788_480_000_000
BTC = Instrument(exchange="binance", code="bin", name="BTCUSDT", symbol="BTC")
FEEDS = {feed.metric: feed for feed in EXCHANGE.stream_feeds}


@pytest.fixture
def services(system):
    found = system.context()
    yield found
    found.close()


def read_stream_alerts(services):
    """Return the messages of the alerts about streams."""
    conditions = read_conditions(services.settings, services.database, services.redis)
    return [one.message for one in conditions if one.kind == "stream"]


def test_rows_that_neither_memory_nor_disk_holds_are_told_and_their_minutes_are_missing(services, system, monkeypatch):
    """The fault: they were counted, and nobody read the count."""
    end_ms = settled_end(MINUTE_MS)
    series, times = Series("bin-ppr", "BTC"), range(end_ms - 8 * MINUTE_MS, end_ms, MINUTE_MS)
    items = [Item(FEEDS["ppr"], series, ts, PredictedFunding(ts, "0.1")) for ts in times]
    services.database.run(lambda cursor: want(cursor, [series], times[0], None))
    Partitions(services.database).ensure(Window(times[0], end_ms))
    spill_folder = services.settings.home / "spill"
    spill_folder.write_text("no folder: the disk takes no rows")
    runner = StreamRunner(services, EXCHANGE)
    runner._buffer = Buffer(max_items=3)

    def refuse(*_):
        raise StoreError("PostgreSQL is away")

    with monkeypatch.context() as away:
        away.setattr(services.writer, "write", refuse)
        away.setattr("fademoe.streams.runner.MAX_ITEMS_IN_MEMORY", 2)
        for part in (items[:3], items[3:]):
            runner._buffer.put(part)
            assert not runner._flush()
    alerts = []

    def end_round(_):
        alerts.extend(read_stream_alerts(services))
        services.stop._received(signal.SIGTERM, None)

    monkeypatch.setattr(runner, "_follow_contracts", lambda: True)
    monkeypatch.setattr(runner, "_store_until", end_round)
    runner.run()
    (alert,) = alerts
    assert "stream binance is in error" in alert
    assert "5 rows are lost, their minutes are missing" in alert
    assert system.covers("bin-ppr", ["BTC"], times[5], end_ms)
    for ts in times[:5]:
        assert not system.covers("bin-ppr", ["BTC"], ts, ts + MINUTE_MS)


def test_events_that_fail_to_come_for_an_hour_end_the_session_and_are_an_alert(services, monkeypatch):
    """The fault: a subscription that is acknowledged and silent looked like a calm market."""
    line = lines.Line(EXCHANGE.sockets[0], lines.topics_of([FEEDS["lq"]], [BTC]), START)
    connection, sessions = line.connection, []

    def run_session():
        sessions.append(line)
        line.now_ms = START
        connection.begin_session(line.now_s)
        line.now_ms += 61 * MINUTE_MS
        line.hear(b"pong")
        line.check()

    monkeypatch.setattr(connection, "_run_session", run_session)
    connection.start()
    try:
        until(lambda: len(sessions) > 1, 10)
        runner = StreamRunner(services, EXCHANGE)
        runner._connections = [connection]
        runner._report(*runner._state(monotonic_s()))
        (alert,) = read_stream_alerts(services)
        assert "no event of lq for an hour though subscribed: nothing is claimed since the last one" in alert
    finally:
        connection.end()
        connection.join(5)
