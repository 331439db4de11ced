"""Over a simulated hour, what streams and polls store at a ts is what the history has for that ts."""

from collections import Counter
from types import SimpleNamespace

import pytest

from fademoe.client import instruments
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS
from fademoe.feeds import registry
from fademoe.feeds.history import Page
from fademoe.jobs import polls
from fademoe.metrics import METRICS, name_perpspec
from fademoe.runtime.job_context import use_services
from fademoe.streams.buffer import to_batches
from fademoe.testing.readers import read_rows
from tests.support.clocks import settled_end
from tests.support.lines import Line, topics_of
from tests.support.stepped import SteppedWorld

SYMBOLS = ("BTC", "ETH", "PEPE")
POLL_SECOND_MS = 20_000
PUBLISHED_MS = 30 * MINUTE_MS  # after which every history has the hour
# of each series in an hour: bars and premiums of the minutes, open interest of the full five minutes
LEAST = {"ohlcv": 58, "pfr": 58, "ppr": 58, "oi": 11}


@pytest.fixture
def world(system):
    """An hour's start in a world, and services whose requests it answers."""
    start_ms = settled_end(HOUR_MS) - DAY_MS
    world = SteppedWorld(start_ms - MINUTE_MS + 123)
    system.environment |= {"FADEMOE_EXCHANGES": "binance,bybit,okx,coinalyze", "FADEMOE_COINALYZE_KEY": "demo"}
    system.environment["FADEMOE_SYMBOLS"] = ",".join(SYMBOLS)
    services = system.context()
    services.rest = world
    clock = lambda exchange, **_: world.clock.at_ms  # noqa: E731
    services.clocks = SimpleNamespace(estimate_now_ms=clock, now_ms=clock, ask=clock)
    use_services(services)
    yield world, services, start_ms
    services.close()


def contracts(services, exchange):
    """Return code -> the contracts of the symbols."""
    listed = instruments.ensure(exchange, services.rest, services.database)
    return {
        code: [by_symbol[symbol] for symbol in SYMBOLS if symbol in by_symbol] for code, by_symbol in listed.items()
    }


def live(system, source, symbol, interval):
    columns = [column.name for column in METRICS[source.rpartition("-")[2]].columns]
    rows = system.query(
        f"SELECT ts, {', '.join(columns)} FROM perp_data WHERE source = %s AND symbol = %s AND interval = %s",
        source,
        symbol,
        interval,
    )
    return {row[0]: dict(zip(columns, row[1:], strict=True)) for row in rows}


@pytest.mark.long
@pytest.mark.waits(60)
def test_live_rows_are_those_of_the_history_and_are_stored_when_they_are_over(world, system):
    """Values that only one of them has, such as USD, are left out."""
    world, services, start_ms = world
    lines = []
    for exchange in registry.load_exchanges().values():
        followed = [each for by_code in contracts(services, exchange).values() for each in by_code]
        for socket in exchange.sockets:
            feeds = [feed for feed in exchange.stream_feeds if feed.socket == socket.name]
            line = Line(socket, topics_of(feeds, followed), world.clock.at_ms)
            world.connect(exchange.name, line)
            lines.append(line)
    for minute_ms in range(start_ms, start_ms + HOUR_MS + 2 * MINUTE_MS, MINUTE_MS):
        world.run_until(minute_ms + POLL_SECOND_MS)
        for exchange in registry.load_exchanges().values():
            for feed in exchange.poll_feeds:
                polls.poll(exchange.name, feed.metric)
        for line in lines:
            items = line.items()
            assert line.errors() == []
            for feed, series, ts, _, _ in items:
                assert METRICS[feed.metric].compute_final_ms(ts, feed.interval_ms) <= world.clock.at_ms, series
            services.writer.write(*to_batches(items))
        newest = system.query("SELECT source, max(ts) FROM perp_data GROUP BY source")
        for source, ts in newest:
            assert METRICS[source.rpartition("-")[2]].compute_final_ms(ts, MINUTE_MS) <= world.clock.at_ms, source
    world.clock.at_ms = start_ms + HOUR_MS + PUBLISHED_MS
    compared = Counter()
    for exchange in registry.load_exchanges().values():
        served = {feed.metric: feed.interval for feed in (*exchange.stream_feeds, *exchange.poll_feeds)}
        for feed in [feed for feed in exchange.rest_feeds if feed.metric in served and feed.metric != "lq"]:
            for code, followed in contracts(services, exchange).items():
                for instrument in followed:
                    page = Page(instrument=instrument, start_ms=start_ms, end_ms=start_ms + HOUR_MS, limit=60)
                    feed_now = feed.recent or feed
                    rows = read_rows(feed_now, world.send(exchange, feed_now.make_request(page)), page)
                    source = name_perpspec(code, feed.metric)
                    stored = live(system, source, instrument.symbol, served[feed.metric])
                    for row in rows:
                        for name, value in row._asdict().items():
                            mine = stored.get(row.ts, {}).get(name)
                            if name != "ts" and None not in (mine, value):
                                assert mine == type(mine)(value), f"{source} {instrument.symbol} {row.ts} {name}"
                    compared[source, feed.metric] += len(stored.keys() & {row.ts for row in rows})
    assert {source for source, _ in compared} >= {
        *("bin-ohlcv", "bin-oi", "byb-ohlcv", "byb-oi", "okx-ohlcv", "okx-pfr", "okx-oi"),
        *("c-bin-oi", "c-bin-ppr", "c-byb-oi", "c-byb-ppr", "c-okx-oi", "c-okx-ppr"),
    }
    few = {key: count for key, count in compared.items() if count < LEAST[key[1]] and not key[0].startswith("c-")}
    assert few == {}
    assert all(count > 0 for count in compared.values()), compared
