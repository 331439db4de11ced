"""The contracts of Acme Post."""

import re

from fademoe.feeds.exchange import InstrumentsFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.values import get_member, read_rows_of, read_text

THOUSANDS = re.compile(r"k(?P<coin>[A-Z0-9]+)")  # kPEPE is 1000 PEPE


def parse_instrument(item: Json) -> Instrument | None:
    """Read a contract; a delisted one stays in the list and is not followed.

    {"name": "kPEPE", "szDecimals": 0, "isDelisted": false}
    """
    name = read_text(get_member(item, "name"))
    if get_member(item, "isDelisted") is not False:
        return None
    thousands = THOUSANDS.fullmatch(name)
    return Instrument(
        exchange="acmepost",
        code="acp",
        name=name,
        symbol=thousands["coin"] if thousands else name,
        multiplier=1000 if thousands else 1,
    )


INSTRUMENTS = InstrumentsFeed(
    path="/info",
    budget="weight",
    cost=20,
    body={"type": "meta"},
    items=lambda answer: read_rows_of(answer, "universe"),
    parse=parse_instrument,
    source="made up",
)
