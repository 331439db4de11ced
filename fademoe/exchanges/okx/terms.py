"""OKX's tiers of margin and funding intervals."""

from collections.abc import Sequence

from fademoe.clock import MINUTE_MS
from fademoe.feeds.exchange import TermsFeed
from fademoe.feeds.instrument import Instrument, Json, Terms
from fademoe.feeds.terms import make_tiers, to_hours
from fademoe.feeds.values import get_member, read_rows_of, to_ms

SUFFIX = "-SWAP"  # behind the family in a swap's name


def parse_position_tiers(items: Sequence[Json], instrument: Instrument) -> Terms:
    """Read the tiers of a swap in contracts, as coins.

    {"instFamily": "BTC-USDT", "uly": "BTC-USDT", "instId": "", "tier": "1", "minSz": "0", "maxSz": "1000",
     "mmr": "0.004", "imr": "0.01", "maxLever": "100", "optMgnFactor": "0", "quoteMaxLoan": "", "baseMaxLoan": ""}
    """
    steps = [(get_member(item, "maxSz"), get_member(item, "mmr")) for item in items]
    return Terms(tiers=make_tiers("coins", steps, instrument.contract_value))


def parse_funding_interval(items: Sequence[Json], instrument: Instrument) -> Terms:
    """Read the interval that forms: from the next settlement to the one after (see `parse_predicted_funding`)."""
    next_ms, after_ms = (to_ms(get_member(items[-1], name)) for name in ("fundingTime", "nextFundingTime"))
    minutes, rest = divmod(after_ms - next_ms, MINUTE_MS)
    return Terms(funding_hours=None if rest else to_hours(minutes))


TERMS_FEEDS = (
    TermsFeed(
        path="/api/v5/public/position-tiers",
        budget="position-tiers",
        params=lambda instrument: {
            "instType": "SWAP",
            "tdMode": "cross",
            "instFamily": instrument.name.removesuffix(SUFFIX),
        },
        items=lambda answer: read_rows_of(answer, "data"),
        name=lambda item: f"{get_member(item, 'instFamily')}{SUFFIX}",
        parse=parse_position_tiers,
        source="OKX API guide, mirrored 2026-08-22: Get position tiers",
    ),
    TermsFeed(
        path="/api/v5/public/funding-rate",
        budget="funding-rate",
        params=lambda instrument: {"instId": "ANY"},
        items=lambda answer: read_rows_of(answer, "data"),
        name=lambda item: get_member(item, "instId"),
        parse=parse_funding_interval,
        is_for_all=True,
        source="OKX API guide, mirrored 2026-08-22: Get funding rate",
    ),
)
