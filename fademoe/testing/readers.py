"""Read answers and messages with a feed's own readers, strictly: the first unreadable element raises BadPayload."""

from collections.abc import Iterable
from typing import TypeVar

from fademoe.clock import EARLIEST_MS
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import Page, RestFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.poll import PollFeed
from fademoe.feeds.stream import StreamFeed
from fademoe.metrics import Row

T = TypeVar("T")


def read_rows(feed: RestFeed, body: Json, page: Page) -> list[Row]:
    """Return the rows of a page's answer."""
    return _present(feed.parse(item, page.instrument) for item in feed.items(body, page))


def read_contracts(exchange: Exchange, body: Json) -> list[Instrument]:
    """Return the contracts of one page of the exchange's list."""
    return _present(map(exchange.instruments.parse, exchange.instruments.items(body)))


def read_samples(feed: PollFeed, body: Json, contracts: dict[str, Instrument]) -> list[Row]:
    """Return the current values of contracts, which are given by name."""
    named = [(feed.read_instrument_name(item), item) for item in feed.items(body)]
    return _present(feed.parse_at(item, contracts[name], EARLIEST_MS) for name, item in named if name in contracts)


def read_message(feed: StreamFeed, data: Json, instrument: Instrument) -> list[Row]:
    """Return the rows that one message's data hold of an instrument."""
    items = [item for item in feed.items(data) if feed.read_instrument_name(item) in ("", instrument.name)]
    return _present(feed.parse(item, instrument) for item in items)


def _present(values: Iterable[T | None]) -> list[T]:
    return [value for value in values if value is not None]
