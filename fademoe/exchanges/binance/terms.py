"""Binance's funding intervals, and its tiers of margin from a file."""

from collections.abc import Mapping, Sequence

from fademoe.errors import BadPayload
from fademoe.feeds.exchange import TermsFeed
from fademoe.feeds.instrument import Instrument, Json, Terms, Tiers
from fademoe.feeds.terms import MINUTES, make_tiers, to_hours
from fademoe.feeds.values import get_member, read_records, read_rows_of, read_text

USUAL_HOURS = 8  # of a contract that fundingInfo does not name
CAPS = ("notionalCap", "bracketNotionalCap")  # of the API, and of the page of trading rules
RATES = ("maintMarginRatio", "bracketMaintenanceMarginRate")
BRACKETS = ("brackets", "riskBrackets")


def parse_funding_info(items: Sequence[Json], instrument: Instrument) -> Terms:
    """Read the funding interval of a contract.

    {"symbol": "BLZUSDT", "adjustedFundingRateCap": "0.02500000", "adjustedFundingRateFloor": "-0.02500000",
     "fundingIntervalHours": 4, "disclaimer": false, "updateTime": null}
    """
    hours = get_member(items[-1], "fundingIntervalHours")
    return Terms(funding_hours=to_hours(hours * MINUTES) if type(hours) is int else None)


def read_tiers(body: Json) -> Mapping[str, Tiers]:
    """Read a user's export of GET /fapi/v1/leverageBracket, or the same list from the page of trading rules.

    [{"symbol": "ETHUSDT", "brackets": [{"bracket": 1, "initialLeverage": 75, "notionalCap": 10000, "notionalFloor": 0,
      "maintMarginRatio": 0.0065, "cum": 0}]}]
    """
    while isinstance(body, dict):
        inner = body.get("data", body.get("brackets"))
        if inner is None:
            raise BadPayload("a list of contracts with their brackets was expected")
        body = inner
    return {read_text(get_member(item, "symbol")): _read_brackets(item) for item in read_records(body)}


def _read_brackets(item: Json) -> Tiers:
    listed = next((read_rows_of(item, name) for name in BRACKETS if name in item), None)
    if listed is None:
        raise BadPayload(f"{item.get('symbol')}: no brackets")
    return make_tiers("quote", [(_get_any(row, CAPS), _get_any(row, RATES)) for row in listed])


def _get_any(row: Json, names: Sequence[str]) -> Json:
    found = next((name for name in names if isinstance(row, dict) and name in row), names[0])
    return get_member(row, found)


TERMS_FEEDS = (
    TermsFeed(
        path="/fapi/v1/fundingInfo",
        budget="funding",
        params=lambda instrument: {},
        items=read_records,
        name=lambda item: get_member(item, "symbol"),
        parse=parse_funding_info,
        is_for_all=True,
        unnamed=Terms(funding_hours=USUAL_HOURS),
        source="developers.binance.com, read 2026-05-28: Get Funding Rate Info",
    ),
)
