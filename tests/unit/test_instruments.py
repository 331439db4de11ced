"""Lists of contracts that would never end, contracts that do not trade yet, and which coin a contract is on."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fademoe.client import instruments
from fademoe.client.instruments import disambiguate_symbols
from fademoe.clock import DAY_MS, HOUR_MS, now_ms
from fademoe.errors import BadPayload
from fademoe.feeds import registry
from fademoe.feeds.instrument import Instrument
from fademoe.signals import StopSignal
from fademoe.streams.runner import StreamRunner

EXCHANGE = registry.load_exchanges()["bybit"]
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
    assert len(asked) <= instruments.MAX_PAGES
    assert "page" in caught.value.request


def test_what_does_not_trade_yet_or_any_more_is_not_followed():
    settings = SimpleNamespace(symbols=("BTC", "ETH", "SOL", "XRP"), home=Path("/nowhere"))
    runner = StreamRunner(SimpleNamespace(settings=settings, stop=StopSignal()), EXCHANGE)
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


def symbols(listed, stored=()):
    named = disambiguate_symbols(listed, stored)
    return {instrument.name: (instrument.symbol, instrument.multiplier) for instrument in named}


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


def test_a_stored_symbol_keeps_its_contract_when_another_coin_of_that_name_is_listed():
    """The fault: 1000CATUSDT was followed as CAT; when CATUSDT came, the series went on with the other coin."""
    for listed_contracts in ([THOUSAND, CAT], [CAT, THOUSAND]):
        named = symbols(listed_contracts, [THOUSAND])
        assert named == {"1000CATUSDT": ("CAT", 1000), "CATUSDT": ("CAT_2", 1)}
    stored = [THOUSAND, replace(CAT, symbol="CAT_2")]
    assert symbols([CAT, THOUSAND], stored) == {"1000CATUSDT": ("CAT", 1000), "CATUSDT": ("CAT_2", 1)}
    third = listed("1000000CATUSDT", "CAT", 1_000_000)
    assert symbols([CAT, THOUSAND, third], stored)["1000000CATUSDT"] == ("1000000CAT", 1_000_000)


def test_two_multiplied_contracts_of_one_coin_are_two_symbols():
    """The fault: 1000CHEEMS and 1000000CHEEMS were both CHEEMS, and the one listed last took the series."""
    thousand, million = listed("1000CHEEMSUSDT", "CHEEMS", 1000, 5), listed("1000000CHEEMSUSDT", "CHEEMS", 10**6, 2)
    both = {"1000CHEEMSUSDT": ("CHEEMS", 1000), "1000000CHEEMSUSDT": ("1000000CHEEMS", 10**6)}
    assert symbols([million, thousand]) == both
    assert symbols([thousand, million], [million]) == {
        "1000000CHEEMSUSDT": ("CHEEMS", 10**6),
        "1000CHEEMSUSDT": ("1000CHEEMS", 1000),
    }
    stored = [million, thousand]  # an older version stored both under one symbol; the series was the newer one's
    assert symbols([million, thousand], stored) == both


def test_a_stored_contract_keeps_its_unit():
    """A version that reads another multiplier must not go on with the series in another unit."""
    stored = replace(listed("10000000AIDOGEUSDT", "10000000AIDOGE"), contract_value="10")
    read = replace(stored, symbol="AIDOGE", multiplier=10**7, contract_value="100000000")
    (named,) = disambiguate_symbols([read], [stored])
    assert (named.symbol, named.multiplier, named.contract_value) == ("10000000AIDOGE", 1, "10")
    (new,) = disambiguate_symbols([read], [])
    assert (new.symbol, new.multiplier) == ("AIDOGE", 10**7)


def test_a_new_contract_is_wanted_from_its_listing():
    """The fault: a contract that was listed a minute after the list was fetched was wanted an hour later only."""
    now = 100 * DAY_MS
    new, old = replace(BTC, listed_ms=now - HOUR_MS), replace(BTC, name="ETHUSDT", listed_ms=DAY_MS)
    assert instruments.group_by_start([new, old, BTC], now) == {now - HOUR_MS: [new], now: [old, BTC]}
