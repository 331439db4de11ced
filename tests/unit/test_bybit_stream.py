"""What a connection makes of Bybit's messages; no socket is opened."""

import json

from fademoe.exchanges.bybit import EXCHANGE
from fademoe.feeds.instrument import Instrument
from fademoe.streams.subscriptions import CONFIRM_S
from tests.support import lines

START = 1_788_480_000_000
BTC, ETH = (Instrument(exchange="bybit", code="byb", name=f"{name}USDT", symbol=name) for name in ("BTC", "ETH"))


class Line(lines.Line):
    """A connection to Bybit; `topics` of BTC and ETH, by default all of them, are requested in the first second."""

    def __init__(self, *topics):
        found = lines.topics_of(EXCHANGE.stream_feeds, [BTC, ETH])
        super().__init__(EXCHANGE.sockets[0], {name: found[name] for name in topics or found}, START)

    def acknowledge(self, request, **refusal):
        self.hear({"success": not refusal, "ret_msg": "", "req_id": request, "op": "subscribe", **refusal})


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
