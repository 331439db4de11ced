"""What a connection makes of Bybit's messages; no socket is opened."""

import json
from contextlib import suppress

import pytest

from fademoe.clock import MINUTE_MS
from fademoe.exchanges.bybit import EXCHANGE
from fademoe.feeds.instrument import Instrument
from fademoe.streams.connection import AWAY_S
from fademoe.streams.liveness import Broken
from fademoe.streams.minutes import GRACE_MS
from fademoe.streams.subscriptions import CONFIRM_S
from tests.support import lines

START = 1_788_480_000_000
BTC, ETH = (Instrument(exchange="bybit", code="byb", name=f"{name}USDT", symbol=name) for name in ("BTC", "ETH"))

TICKER = {"fundingRate": "0.0001", "singleOpenInterest": "5", "singleOpenInterestValue": "9"}


class Line(lines.Line):
    """A connection to Bybit; `topics` of BTC and ETH, by default all of them, are requested in the first second."""

    def __init__(self, *topics):
        found = lines.topics_of(EXCHANGE.stream_feeds, [BTC, ETH])
        super().__init__(EXCHANGE.sockets[0], {name: found[name] for name in topics or found}, START)

    def acknowledge(self, request, **refusal):
        self.hear({"success": not refusal, "ret_msg": "", "req_id": request, "op": "subscribe", **refusal})

    def serve(self):
        """Send all requests and acknowledge them."""
        while sent := self.send():
            for text in sent:
                self.acknowledge(json.loads(text)["req_id"])
            self.now_ms += 1_000

    def end(self):
        """Return what is to be stored when the session ends."""
        self.connection.end_session()
        return self.items()


def ticker(ts, name="BTCUSDT"):
    return {"topic": f"tickers.{name}", "type": "snapshot", "ts": ts, "data": {"symbol": name, **TICKER}}


def test_a_request_that_is_answered_twice_is_settled_by_the_first_answer():
    """Its acknowledgement was late, so its topic was requested again."""
    line = Line("kline.1.BTCUSDT")
    (text,) = line.send()
    line.acknowledge("0")
    line.now_ms += int(CONFIRM_S * 1000) + 1
    line.check()
    (text,) = line.send()
    number = json.loads(text)["req_id"]
    line.acknowledge(number, ret_msg="error:already subscribed,topic:kline.1.BTCUSDT")
    line.acknowledge(number, ret_msg="Invalid symbol :[kline.1.BTCUSDT]")
    assert line.send() == []
    assert line.connection.health.connected


def test_a_contract_without_trades_for_minutes_costs_no_connection():
    """Whether its candles are sent all the same is not known. A new connection costs all contracts a minute."""
    line = Line("kline.1.BTCUSDT", "tickers.BTCUSDT", "kline.1.ETHUSDT", "tickers.ETHUSDT")
    line.serve()
    for name in ("BTCUSDT", "ETHUSDT"):
        line.hear({"topic": f"kline.1.{name}", "data": [{**KLINE, "confirm": False}]})
    for _ in range(60):
        line.now_ms += 10_000
        line.hear(ticker(line.now_ms), ticker(line.now_ms, "ETHUSDT"))
        line.check()


def test_a_ticker_that_is_silent_beside_others_costs_the_connection():
    line = Line("tickers.BTCUSDT", "tickers.ETHUSDT")
    line.serve()
    line.hear(ticker(line.now_ms))
    with pytest.raises(Broken, match=r"tickers\.BTCUSDT is silent"):
        for _ in range(60):
            line.now_ms += 10_000
            line.hear(ticker(line.now_ms, "ETHUSDT"))
            line.check()


@pytest.mark.parametrize("is_clock_stopped", [True, False])
def test_a_frame_that_waited_for_a_process_or_host_that_did_not_run_proves_nothing(is_clock_stopped):
    """A suspended host, where the monotonic clock stands still, and a stopped process."""
    line = Line()
    line.serve()
    line.hear(ticker(line.now_ms))
    line.check_clocks()
    line.now_ms += 10 * MINUTE_MS
    line.step_ms = 10 * MINUTE_MS if is_clock_stopped else 0
    with pytest.raises(Broken, match="went [+]600 s" if is_clock_stopped else "did not run for 600 s"):
        line.check_clocks()
    assert line.end() == []


@pytest.mark.parametrize("step_ms", [GRACE_MS, -GRACE_MS])
def test_a_small_correction_of_the_exchanges_time_and_a_slow_moment_cost_nothing(step_ms):
    line = Line()
    line.check_clocks()
    line.now_ms += step_ms
    line.step_ms = step_ms
    line.check_clocks()
    line.now_ms += int(AWAY_S * 1000)
    line.check_clocks()


