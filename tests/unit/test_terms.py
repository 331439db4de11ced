"""Terms of contracts: in our units, and never the reason for which a contract is left out."""

import json
from pathlib import Path

import pytest

from fademoe.errors import BadPayload
from fademoe.exchanges.binance.instruments import parse_instrument as parse_binance
from fademoe.exchanges.bybit.instruments import parse_instrument as parse_bybit
from fademoe.exchanges.okx.instruments import parse_instrument as parse_okx
from fademoe.feeds.instrument import Terms, Tiers
from fademoe.feeds.terms import make_terms, make_tiers, rescale_terms

RECORDINGS = Path(__file__).parents[1] / "recordings"


def recorded(path):
    return json.loads((RECORDINGS / path).read_text(encoding="utf-8"))[0]["payload"]


BINANCE = recorded("binance/rest_exchangeInfo.json")["symbols"][0]
OKX = next(item for item in recorded("okx/rest_instruments.json")["data"] if item["instId"] == "ADA-USDT-SWAP")
BYBIT = next(
    item for item in recorded("bybit/rest_instruments_info.json")["result"]["list"] if item["symbol"] == "10000NFTUSDT"
)


def test_recorded_terms_are_per_coin():
    assert parse_binance(BINANCE).terms == Terms(tick="0.10", lot="0.001", min_notional="50")
    assert parse_okx(OKX).terms == Terms(tick="0.00001", lot="100"), "a lot of one contract is 100 coins"
    terms = parse_bybit({**BYBIT, "answered": 0}).terms
    assert terms == Terms(tick="0.0000000005", lot="100000", funding_hours=8), "10 lots of 10000 coins"


@pytest.mark.parametrize("odd", [None, "", "x", "0", -1, [], {}, "1e9999", True])
def test_an_odd_term_is_not_told_and_costs_no_contract(odd):
    filters = [odd, {"filterType": "LOT_SIZE", "stepSize": odd}, {"filterType": "PRICE_FILTER", "tickSize": "0.5"}]
    assert parse_binance({**BINANCE, "filters": filters}).terms == Terms(tick="0.5")
    assert parse_binance({**BINANCE, "filters": odd}).terms == Terms()
    contract = {**BYBIT, "answered": 0, "lotSizeFilter": odd, "priceFilter": {"tickSize": odd}, "fundingInterval": odd}
    assert parse_bybit(contract).terms == Terms()
    assert parse_okx({**OKX, "lotSz": odd, "tickSz": odd}).terms == Terms()


def test_a_contract_that_is_stored_in_another_unit_has_its_terms_in_that_unit():
    assert rescale_terms(make_terms(1000, tick="0.1", lot="2"), 3) == make_terms(1, tick="0.1", lot="2.000")


def test_tiers_are_sorted_and_in_coins_where_contracts_are_counted():
    sent = [("1000.0", "0.005"), ("500", "0.0040"), ("3000", "0.01")]
    assert make_tiers("coins", sent, "0.01") == Tiers(
        unit="coins", steps=(("5", "0.004"), ("10", "0.005"), ("30", "0.01"))
    )
    for bad in ([], [("5", "0.1"), ("5", "0.2")], [("5", "0.2"), ("9", "0.1")], [("0", "0.1")], [("5", "1.5")]):
        with pytest.raises(BadPayload):
            make_tiers("quote", bad)
