"""What streams claim and store when an exchange refuses, repeats or keeps silent."""

import pytest
import requests

from fademoe.clock import MINUTE_MS
from fademoe.feeds import registry
from fademoe.metrics import METRICS
from tests.support.clocks import sleep_until, until
from tests.support.simulator import same

SYMBOLS = ["BTC", "ETH"]
CODES = {"binance": "bin", "bybit": "byb", "okx": "okx"}
EVENTS = {"binance": "!forceOrder@arr", "bybit": "allLiquidation.BTCUSDT", "okx": "liquidation-orders"}
ONLY_BTC = {"bybit"}  # where a topic of liquidations is that of one contract


def follow(system, exchange):
    system.environment |= {
        "FADEMOE_EXCHANGES": exchange,
        "FADEMOE_SYMBOLS": ",".join(SYMBOLS),
        f"FADEMOE_{exchange.upper()}_REST_URL": system.simulator.url,
        f"FADEMOE_{exchange.upper()}_WS_URL": system.simulator.url.replace("http", "ws"),
    }
    system.start("stream", exchange)
    until(lambda: state(system, exchange) == "running", 30)


def state(system, exchange):
    rows = system.query("SELECT state FROM perp_status WHERE unit = %s", f"stream {exchange}")
    return rows[0][0] if rows else ""


def errors(system):
    return [message for (message,) in system.query("SELECT message FROM perp_errors")]


def topics(exchange):
    """Return how many topics the followed contracts have."""
    feeds = registry.load_exchanges()[exchange].stream_feeds
    contracts = {"bybit": "{}USDT", "binance": "{}USDT", "okx": "{}-USDT-SWAP"}[exchange]
    names = [contracts.format(symbol) for symbol in SYMBOLS]
    instrument = type("Named", (), {})
    found = set()
    for name in names:
        instrument.name = name
        found |= {(feed.socket, feed.topic(instrument)) for feed in feeds}
    announcements = sum(len(socket.announcements) for socket in registry.load_exchanges()[exchange].sockets)
    return len(found) + announcements


@pytest.mark.waits(40)
@pytest.mark.parametrize("exchange", list(CODES))
def test_a_refusal_that_names_no_topic_costs_the_offender_only(fast_system, exchange):
    """Nothing is claimed of the offender, everything of the others."""
    fast_system.simulator.fault(exchange=exchange, kind="unnamed_refusal", path=EVENTS[exchange])
    follow(fast_system, exchange)
    until(lambda: fast_system.simulator.get("/sim/stats")[exchange]["subscriptions"] == topics(exchange) - 1, 40)
    code = CODES[exchange]
    fast_system.wait_for_minutes([f"{code}-ohlcv"], SYMBOLS)
    claimed = "SELECT symbol FROM perp_coverage WHERE source = %s AND NOT isempty(covered)"
    if exchange in ONLY_BTC:
        fast_system.wait_for_minutes([f"{code}-lq"], ["ETH"])
        assert fast_system.query(claimed, f"{code}-lq") == [("ETH",)]
    else:
        assert fast_system.query(claimed, f"{code}-lq") == []
    assert any("reports a fault" in message for message in errors(fast_system))


@pytest.mark.long
@pytest.mark.waits(30)
@pytest.mark.parametrize("exchange", ["binance", "bybit"])
def test_a_topic_that_is_subscribed_already_is_served(fast_system, exchange):
    """The answer to the first request was lost, so it is asked again."""
    fast_system.simulator.fault(exchange=exchange, kind="lost_ack", path=EVENTS[exchange], count=1)
    follow(fast_system, exchange)
    start_ms = fast_system.wait_for_minutes([f"{CODES[exchange]}-lq"], SYMBOLS)
    for symbol in SYMBOLS:
        source = f"{CODES[exchange]}-lq"
        assert fast_system.differences(exchange, source, symbol, start_ms, start_ms + MINUTE_MS) == []
    assert errors(fast_system) == []


@pytest.mark.long
@pytest.mark.waits(40)
@pytest.mark.parametrize("exchange", ["binance", "okx"])
def test_liquidations_that_are_acknowledged_and_silent_are_not_claimed(fast_system, exchange):
    """What was silent is claimed by nobody, also when the events come again."""
    code = CODES[exchange]
    fast_system.simulator.fault(exchange=exchange, kind="silent_topics", path=EVENTS[exchange])
    follow(fast_system, exchange)
    for _ in range(2):
        fast_system.wait_for_minutes([f"{code}-ohlcv"], SYMBOLS)
    claimed = "SELECT symbol FROM perp_coverage WHERE source = %s AND NOT isempty(covered)"
    assert fast_system.query(claimed, f"{code}-lq") == []


