"""Real answers of Binance, through the real parser and writer into PostgreSQL, equal to the digit."""

import json
from pathlib import Path

import pytest

from fademoe.clock import MINUTE_MS
from fademoe.errors import BadPayload
from fademoe.exchanges.binance.history import parse_kline
from fademoe.feeds import registry
from fademoe.feeds.instrument import Instrument
from fademoe.store.connection import Database
from fademoe.store.coverage import Series
from fademoe.store.writer import Batch, Writer
from fademoe.testing.readers import read_contracts, read_message

FOLDER = Path(__file__).parent.parent / "recordings" / "binance"
EXCHANGE = registry.load_exchanges()["binance"]
KLINES = json.loads((FOLDER / "rest_klines.json").read_text(encoding="utf-8"))
EVENTS = json.loads((FOLDER / "ws_kline_1m.json").read_text(encoding="utf-8"))


def instrument(name: str) -> Instrument:
    return Instrument(exchange="binance", code="bin", name=name, symbol=name.removesuffix("USDT"))


@pytest.fixture
def store(database_url):
    """Return a function that stores candles and reads them back as text."""
    database = Database(database_url)

    def through(symbol: str, rows: list) -> list[tuple]:
        Writer(database).write([Batch("ohlcv", "1m", {Series("bin-ohlcv", symbol): rows})], [])
        with database.open_transaction() as cursor:
            cursor.execute(
                "SELECT ts, o::text, h::text, l::text, c::text, v::text, qv::text, n, tbv::text FROM perp_data"
                " WHERE symbol = %s ORDER BY ts",
                (symbol,),
            )
            return cursor.fetchall()

    yield through
    database.close()


@pytest.mark.parametrize("recording", [r for r in KLINES if isinstance(r["payload"], list)], ids=lambda r: r["source"])
def test_every_recorded_kline_page_is_stored_as_it_was_sent(recording, store):
    name = recording["request"]["params"]["symbol"]
    as_minutes = [[*item[:6], item[0] + MINUTE_MS - 1, *item[7:]] for item in recording["payload"]]
    rows = [parse_kline(item, instrument(name)) for item in as_minutes]
    expected = [(i[0], *i[1:6], i[7], i[8], i[9]) for i in recording["payload"]]
    assert store(name, rows) == expected


def test_every_recorded_event_gives_a_row_only_when_it_is_closed(store):
    feed = EXCHANGE.stream_feeds[0]
    socket = EXCHANGE.sockets[0]
    closed = 0
    for recording in EVENTS:
        frame = socket.route(recording["payload"])
        contract = instrument(recording["payload"]["data"]["s"])
        assert frame.topic == feed.topic(contract)
        rows = read_message(feed, frame.data, contract)
        k = recording["payload"]["data"]["k"]
        assert len(rows) == int(k["x"])
        if rows:
            closed += 1
            assert store(contract.name, rows)[-1] == (
                k["t"],
                k["o"],
                k["h"],
                k["l"],
                k["c"],
                k["v"],
                k["q"],
                k["n"],
                k["V"],
            )
    assert closed >= 2


def test_what_is_no_page_of_klines_is_a_bad_payload():
    feed = EXCHANGE.find_rest_feed("ohlcv")
    for recording in KLINES:
        if not isinstance(recording["payload"], list):
            with pytest.raises(BadPayload):
                feed.items(recording["payload"], None)


def test_a_thousandfold_contract_is_stored_per_coin(store):
    feed = EXCHANGE.find_rest_feed("ohlcv")
    item = [
        1791382920000,
        "0.0123450",
        "0.0123500",
        "0.0123000",
        "0.0123",
        "1024",
        1791382979999,
        "12.64",
        7,
        "3",
        "1",
        "0",
    ]
    contract = Instrument(exchange="binance", code="bin", name="1000PEPEUSDT", symbol="PEPE", multiplier=1000)
    assert store("PEPE", [feed.parse(item, contract)]) == [
        (1791382920000, "0.0000123450", "0.0000123500", "0.0000123000", "0.0000123", "1024000", "12.64", 7, "3000")
    ]


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, 1791382920),
        (1, "NaN"),
        (1, 1.5),
        (2, "1"),
        (3, "99999999"),
        (5, "-1"),
        (6, 1791382919999),
        (7, None),
        (8, "4409"),
        (8, -1),
        (9, ""),
    ],
)
def test_a_damaged_kline_is_a_bad_payload(index, value):
    item = list(KLINES[0]["payload"][0])
    item[index] = value
    with pytest.raises(BadPayload):
        EXCHANGE.find_rest_feed("ohlcv").parse(item, instrument("BTCUSDT"))


def test_a_short_kline_is_a_bad_payload():
    for length in range(10):
        with pytest.raises(BadPayload):
            EXCHANGE.find_rest_feed("ohlcv").parse(KLINES[0]["payload"][0][:length], instrument("BTCUSDT"))
    for item in (None, {}, "x", 5):
        with pytest.raises(BadPayload):
            EXCHANGE.find_rest_feed("ohlcv").parse(item, instrument("BTCUSDT"))


def test_the_list_of_contracts_keeps_crypto_perpetuals_in_usdt():
    recordings = json.loads((FOLDER / "rest_exchangeInfo.json").read_text(encoding="utf-8"))
    found = [contract for recording in recordings for contract in read_contracts(EXCHANGE, recording["payload"])]
    by_name = {contract.name: contract for contract in found}
    assert by_name["BTCUSDT"].symbol == "BTC"
    assert by_name["币安人生USDT"].symbol == "币安人生"
    assert by_name["OMGUSDT"].delisted_ms == 1738314000000
    assert by_name["BTCUSDT"].delisted_ms is None
    assert "XAUUSDT" not in by_name
    assert not [name for name in by_name if "_" in name or not name.endswith("USDT")]
