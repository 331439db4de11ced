"""An exchange that refuses a whole request for one unknown topic: the other topics are asked for again."""

from fademoe import instruments
from fademoe.feeds import registry
from tests.integration.conftest import until

GOOD = ("BTC", "ETH")
TOPICS = ("kline.1", "tickers", "allLiquidation")


def test_one_topic_that_is_unknown_costs_no_other(system, simulator):
    system.environment |= {
        "FADEMOE_EXCHANGES": "bybit",
        "FADEMOE_BYBIT_REST_URL": simulator.url,
        "FADEMOE_BYBIT_WS_URL": simulator.url.replace("http", "ws"),
        "FADEMOE_SYMBOLS": ",".join((*GOOD, "NOPE")),
    }
    context = system.context()
    instruments.refresh(registry.exchanges()["bybit"], context.rest, context.database)
    with context.database.transaction() as cursor:
        cursor.execute(
            "INSERT INTO perp_metadata (exchange, code, instrument, symbol) VALUES ('bybit', 'byb', 'NOPEUSDT', 'NOPE')"
        )
    context.close()
    system.start("stream", "bybit")
    until(lambda: simulator.get("/sim/stats")["bybit"]["subscriptions"] == len(GOOD) * len(TOPICS), 40)
    said = until(lambda: len(errors(system)) == len(TOPICS) and errors(system), 20)
    assert [message.rpartition("topic:")[2] for message in said] == [
        "allLiquidation.NOPEUSDT", "kline.1.NOPEUSDT", "tickers.NOPEUSDT"
    ]  # fmt: skip
    until(lambda: system.query("SELECT 1 FROM perp_status WHERE unit = 'stream bybit' AND state = 'running'"), 20)


def errors(system):
    rows = system.query("SELECT message FROM perp_errors WHERE unit LIKE '%%linear%%' OR unit LIKE '%%bybit%%'")
    return sorted(message for (message,) in rows)
