"""Where a socket connects to: a fixed address, or one that the exchange names for each connection."""

from collections.abc import Callable
from dataclasses import dataclass

from fademoe.client.rest import RestClient
from fademoe.errors import BadPayload
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.stream import Endpoint, Socket


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a socket connects to: `url` is shown in messages, `resolve()` returns the address with its token."""

    url: str
    resolve: Callable[[], str]


def find_address(exchange: Exchange, socket: Socket, rest: RestClient, stream_url: str) -> Address:
    """Return the address of a socket at `stream_url`, scheme and host; with an endpoint it is asked for by `rest`."""
    url, endpoint = stream_url + socket.path, socket.endpoint
    if endpoint is None:
        return Address(url=url, resolve=lambda: url)
    return Address(url=url, resolve=lambda: _request_address(exchange, endpoint, rest, url))


def _request_address(exchange: Exchange, endpoint: Endpoint, rest: RestClient, url: str) -> str:
    """Return what the exchange names; raise a SourceError when it names nothing."""
    body = rest.send(exchange, endpoint.request, budget=endpoint.budget, cost=endpoint.cost, live=True)
    try:
        named = endpoint.parse(body)
    except BadPayload as error:
        error.locate(exchange.name, str(endpoint.request), body)
        raise
    return named if "://" in named else url + named
