"""An exchange that refuses a whole request for one unknown topic: the other topics are requested again."""

import pytest

from fademoe.client import instruments
from fademoe.feeds import registry
from tests.support.clocks import until
from tests.support.simulator import Simulator

GOOD = ("BTC", "ETH")
NOPE = {"bybit": ("byb", "NOPEUSDT"), "okx": ("okx", "NOPE-USDT-SWAP")}
TOPICS = {"bybit": ["allLiquidation", "kline.1", "tickers"], "okx": ["candle1m", "funding-rate", "open-interest"]}
OF_ALL = {"bybit": 0, "okx": 2}  # topics that are one for all contracts


@pytest.fixture(scope="module")
def spoiling():
    """A simulator that refuses whole requests."""
    running = Simulator("--no-limits", "--okx-void-requests")
    running.start()
    yield running
    running.stop()


@pytest.mark.waits(14)
@pytest.mark.parametrize("exchange", ["bybit", "okx"])
def test_one_topic_that_is_unknown_costs_no_other(exchange, system, spoiling):
    system.environment |= {
        "FADEMOE_EXCHANGES": exchange,
        f"FADEMOE_{exchange.upper()}_REST_URL": spoiling.url,
        f"FADEMOE_{exchange.upper()}_WS_URL": spoiling.url.replace("http", "ws"),
        "FADEMOE_SYMBOLS": ",".join((*GOOD, "NOPE")),
    }
    context = system.context()
    instruments.refresh(registry.load_exchanges()[exchange], context.rest, context.database)
    with context.database.open_transaction() as cursor:
        cursor.execute(
            "INSERT INTO perp_metadata (exchange, code, instrument, symbol) VALUES (%s, %s, %s, 'NOPE')",
            (exchange, *NOPE[exchange]),
        )
    context.close()
    system.start("stream", exchange)
    wanted = len(GOOD) * len(TOPICS[exchange]) + OF_ALL[exchange]
    until(lambda: spoiling.get("/sim/stats")[exchange]["subscriptions"] == wanted, 50)
    messages = until(lambda: len(errors(system)) == len(TOPICS[exchange]) and errors(system), 20)
    for topic in TOPICS[exchange]:
        assert len([message for message in messages if topic in message and "NOPE" in message]) == 1
    running = "SELECT 1 FROM perp_status WHERE unit = %s AND state = 'running'"
    until(lambda: system.query(running, f"stream {exchange}"), 20)


def errors(system):
    return sorted(message for (message,) in system.query("SELECT message FROM perp_errors"))