@pytest.mark.long
@pytest.mark.waits(30)
@pytest.mark.parametrize("exchange", ["binance", "okx"])
def test_frames_of_an_exchange_about_itself_are_no_faults(fast_system, exchange):
    """A server that is about to go is left for a new connection."""
    follow(fast_system, exchange)
    opened = fast_system.simulator.get("/sim/stats")[exchange]["sockets_opened"]
    fast_system.simulator.fault(exchange=exchange, kind="control_frames")
    fast_system.wait_for_minutes([f"{CODES[exchange]}-ohlcv"], SYMBOLS)
    assert errors(fast_system) == []
    more = fast_system.simulator.get("/sim/stats")[exchange]["sockets_opened"] - opened
    assert more == (1 if exchange == "binance" else 0)


@pytest.mark.long
@pytest.mark.waits(30)
@pytest.mark.parametrize("exchange", list(CODES))
def test_of_a_bar_that_is_closed_twice_the_later_message_is_kept_and_the_change_recorded(fast_system, exchange):
    follow(fast_system, exchange)
    fast_system.simulator.fault(exchange=exchange, kind="changed_close")
    source = f"{CODES[exchange]}-ohlcv"
    start_ms = fast_system.wait_for_minutes([source], SYMBOLS)
    sleep_until(start_ms + MINUTE_MS + 20_000)
    changed = 'SELECT count(*) FROM perp_corrections WHERE source = %s AND "column" = %s'
    until(lambda: fast_system.query(changed, source, "c")[0][0] >= len(SYMBOLS), 20)
    for symbol in SYMBOLS:
        assert fast_system.differences(exchange, source, symbol, start_ms, start_ms + MINUTE_MS) == []


@pytest.mark.long
@pytest.mark.waits(40)
def test_liquidations_are_valued_by_the_size_of_the_contract_at_their_time(fast_system):
    """The exchange makes a contract ten times as large, and the list is fetched an hour later."""
    follow(fast_system, "okx")
    start_ms = fast_system.wait_for_minutes(["okx-lq"], SYMBOLS)
    for symbol in SYMBOLS:
        change = {"exchange": "okx", "instrument": f"{symbol}-USDT-SWAP", "value_shift": 1}
        requests.post(f"{fast_system.simulator.url}/sim/contracts", json=change, timeout=60).raise_for_status()
    end_ms = fast_system.wait_for_minutes(["okx-lq"], SYMBOLS) + MINUTE_MS
    listed = "SELECT count(*) FROM perp_metadata WHERE instrument LIKE '%%-USDT-SWAP' AND symbol = ANY(%s) AND"
    until(lambda: fast_system.covers("okx-lq", SYMBOLS, start_ms, end_ms), 60)
    for symbol in SYMBOLS:
        assert fast_system.differences("okx", "okx-lq", symbol, start_ms, end_ms) == []
    assert fast_system.query(f"{listed} contract_value >= 0.1", SYMBOLS) == [(len(SYMBOLS),)]
    assert errors(fast_system) == []


def find_wrong(system, exchange, start_ms, end_ms):
    """Return the stored values of all live metrics that are not the truth of their minute."""
    wrong = []
    for metric in sorted({feed.metric for feed in registry.load_exchanges()[exchange].stream_feeds}):
        columns = [column.name for column in METRICS[metric].columns]
        names = ", ".join(f"{name}::text" for name in columns)
        for symbol in SYMBOLS:
            ask = {"exchange": exchange, "metric": metric, "symbol": symbol, "from": start_ms, "to": end_ms}
            step = {"step": MINUTE_MS} if metric == "oi" else {}
            truth = {row["ts"]: row for row in system.simulator.get("/sim/truth", **ask, **step)["rows"]}
            stored = system.query(
                f"SELECT ts, {names} FROM perp_data WHERE source = %s AND symbol = %s AND ts >= %s AND ts < %s",
                f"{CODES[exchange]}-{metric}",
                symbol,
                start_ms,
                end_ms,
            )
            assert stored or not truth or metric == "lq"
            for ts, *values in stored:
                found = zip(columns, values, [truth.get(ts, {}).get(name) for name in columns], strict=True)
                wrong += [(metric, symbol, ts, *cell) for cell in found if None not in cell and not same(*cell[:0:-1])]
    return wrong


@pytest.mark.long
@pytest.mark.waits(60)
@pytest.mark.parametrize(("exchange", "kind"), [("binance", "doubled_frames"), ("bybit", "swapped_frames")])
def test_messages_that_come_twice_or_in_another_order_change_no_value(fast_system, exchange, kind):
    """Liquidations counted twice; open interest and funding were those of an earlier minute."""
    fast_system.simulator.fault(exchange=exchange, kind=kind)
    follow(fast_system, exchange)
    code = CODES[exchange]
    start_ms = fast_system.wait_for_minutes([f"{code}-ohlcv", f"{code}-lq"], SYMBOLS, 3)
    assert find_wrong(fast_system, exchange, start_ms, start_ms + 3 * MINUTE_MS) == []
    assert errors(fast_system) == []
