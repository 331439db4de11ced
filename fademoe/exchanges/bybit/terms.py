"""Bybit's tiers of margin."""

from collections.abc import Sequence
from decimal import Decimal

from fademoe.feeds.exchange import TermsFeed
from fademoe.feeds.instrument import Instrument, Json, Terms
from fademoe.feeds.terms import make_tiers
from fademoe.feeds.values import get_member, multiply, read_amount, read_rows_of

PERCENT = "0.01"


def parse_risk_limits(items: Sequence[Json], instrument: Instrument) -> Terms:
    """Read the tiers of a contract: up to a notional in USDT, with a maintenance margin rate.

    {"id": 1, "symbol": "BTCUSDT", "riskLimitValue": "2000000", "maintenanceMargin": "0.005", "initialMargin": "0.01",
     "isLowestRisk": 1, "maxLeverage": "100.00", "mmDeduction": ""}

    Rates are fractions; older examples show per cent, which the leverage tells: its product with the initial rate is 1.
    """
    steps = []
    for item in items:
        rate = read_amount(get_member(item, "maintenanceMargin"))
        initial, leverage = (Decimal(read_amount(get_member(item, name))) for name in ("initialMargin", "maxLeverage"))
        steps.append((get_member(item, "riskLimitValue"), multiply(rate, PERCENT) if initial * leverage > 10 else rate))
    return Terms(tiers=make_tiers("quote", steps))


TERMS_FEEDS = (
    TermsFeed(
        path="/v5/market/risk-limit",
        budget="ip",
        params=lambda instrument: {"category": "linear", "symbol": instrument.name},
        items=lambda answer: read_rows_of(get_member(answer, "result"), "list"),
        name=lambda item: get_member(item, "symbol"),
        parse=parse_risk_limits,
        source="bybit-exchange.github.io/docs/v5, read 2026-07-24: Get Risk Limit",
    ),
)
