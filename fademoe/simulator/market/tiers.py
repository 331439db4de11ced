"""The tiers of maintenance margin of a contract: the larger a position, the higher its rate."""

from typing import NamedTuple

from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.noise import draw_number

STEPS = ((1, 4), (5, 5), (20, 10), (50, 25), (100, 50))  # (bound in units of the first one, rate in thousandths)
FIRST_IN_MINUTES = 10  # minutes whose turnover is the first bound


class Tier(NamedTuple):
    """Up to `notional` in USDT, or `contracts`, with a rate in thousandths."""

    notional: int
    contracts: int
    rate: int


def list_tiers(seed: int, instrument: Instrument) -> list[Tier]:
    """Return the tiers of a contract, ascending."""
    first = max(5_000, instrument.usd_per_minute * FIRST_IN_MINUTES // 5_000 * 5_000)
    contracts = 100 + draw_number(seed, "tiers", instrument.key) % 900
    return [Tier(first * factor, contracts * factor, rate) for factor, rate in STEPS]
