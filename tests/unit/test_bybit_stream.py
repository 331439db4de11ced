"""What a connection makes of Bybit's messages; no socket is opened."""

import json

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


def ticker(ts, **members):
    return {
        "topic": "tickers.BTCUSDT",
        "type": "snapshot",
        "ts": ts,
        "data": {"symbol": "BTCUSDT", **TICKER, **members},
    }


def test_a_request_that_is_answered_twice_is_settled_by_the_first_answer():
    """Its acknowledgement was late, so its topic was asked for again."""
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


@pytest.mark.parametrize("is_clock_stopped", [True, False])
def test_a_frame_that_waited_for_a_process_or_host_that_did_not_run_proves_nothing(is_clock_stopped):
    """A suspended host, where the monotonic clock stands still, and a stopped process."""
    line = Line()
    line.serve()
    line.hear(ticker(line.now_ms))
    line.look()
    line.now_ms += 10 * MINUTE_MS
    line.step_ms = 10 * MINUTE_MS if is_clock_stopped else 0
    with pytest.raises(Broken, match="went [+]600 s" if is_clock_stopped else "did not run for 600 s"):
        line.look()
    assert line.end() == []


@pytest.mark.parametrize("step_ms", [GRACE_MS, -GRACE_MS])
def test_a_small_correction_of_the_exchanges_time_and_a_slow_moment_cost_nothing(step_ms):
    line = Line()
    line.look()
    line.now_ms += step_ms
    line.step_ms = step_ms
    line.look()
    line.now_ms += int(AWAY_S * 1000)
    line.look()
