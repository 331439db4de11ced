"""Lists of contracts that would never end, contracts that do not trade yet, and which coin a contract is on."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fademoe.client import instruments
from fademoe.client.instruments import told_apart
from fademoe.clock import DAY_MS, HOUR_MS, now_ms
from fademoe.errors import BadPayload
from fademoe.feeds import registry
from fademoe.feeds.instrument import Instrument
from fademoe.streams.runner import StreamRunner

EXCHANGE = registry.exchanges()["bybit"]
BTC = Instrument(exchange="bybit", code="byb", name="BTCUSDT", symbol="BTC")


@pytest.mark.parametrize("cycle", [2, 10_000])
def test_a_list_without_an_end_is_bad(cycle):
    asked = []

    def send(exchange, request, **_):
        asked.append(request)
        return {"page": len(asked) % cycle}

    endless = replace(
        EXCHANGE.instruments,
        items=lambda body: [body],
        parse=lambda item: BTC,
        next_page=lambda body, request: replace(request, params={"page": body["page"]}),
    )
    with pytest.raises(BadPayload, match="without an end") as caught:
        instruments.refresh(replace(EXCHANGE, instruments=endless), SimpleNamespace(send=send), database=None)
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


def listed(name, symbol, multiplier=1, since=1, until=None, code="acm"):
    return Instrument(
        exchange="acme",
        code=code,
        name=name,
        symbol=symbol,
        multiplier=multiplier,
        listed_ms=since * DAY_MS,
        delisted_ms=until and until * DAY_MS,
    )


CAT = listed("CATUSDT", "CAT")
THOUSAND = listed("1000CATUSDT", "CAT", 1000)


def symbols(found, before=()):
    return {each.name: (each.symbol, each.multiplier) for each in told_apart(found, before)}


def test_a_multiplied_contract_is_on_the_plain_coin_where_it_is_alone():
    elsewhere = listed("CATUSDT", "CAT", code="other")
    assert symbols([THOUSAND, elsewhere, listed("PEPEUSDT", "PEPE")])["1000CATUSDT"] == ("CAT", 1000)


def test_beside_its_plain_coin_it_is_another_coin():
    for found in ([CAT, THOUSAND], [THOUSAND, CAT]):
        assert symbols(found) == {"CATUSDT": ("CAT", 1), "1000CATUSDT": ("1000CAT", 1000)}
    assert symbols([THOUSAND], [CAT]) == {"1000CATUSDT": ("1000CAT", 1000)}, "a symbol stays when its neighbour goes"


@pytest.mark.parametrize(("since", "until"), [(1, 2), (9, None)])
def test_a_contract_that_took_the_place_of_another_is_on_the_same_coin(since, until):
    plain = listed("CATUSDT", "CAT", 1, since, until)
    thousand = listed("1000CATUSDT", "CAT", 1000, 3, 8)
    assert symbols([plain, thousand])["1000CATUSDT"] == ("CAT", 1000)
