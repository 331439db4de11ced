"""Terms of contracts: in our units, and never the reason for which a contract is left out."""

import json
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest

from fademoe.errors import BadPayload
from fademoe.exchanges.binance.instruments import parse_instrument as parse_binance
from fademoe.exchanges.binance.terms import parse_funding_info, read_tiers
from fademoe.exchanges.bybit.instruments import parse_instrument as parse_bybit
from fademoe.exchanges.bybit.terms import parse_risk_limits
from fademoe.exchanges.okx.instruments import parse_instrument as parse_okx
from fademoe.exchanges.okx.terms import parse_funding_interval, parse_position_tiers
from fademoe.feeds.instrument import Instrument, Terms, Tiers
from fademoe.feeds.terms import make_terms, make_tiers, rescale_terms
from fademoe.feeds.values import decode
from fademoe.testing.damage import make_damaged

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
    terms = parse_bybit(BYBIT).terms
    assert terms == Terms(tick="0.0000000005", lot="100000", funding_hours=8), "10 lots of 10000 coins"


@pytest.mark.parametrize("odd", [None, "", "x", "0", -1, [], {}, "1e9999", True])
def test_an_odd_term_is_not_told_and_costs_no_contract(odd):
    filters = [odd, {"filterType": "LOT_SIZE", "stepSize": odd}, {"filterType": "PRICE_FILTER", "tickSize": "0.5"}]
    assert parse_binance({**BINANCE, "filters": filters}).terms == Terms(tick="0.5")
    assert parse_binance({**BINANCE, "filters": odd}).terms == Terms()
    contract = {**BYBIT, "lotSizeFilter": odd, "priceFilter": {"tickSize": odd}, "fundingInterval": odd}
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


RISK = {
    "id": 1,
    "symbol": "BTCUSDT",
    "riskLimitValue": "2000000",
    "maintenanceMargin": "0.005",
    "initialMargin": "0.01",
}
RISK |= {"isLowestRisk": 1, "maxLeverage": "100.00", "mmDeduction": ""}
TIER = {"instFamily": "BTC-USDT", "instId": "", "tier": "1", "minSz": "0", "maxSz": "1000", "mmr": "0.004"}
FORECAST = {"instId": "BTC-USDT-SWAP", "fundingTime": "1765209600000", "nextFundingTime": "1765224000000"}
BRACKETS = [
    {
        "symbol": "BTCUSDT",
        "brackets": [
            {"bracket": 2, "notionalCap": 250000, "maintMarginRatio": 0.005, "cum": 50.0},
            {"bracket": 1, "notionalCap": 50000, "maintMarginRatio": 0.004, "cum": 0.0},
        ],
    }
]
SWAP = Instrument(exchange="okx", code="okx", name="BTC-USDT-SWAP", symbol="BTC", contract_value="0.01")


def test_the_tiers_of_each_exchange_are_read():
    more = {
        **RISK,
        "riskLimitValue": "4000000",
        "maintenanceMargin": "0.01",
        "initialMargin": "0.02",
        "maxLeverage": "50",
    }
    quote = Tiers(unit="quote", steps=(("2000000", "0.005"), ("4000000", "0.01")))
    assert parse_risk_limits([more, RISK], SWAP) == Terms(tiers=quote)
    in_percent = [
        {**row, "maintenanceMargin": percent, "initialMargin": str(2 * float(percent))}
        for row, percent in ((RISK, "0.5"), (more, "1"))
    ]
    assert parse_risk_limits(in_percent, SWAP) == Terms(tiers=quote), "a rate of 0.5 at a leverage of 100 is per cent"
    coins = Tiers(unit="coins", steps=(("10", "0.004"), ("20", "0.005")))
    assert parse_position_tiers([TIER, {**TIER, "maxSz": "2000", "mmr": "0.005"}], SWAP) == Terms(tiers=coins)
    binance = {"BTCUSDT": Tiers(unit="quote", steps=(("50000", "0.004"), ("250000", "0.005")))}
    exported = decode(json.dumps(BRACKETS).encode())
    assert read_tiers(exported) == binance
    page = [{"bracketNotionalCap": 50000, "bracketMaintenanceMarginRate": Decimal("0.004")}]
    listed = {"code": "000000", "data": {"brackets": [{"symbol": "BTCUSDT", "riskBrackets": page}]}}
    assert read_tiers(listed)["BTCUSDT"].steps == (("50000", "0.004"),)


def test_funding_intervals_are_whole_hours_or_not_told():
    assert parse_funding_info([{"symbol": "X", "fundingIntervalHours": 4}], SWAP) == Terms(funding_hours=4)
    assert parse_funding_info([{"symbol": "X", "fundingIntervalHours": None}], SWAP) == Terms()
    assert parse_funding_interval([FORECAST], SWAP) == Terms(funding_hours=4)
    assert parse_funding_interval([{**FORECAST, "nextFundingTime": "1765209660000"}], SWAP) == Terms()


@pytest.mark.parametrize(
    ("parse", "items"),
    [
        (parse_risk_limits, [RISK]),
        (parse_position_tiers, [TIER]),
        (parse_funding_info, [{"symbol": "X", "fundingIntervalHours": 4}]),
        (parse_funding_interval, [FORECAST]),
        (lambda items, contract: read_tiers(items), BRACKETS),
    ],
)
def test_damaged_terms_are_bad_payloads(parse, items):
    for damaged in make_damaged(items):
        if damaged and isinstance(damaged, list) and all(isinstance(item, dict) for item in damaged):
            with suppress(BadPayload):
                parse(damaged, SWAP)
