"""The engine with a function in place of the client: (request, cost) -> decoded answer."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from fademoe.clock import Window
from fademoe.feeds.history import Page, RestFeed
from fademoe.feeds.instrument import Instrument, Json
from fademoe.feeds.request import Request
from fademoe.jobs.fetch import Fetched, fetch, request_holes_again

Get = Callable[[Request, int], Json]


class FunctionClient:
    """A PageClient that calls `get`, or `spare` for requests that may only use spare units."""

    def __init__(self, get: Get, spare: Get | None = None) -> None:
        self._get = get
        self._spare = spare or get

    def get(self, feed: RestFeed, page: Page, *, opportunistic: bool = False) -> Json:
        """Return what `get` or `spare` answers to the request for a page."""
        send = self._spare if opportunistic else self._get
        return send(feed.make_request(page), feed.paging.compute_cost(page.limit))

    def allow_interrupt(self):
        """Interrupt nothing."""
        return nullcontext()


def fetch_with(
    feed: RestFeed,
    instrument: Instrument,
    windows: Sequence[Window],
    get: Get,
    *,
    helpers: int = 0,
    spare: Get | None = None,
) -> Fetched:
    """Fetch windows."""
    return fetch(feed, instrument, windows, FunctionClient(get, spare), helpers=helpers)


def confirm_with(feed: RestFeed, instrument: Instrument, fetched: Fetched, exchange_now_ms: int, get: Get) -> Fetched:
    """Request holes again."""
    return request_holes_again(feed, instrument, fetched, exchange_now_ms, FunctionClient(get))
