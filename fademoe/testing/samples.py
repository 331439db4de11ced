"""Real payloads of an exchange, each with the reader that FadeMoe reads it with."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fademoe.clock import EARLIEST_MS, LATEST_MS, ceil_to, floor_to
from fademoe.errors import BadPayload
from fademoe.feeds.answers import Answer
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.history import Page, RestFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.stream import StreamFeed
from fademoe.feeds.values import decode
from fademoe.jobs.fetch import read_page
from fademoe.testing.readers import read_contracts, read_message, read_samples

Read = Callable[[Json], Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A payload that `read` reads into rows, contracts or a time; `title` names the feed, such as "history ohlcv"."""

    title: str
    payload: Json
    read: Read
    metric: str | None = None  # of the rows; None where they are no rows


def list_feed_titles(exchange: Exchange) -> set[str]:
    """Return the titles of all feeds of an exchange."""
    recent = [f"recent {feed.metric}" for feed in exchange.rest_feeds if feed.recent]
    return {
        "instruments",
        *(("clock",) if exchange.clock else ()),
        *(f"history {feed.metric}" for feed in exchange.rest_feeds),
        *recent,
        *(f"poll {feed.metric}" for feed in exchange.poll_feeds),
        *(f"stream {feed.metric}" for feed in exchange.stream_feeds),
    }


def load_samples(exchange: Exchange, folder: Path) -> list[Sample]:
    """Return the samples of a folder of recordings.

    Each feed has a file of its title, such as `history_ohlcv.json`: a list of {"source", "instrument", "payload"}, with
    the exchange's name of the instrument where the feed asks for one. Numbers keep their digits.
    """
    contracts = {each.name: each for each in load_contracts(exchange, folder)}
    return [
        make_sample(exchange, title, recording["payload"], contracts, contracts.get(recording.get("instrument", "")))
        for title in sorted(list_feed_titles(exchange))
        for recording in _recordings(folder, title)
    ]


def load_contracts(exchange: Exchange, folder: Path) -> list[Instrument]:
    """Return the contracts of the recorded list."""
    pages = _recordings(folder, "instruments")
    return [contract for page in pages for contract in read_contracts(exchange, page["payload"])]


def make_sample(
    exchange: Exchange,
    title: str,
    payload: Json,
    contracts: Mapping[str, Instrument],
    instrument: Instrument | None = None,
) -> Sample:
    """Return a payload with the reader of the feed `title`; `contracts` are given by the exchange's names."""
    kind, _, metric = title.partition(" ")
    if kind == "instruments":
        read: Read = _judged(exchange, lambda body: read_contracts(exchange, body))
    elif kind == "clock":
        read = _judged(exchange, lambda body: _read_clock(exchange, body))
    elif kind == "poll":
        poll = next(feed for feed in exchange.poll_feeds if feed.metric == metric)
        read = _judged(exchange, lambda body: read_samples(poll, body, dict(contracts)))
    elif instrument is None:
        raise ValueError(f"{title}: a recording names an instrument that is not in the recorded list")
    elif kind == "stream":
        channel = next(feed for feed in exchange.stream_feeds if feed.metric == metric)
        read = make_message_reader(exchange, channel, instrument)
    else:
        read = _judged(exchange, _page_reader(_history(exchange, kind, metric), instrument))
    return Sample(title=title, payload=payload, read=read, metric=metric or None)


def make_message_reader(exchange: Exchange, feed: StreamFeed, instrument: Instrument) -> Read:
    """Return what reads a decoded message of a contract as the stream does; [] where it is of another topic."""
    socket = next(socket for socket in exchange.sockets if socket.name == feed.socket)

    def read(message: Json) -> Sequence[Any]:
        frame = socket.route(message)
        if frame.fault is not None or frame.topic != feed.topic(instrument) or frame.data is None:
            return []
        return read_message(feed, frame.data, instrument)

    return read


def _recordings(folder: Path, title: str) -> Iterator[dict[str, Json]]:
    path = folder / f"{title.replace(' ', '_')}.json"
    yield from decode(path.read_bytes()) if path.exists() else ()


def _history(exchange: Exchange, kind: str, metric: str) -> RestFeed:
    feed = exchange.find_rest_feed(metric)
    feed = feed.recent if feed and kind == "recent" else feed
    if feed is None:
        raise ValueError(f"{exchange.name} has no {kind} {metric}")
    return feed


def _page_reader(feed: RestFeed, instrument: Instrument) -> Read:
    """Return what reads an answer as one to a page that holds all times."""
    start_ms, end_ms = ceil_to(EARLIEST_MS, feed.interval_ms), floor_to(LATEST_MS, feed.interval_ms)
    page = Page(instrument=instrument, start_ms=start_ms, end_ms=end_ms, limit=feed.paging.rows)
    return lambda body: read_page(feed, page, feed.make_request(page), body)[0]


def _read_clock(exchange: Exchange, body: Json) -> Sequence[int]:
    return [exchange.clock.parse(body)] if exchange.clock else []


def _judged(exchange: Exchange, read: Read) -> Read:
    """Return `read` behind the judge of the exchange, as the client reads."""

    def judged(body: Json) -> Sequence[Any]:
        refusal = exchange.judge(Answer(status=200, headers={}, body=body, text=str(body)[:1000], now_ms=EARLIEST_MS))
        if refusal:
            raise BadPayload(f"refused by judge: {refusal.message}")
        return read(body)

    return judged