KLINE = {"start": START, "end": START + 59_999, "interval": "1", "confirm": True, "volume": "1", "turnover": "2"}
KLINE |= {"open": "2", "close": "2", "high": "3", "low": "1"}
EVENT = {"T": START + MINUTE_MS + 1, "s": "BTCUSDT", "S": "Buy", "v": "2", "p": "3"}
DELTA = {"topic": "tickers.BTCUSDT", "type": "delta", "ts": START + MINUTE_MS + 30_000}
NO_TYPE = {key: value for key, value in DELTA.items() if key != "type"}


def hear_minute(*messages):
    """Return the rows of a minute in whose middle messages come, {(source, symbol): values}, and the errors."""
    line = Line()
    line.serve()
    line.hear(ticker(line.now_ms))
    line.now_ms = START + MINUTE_MS + 30_000
    line.hear(ticker(line.now_ms, "ETHUSDT"))
    line.check()
    line.items()
    line.hear(*messages)
    errors = line.errors()
    line.hear(DELTA | {"ts": line.now_ms, "data": {"fundingRate": "0.0003"}})
    line.items()
    line.now_ms = START + 2 * MINUTE_MS + GRACE_MS
    line.hear(ticker(line.now_ms, "ETHUSDT"))
    with suppress(Broken):
        line.check()
    found = {(*item.series,): item.row and item.row[1:] for item in line.items()}
    return {series: row for series, row in found.items() if series not in OTHERS}, errors


OTHERS = (("byb-ppr", "ETH"), ("byb-oi", "ETH"))  # what shows that the connection is alive
QUIET = {("byb-lq", "BTC"): None, ("byb-lq", "ETH"): None}
PREDICTED = {("byb-ppr", "BTC"): ("0.0003",)}
SAMPLED = {("byb-oi", "BTC"): ("5", "9"), **PREDICTED}


def test_a_change_of_another_contract_is_not_merged_into_a_ticker():
    found, errors = hear_minute(DELTA | {"data": {"symbol": "ETHUSDT", "singleOpenInterest": "777"}})
    assert (found, errors) == (QUIET, ["tickers.BTCUSDT: a message of ETHUSDT"])


@pytest.mark.parametrize(
    "message",
    [
        DELTA | {"type": "news", "data": {"singleOpenInterest": "7"}},
        NO_TYPE | {"data": {"singleOpenInterest": "7"}},
        DELTA | {"data": None},
        DELTA,
    ],
)
def test_a_ticker_of_an_unknown_kind_costs_its_own_state_only(message):
    assert hear_minute(message) == (QUIET, ["tickers.BTCUSDT: a snapshot or a delta with data was expected"])


def test_a_ticker_without_a_time_is_no_sample():
    found, errors = hear_minute({"topic": "tickers.BTCUSDT", "type": "delta", "data": {"singleOpenInterestValue": "8"}})
    assert found == QUIET | SAMPLED | {("byb-oi", "BTC"): ("5", "8")}
    assert len(errors) == 1


def test_candles_and_liquidations_need_no_type():
    found, errors = hear_minute(
        {"topic": "allLiquidation.BTCUSDT", "data": [EVENT]}, {"topic": "kline.1.BTCUSDT", "data": [KLINE]}
    )
    assert (found, errors) == (QUIET | SAMPLED | {("byb-lq", "BTC"): ("6", "0")}, [])
    assert hear_minute({"topic": "allLiquidation.BTCUSDT", "type": "snapshot"}) == (
        {("byb-lq", "ETH"): None, **SAMPLED},
        ["no data"],
    )


def test_changes_that_come_in_another_order_make_the_same_row():
    """An old value took the place of the newer one, and stood in every row until it changed again."""
    at_ms = START + MINUTE_MS + 30_000
    earlier = DELTA | {"type": "delta", "ts": at_ms - 300, "data": {"singleOpenInterest": "6"}}
    later = DELTA | {"type": "delta", "ts": at_ms - 100, "data": {"singleOpenInterest": "7"}}
    expected = hear_minute(earlier, later)
    assert expected == (QUIET | SAMPLED | {("byb-oi", "BTC"): ("7", "9")}, [])
    assert hear_minute(later, earlier) == expected


def test_a_ticker_of_a_time_to_come_outdates_nothing():
    ahead = DELTA | {"type": "delta", "ts": START + 3600_000, "data": {"fundingRate": "0.5"}}
    found, errors = hear_minute(ahead)
    assert found == QUIET | SAMPLED
    assert len(errors) == 1


def test_liquidations_of_a_message_that_comes_again_count_once():
    """They counted twice. Equal ones of one message, or of two, are different liquidations."""
    message = {"topic": "allLiquidation.BTCUSDT", "ts": START + MINUTE_MS + 30_000, "data": [EVENT, EVENT]}
    other = {**message, "ts": message["ts"] + 500}
    assert hear_minute(message, message)[0][("byb-lq", "BTC")] == ("12", "0")
    assert hear_minute(message, other, message, other)[0][("byb-lq", "BTC")] == ("24", "0")
