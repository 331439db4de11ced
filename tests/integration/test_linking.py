"""The interval of a settlement, counted again when the settlement before it is stored after it."""

import pytest

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window
from fademoe.feeds import registry
from fademoe.jobs import audit, backfill
from fademoe.jobs.linking import link_following
from fademoe.metrics import Funding
from fademoe.runtime.job_context import JobContext
from fademoe.store.coverage import Covered, Series
from fademoe.store.writer import Batch, group_rows
from tests.support.clocks import settled_end

BTC = Series("bin-fr", "BTC")
START = 1_767_225_600_000
FEED = registry.load_exchanges()["binance"].find_rest_feed("fr")


@pytest.fixture
def services(system):
    services = system.context()
    yield services
    services.close()


def hours(system):
    rows = system.query("SELECT ts, fr_hours FROM perp_data WHERE source = 'bin-fr' AND symbol = 'BTC' ORDER BY ts")
    return [(ts, value if value is None else int(value)) for ts, value in rows]


def store(services, windows, *settlements):
    rows = [(BTC, Funding(START + at * HOUR_MS, "0.0001", fr_hours)) for at, fr_hours in settlements]
    covered = [Window(START + begin * HOUR_MS, START + end * HOUR_MS) for begin, end in windows]
    services.writer.write([Batch("fr", FEED.interval, group_rows(rows))], [Covered(BTC, covered)])
    link_following(services.database, FEED, BTC, covered)


def test_a_settlement_gets_its_interval_when_the_one_before_comes(system, services):
    store(services, [(16, 24)], (16, None))
    store(services, [(0, 8)], (0, None))
    assert hours(system) == [(START, None), (START + 16 * HOUR_MS, None)], "what is between them is missing"
    store(services, [(8, 16)], (8, 8))
    assert hours(system)[1:] == [(START + 8 * HOUR_MS, 8), (START + 16 * HOUR_MS, 8)]
    changes = system.query('SELECT ts, "column", old_value, new_value FROM perp_corrections')
    assert changes == [(START + 16 * HOUR_MS, "fr_hours", None, 8)]


def test_a_settlement_between_two_shortens_the_interval_of_the_later_one(system, services):
    store(services, [(0, 24)], (0, None), (8, 8), (16, 8))
    store(services, [(8, 13)], (12, 4))
    assert [value for _, value in hours(system)] == [None, 8, 4, 4]


@pytest.mark.parametrize("way", ["audit", "backfill"])
def test_history_links_what_follows_the_settlements_it_adds(system, services, way):
    """Two settlements are lost: what is covered is audited, what is missing is fetched."""
    end_ms = settled_end(DAY_MS)
    window, context = Window(end_ms - 4 * DAY_MS, end_ms), JobContext(services=services)
    backfill.run_window(context, BTC, window)
    times = [ts for ts, _ in hours(system)]
    lost = Window(times[4], times[6] - MINUTE_MS)
    system.query(
        "DELETE FROM perp_data WHERE source = 'bin-fr' AND ts BETWEEN %s AND %s RETURNING ts", lost.start_ms, times[5]
    )
    system.query("UPDATE perp_data SET fr_hours = NULL WHERE ts = %s RETURNING ts", times[6])
    if way == "audit":
        audit.audit(context, BTC, lost)
    else:
        with services.database.open_transaction() as cursor:
            cursor.execute(
                "UPDATE perp_coverage SET covered = covered - int8multirange(int8range(%s, %s))"
                " WHERE source = 'bin-fr'",
                [*lost],
            )
        backfill.run_window(context, BTC, window)
    assert system.differences("binance", "bin-fr", "BTC", *window) == []
