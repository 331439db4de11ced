"""Sockets and their channels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from fademoe.clock import MINUTE_MS, SECOND_MS
from fademoe.feeds.instrument import Instrument, Json, ParseItem
from fademoe.feeds.request import Request
from fademoe.feeds.values import decode, get_member, read_text


class Reduce(StrEnum):
    """How the messages of a channel become at most one row a minute."""

    CLOSED = "closed"  # the message of a closed bar is the row
    LAST = "last"  # the last sample of the minute is the row
    SUM = "sum"  # the events of the minute are one row, each column by its aggregate
    BAR = "bar"  # the last state of the minute's bar is the row: the bar has no mark of its end


@dataclass(frozen=True, kw_only=True)
class StreamFeed:
    """A channel of one metric: `topic` names it for an instrument.

    `items(data)` are the elements of one message's data, the data itself by default; `parse(item, instrument)` reads
    one, None where it holds no row. `name`: the member of an item that holds the exchange's name of its instrument,
    where one topic serves all instruments.
    Reduce.CLOSED: `parse` returns final rows, mostly none. BAR: it returns the running bar as it is now, with its begin
    as ts; the bar is final when the next one comes, or a grace after its end by the exchange's clock. LAST and SUM: it
    returns samples or events with their own ts; the runner sorts them into minutes by that ts. LAST: the newest sample
    of a minute watched to its end is the row. SUM: the events of a minute watched from its first moment are one row,
    each column by its `aggregate`; where nothing happened there is none. A history that is not sparse has a row for
    such a minute, too, and it is fetched from there.
    `merged`: messages tell changes only; `items` gets the topic's merged state (see Frame.partial).
    `distinct`: the exchange may repeat an event, so equal events of a minute count once.
    `continuous`: silence for three intervals means that the subscription is broken; on a socket with such topics only
    data prove that a minute was watched, samples only up to their own time.
    `max_silence_s`: with SUM, how long no event of any contract may come before the feed counts as not served, where it
    is of all contracts or of many; minutes are then claimed only up to the newest event.
    `lag_ms`: how long after the end of a row's span it counts as known (see feeds.lags).
    """

    metric: str
    socket: str
    topic: Callable[[Instrument], str]
    parse: ParseItem
    source: str
    items: Callable[[Json], Sequence[Json]] = lambda data: (data,)
    name: str | None = None
    reduce: Reduce = Reduce.CLOSED
    interval: str = "1m"
    interval_ms: int = MINUTE_MS
    merged: bool = False
    distinct: bool = False
    continuous: bool = True
    max_silence_s: float | None = None
    lag_ms: int = 2 * SECOND_MS
    lag_why: str = "a channel sends the end of a minute within two seconds"

    def read_instrument_name(self, item: Json) -> str:
        """Return the exchange's name of an item's instrument, "" where the topic names it; raise BadPayload."""
        return read_text(get_member(item, self.name)) if self.name else ""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a socket, sorted: data of a topic, or a fault, or something to pass over (both None).

    `partial`: `data`, an object, holds only what changed since the message before of this topic.
    `sent_ms`: when the exchange sent the message, where it says so. What changed is then merged in that order, of the
    states of a bar (Reduce.BAR) the one that was sent last counts, behind the bar's end, too, and events of a message
    that comes again, with the same values throughout, count once.
    `acked`: the topics whose subscriptions the exchange confirms.
    `request`: the number of the request that the message answers. Without `fault` or `void` all of it is confirmed.
    `fault`: a refusal of the `topic`, or of all of `request`, or, without either, of what was not answered yet; what is
    not refused by name and not served is requested again. `void`: nothing of `request` was carried out, though the
    message is no fault.
    `contracts`: contracts as the exchange announces them: their terms hold from now on.
    `odd`: why a message of the `topic` cannot be read; that costs no other topic.
    `reply`: a text that is sent back at once, as the answer to the server's heartbeat.
    `renew`: the exchange announces that it will close the connection, so another one should take over.
    """

    topic: str | None = None
    data: Json = None
    partial: bool = False
    sent_ms: int | None = None
    renew: bool = False
    fault: str | None = None
    acked: Sequence[str] = ()
    request: int | None = None
    void: bool = False
    contracts: Sequence[Instrument] = ()
    odd: str | None = None
    reply: str | None = None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A REST request whose answer names the address of a socket; it is sent before each connection.

    `parse` returns the whole address with its token, or what belongs behind the socket's own, such as "?token=...".
    """

    request: Request
    budget: str
    parse: Callable[[Json], str]
    cost: int = 1


@dataclass(frozen=True, kw_only=True)
class Socket:
    """How an exchange's sockets are spoken to.

    `endpoint`: asks for the address where it is not a fixed one. `opening`: texts that are sent right after connecting.
    `subscribe(topics, request_id)` gives the text of a subscription. `decode` reads the bytes of a message and raises
    ValueError or BadPayload where it cannot; `route` sorts what it returns. `ping_text` is sent every `ping_every_s`
    where the exchange wants text pings; protocol pings are answered everywhere.
    `renew_after_s`: the exchange cuts every connection at that age, so a fresh one replaces it before.
    `announcements`: topics of no instrument's data, such as changes of contracts (Frame.contracts).
    `acks`: the exchange confirms topics, by name (Frame.acked) or by the number of their request (Frame.request), so
    one that it does not confirm is requested again.
    """

    name: str
    path: str
    subscribe: Callable[[Sequence[str], int], str]
    route: Callable[[Json], Frame]
    topics_per_socket: int
    topics_per_request: int
    request_pause_s: float
    decode: Callable[[bytes], Json] = decode
    endpoint: Endpoint | None = None
    opening: tuple[str, ...] = ()
    ping_text: str | None = None
    ping_every_s: float = 20.0
    renew_after_s: float | None = None
    announcements: tuple[str, ...] = ()
    acks: bool = False

    def __post_init__(self) -> None:
        """Refuse a table that contradicts itself."""
        if self.path and not self.path.startswith("/"):
            raise ValueError(f"socket {self.name}: the path {self.path!r} does not begin with /")
        if self.topics_per_socket < 1 or self.topics_per_request < 1 or self.ping_every_s <= 0:
            raise ValueError(f"socket {self.name}: it needs topics per socket and request, and a time between pings")
