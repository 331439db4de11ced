"""Every reader of every exchange, fed with answers that one change has damaged: a good row, or a declared error."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fademoe.clock import EARLIEST_MS, HOUR_MS, LATEST_MS, floor_to
from fademoe.errors import BadPayload, Refused, RetryLater
from fademoe.feeds import registry
from fademoe.feeds.answers import Answer
from fademoe.feeds.history import Page
from fademoe.feeds.instrument import Instrument
from fademoe.feeds.values import decode
from fademoe.jobs.fetch import read_page
from fademoe.metrics import METRICS
from tests.support.feeds import read_contracts, read_message, read_samples

RECORDINGS = Path(__file__).parent.parent / "recordings"
DECLARED = (BadPayload, Refused, RetryLater)
PLAIN = re.compile(r"-?[0-9]+([.][0-9]+)?")
SIGNED = ("pfr", "fr", "ppr")
WRONG = (
    *(None, True, False, 0, -1, 1.5, float("nan"), 10**30, 1767225600, 1767225600000000, [], [1], {}, {"a": 1}),
    *("", "NaN", "Infinity", "-1", "1e5", "x", "\x00", "\uff11", "1" * 40, "1767225600"),
)
SPANS = {"settlement": 160, "1h": 5}  # rows of a page that has some
CLOSED = {"x": True, "confirm": True, "E": 4_000_000_000_000}  # and told of after its end
NAMES = re.compile(r"[A-Z0-9]+-USDT-SWAP|[A-Z0-9]+USDT")


def places(tree: object, path: tuple = ()) -> Iterator[tuple]:
    """Walk through a payload: every member, and the first element of every list."""
    yield path
    members = tree.items() if isinstance(tree, dict) else enumerate(tree[:1]) if isinstance(tree, list) else ()
    for name, value in members:
        yield from places(value, (*path, name))


def changed(tree: dict | list, path: tuple, value: object) -> dict | list:
    """Return a copy of a payload with another value at a path, with none for Ellipsis; the rest is not copied."""
    name, *rest = path
    copied = copy.copy(tree)
    if rest:
        copied[name] = changed(tree[name], rest, value)
    elif value is Ellipsis:
        del copied[name]
    else:
        copied[name] = value
    return copied


def damaged(payload: object) -> Iterator[object]:
    """Return copies of a payload with one value wrong or left out."""
    yield from WRONG
    for path in list(places(payload))[1:]:
        for value in (*WRONG, Ellipsis):
            yield changed(payload, path, value)


def is_good(row: tuple, metric: str) -> bool:
    """Tell whether a row may be stored."""
    values = [value for value in row[1:] if value is not None]
    return (
        type(row) is METRICS[metric].row_type
        and type(row.ts) is int
        and EARLIEST_MS <= row.ts < LATEST_MS
        and all(0 <= value < 2**63 if type(value) is int else bool(PLAIN.fullmatch(value)) for value in values)
        and (metric in SIGNED or not any(str(value).startswith("-") for value in values))
    )


def withstands(read, payload: object, metric: str | None) -> None:
    """Assert that a reader reads a payload, and of its damaged copies only good rows or none."""
    assert read(payload)
    for spoilt in damaged(payload):
        try:
            rows = read(spoilt)
        except DECLARED:
            continue
        assert metric is None or all(is_good(row, metric) for row in rows), (spoilt, rows)


def shortened(body):
    """Return a list of contracts with its first two rows."""
    if isinstance(body, list):
        return body[:2]
    return {name: shortened(value) if isinstance(value, list | dict) else value for name, value in body.items()}


@pytest.fixture
def asked(sim):
    """Return a function that asks an exchange, and one that reads through its judge as the client does."""
    sim.session.headers["api_key"] = "k"

    def ask(request):
        response = sim.get(request.path, **request.params)
        assert response.status_code == 200, response.text
        return decode(response.content)

    def through(exchange, read):
        def judged(body):
            answer = Answer(status=200, headers={}, body=body, text=str(body), now_ms=sim.now_ms())
            if exchange.judge(answer):
                raise BadPayload("refused by the judge")
            return read(body)

        return judged

    return ask, through


@pytest.mark.parametrize("name", registry.names())
def test_rest(sim, asked, name):
    ask, through = asked
    exchange = registry.exchanges()[name]
    listed = ask(exchange.instruments.request)
    found = {(each.code, each.symbol): each for each in read_contracts(exchange, listed)}
    instrument = found[exchange.codes[0], "PEPE"]
    withstands(through(exchange, lambda body: read_contracts(exchange, body)), shortened(listed), None)
    if exchange.clock:
        clock = exchange.clock
        withstands(through(exchange, lambda body: [clock.parse(body)]), ask(clock.request), None)
    for feed in (*exchange.rest_feeds, *(feed.recent for feed in exchange.rest_feeds if feed.recent)):
        end_ms = floor_to(sim.now_ms() - (feed.recent_ms or HOUR_MS), HOUR_MS)
        count = 300 if feed.metric == "lq" else SPANS.get(feed.interval, 3)
        page = Page(instrument=instrument, start_ms=end_ms - count * feed.interval_ms, end_ms=end_ms, limit=count)
        request = feed.request(page)
        body = ask(request)
        withstands(through(exchange, lambda body: read_page(feed, page, request, body)[0]), body, feed.metric)  # noqa: B023
    for feed in exchange.poll_feeds:
        body = shortened(ask(feed.request([instrument])))
        withstands(through(exchange, current(feed, {each.name: each for each in found.values()})), body, feed.metric)


def current(feed, contracts: dict[str, Instrument]):
    """Return what reads current values as a poll does."""

    def read(body):
        return read_samples(feed, body, contracts)

    return read


@pytest.mark.parametrize("name", [name for name in registry.names() if registry.exchanges()[name].sockets])
def test_streams(name):
    exchange = registry.exchanges()[name]
    route = exchange.sockets[0].route
    seen = set()
    for path in sorted((RECORDINGS / name).glob("ws_*.json")):
        for recording in json.loads(path.read_text(encoding="utf-8"))[:4]:
            message = closed(recording["payload"])
            for feed in exchange.stream_feeds:
                for contract in sorted(set(NAMES.findall(json.dumps(message)))):
                    instrument = Instrument(exchange=name, code=exchange.codes[0], name=contract, symbol="X")
                    read = reader(feed, route, instrument)
                    try:
                        rows = read(message)
                    except DECLARED:
                        continue
                    if rows:
                        seen.add(feed.metric)
                        withstands(read, message, feed.metric)
    assert seen == {feed.metric for feed in exchange.stream_feeds}


def closed(message: object):
    """Return a message in which every candle is the last of its minute."""
    if isinstance(message, list):
        candle = len(message) == 9 and isinstance(message[8], str)
        return [*message[:8], "1"] if candle else [closed(item) for item in message]
    if isinstance(message, dict):
        return {key: CLOSED.get(key, closed(value)) for key, value in message.items()}
    return message


def reader(feed, route, instrument: Instrument):
    """Return what reads a message of one contract as the runner does."""

    def read(message):
        frame = route(message)
        if frame.fault is not None or frame.topic != feed.topic(instrument) or frame.data is None:
            return []
        return read_message(feed, frame.data, instrument)

    return read
