"""Lists of contracts that would never end, and contracts that do not trade yet."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fademoe import instruments
from fademoe.clock import HOUR_MS, now_ms
from fademoe.errors import BadPayload
from fademoe.feeds import registry
from fademoe.feeds.spec import Instrument
from fademoe.streams.runner import StreamRunner

EXCHANGE = registry.exchanges()["bybit"]
BTC = Instrument(exchange="bybit", code="byb", name="BTCUSDT", symbol="BTC")


@pytest.mark.parametrize("cycle", [2, 10_000])
def test_a_list_without_an_end_is_bad(cycle):
    asked = []

    def get(exchange, path, params, **_):
        asked.append(params)
        return {"page": len(asked) % cycle}

    endless = replace(
        EXCHANGE.instruments,
        parse=lambda body: [BTC],
        following=lambda body, params: {"category": "linear", "page": body["page"]},
    )
    with pytest.raises(BadPayload, match="without an end") as caught:
        instruments.refresh(replace(EXCHANGE, instruments=endless), SimpleNamespace(get=get), database=None)
    assert len(asked) <= instruments.MOST_PAGES
    assert "page" in caught.value.request


def test_what_does_not_trade_yet_or_any_more_is_not_followed():
    settings = SimpleNamespace(symbols=("BTC", "ETH", "SOL", "XRP"), home=Path("/nowhere"))
    runner = StreamRunner(SimpleNamespace(settings=settings), EXCHANGE)
    now = now_ms()
    contracts = {
        "BTC": BTC,
        "ETH": replace(BTC, name="ETHUSDT", listed_ms=now + HOUR_MS),
        "SOL": replace(BTC, name="SOLUSDT", delisted_ms=now - HOUR_MS),
        "XRP": replace(BTC, name="XRPUSDT", listed_ms=now - HOUR_MS, delisted_ms=now + HOUR_MS),
        "ADA": replace(BTC, name="ADAUSDT"),
    }
    topics = runner._topics({"byb": contracts})["linear"]
    assert sorted(topic.rpartition(".")[2] for topic in topics) == ["BTCUSDT"] * 3 + ["XRPUSDT"] * 3
