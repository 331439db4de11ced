"""Symbols: coins behind the exchanges' names of their base assets."""

import difflib
import re
from collections.abc import Collection, Sequence
from functools import cache

_MULTIPLIED = re.compile(r"(?P<factor>10{3,9})(?P<coin>[^\W\d]\w*)|1M(?P<millions>[A-Z]{3,})|(?P<behind>[A-Z]{3,})1000")


def describe_unknown(unknown: Sequence[str], listed: Collection[str], exchanges: Sequence[str]) -> str:
    """Say that symbols are none of those that exchanges list, with the ones that are close to the first of them."""
    close = difflib.get_close_matches(unknown[0], sorted(listed), n=5, cutoff=0.5)
    hint = f"close are {', '.join(close)}; " if close else ""
    return (
        f"unknown symbol {', '.join(unknown)}: {hint}valid are the {len(listed)} symbols of"
        f" {', '.join(exchanges)}, such as {', '.join(sorted(listed)[:5])} (all: fademoe symbols)"
    )


@cache
def find_power_of_ten(multiplier: int) -> int:
    """Return n for a multiplier of 10**n; raise ValueError for any other."""
    digits = str(multiplier)
    if multiplier < 1 or digits.strip("0") != "1":
        raise ValueError(f"multiplier {multiplier} is not a power of ten")
    return len(digits) - 1


def split_multiplier(base: str) -> tuple[str, int]:
    """Split an exchange's base asset into (coin, coins per quoted unit): 1000PEPE is 1000 PEPE, SHIB1000 1000 SHIB.

    Only 1000 to 1000000000 in front of a letter, 1M in front of three, or 1000 behind three count: 1INCH, C98, API3 and
    LUNA2 are coins. No exchange states the multiplier; its own list of base assets is the only source.
    """
    match = _MULTIPLIED.fullmatch(base)
    if not match:
        return base, 1
    if match["behind"]:
        return match["behind"], 1000
    if match["millions"]:
        return match["millions"], 1_000_000
    return match["coin"], int(match["factor"])
