"""The current values of Acme Post that are polled."""

from collections.abc import Sequence

from fademoe.errors import BadPayload
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.poll import PollFeed
from fademoe.feeds.rows import coins
from fademoe.feeds.values import element, exact, member, records, rows_of, to_ms
from fademoe.metrics import OpenInterest


def context_items(answer: Json) -> Sequence[Json]:
    """Join the contracts with their values, which come in the same order, and with the time of the answer.

    [{"universe": [{"name": "BTC", ...}]}, [{"openInterest": 688.110}], 1767225605123]
    """
    contracts, contexts = rows_of(element(answer, 0), "universe"), records(element(answer, 1))
    if len(contracts) != len(contexts):
        raise BadPayload(f"{len(contexts)} values for {len(contracts)} contracts")
    time_ms = to_ms(element(answer, 2))
    return [
        {"name": member(contract, "name"), "openInterest": member(context, "openInterest"), "time": time_ms}
        for contract, context in zip(contracts, contexts, strict=True)
    ]


def parse_interest(item: Json, instrument: Instrument) -> OpenInterest:
    """Read an open interest, in units of the contract."""
    return OpenInterest(to_ms(item["time"]), coins(exact(item["openInterest"]), instrument))


POLLS = (
    PollFeed(
        metric="oi",
        path="/info",
        budget="weight",
        cost=20,
        body=lambda instruments: {"type": "metaAndAssetCtxs"},
        items=context_items,
        name="name",
        parse=parse_interest,
        source="made up",
    ),
)
