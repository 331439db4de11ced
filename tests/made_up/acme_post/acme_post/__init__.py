"""Acme Post: one address for all requests, POST with a JSON body, JSON numbers, bars without a mark of their end.

It is made up. Facts: tests/made_up/acme_post/acme_post_server.py, which is the exchange.
"""

from acme_post.answers import judge
from acme_post.archive import ARCHIVE
from acme_post.history import POLL_FEEDS, REST_FEEDS
from acme_post.instruments import INSTRUMENTS
from acme_post.stream import SOCKETS, STREAM_FEEDS
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.limits import Budget

EXCHANGE = Exchange(
    name="acmepost",
    title="Acme Post",
    codes=("acp",),
    rest_url="https://api.acme-post.test",
    stream_url="wss://api.acme-post.test",
    budgets=(Budget(name="weight", limit=1200, period_ms=60_000, jitter_ms=500),),
    judge=judge,
    clock=None,  # the exchange does not tell its time
    instruments=INSTRUMENTS,
    rest_feeds=REST_FEEDS,
    poll_feeds=POLL_FEEDS,
    sockets=SOCKETS,
    stream_feeds=STREAM_FEEDS,
    unsent=frozenset({"qv", "tbv"}),
    archive=ARCHIVE,
)
