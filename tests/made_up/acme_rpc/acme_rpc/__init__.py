"""Acme RPC: JSON-RPC over REST and over a socket that has an address for each connection, a heartbeat and gzip.

It is made up. Facts: tests/made_up/acme_rpc/acme_rpc_server.py, which is the exchange.
"""

from acme_rpc.answers import judge
from acme_rpc.history import REST_FEEDS
from acme_rpc.instruments import CLOCK, INSTRUMENTS
from acme_rpc.stream import SOCKETS, STREAM_FEEDS
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.limits import Budget

EXCHANGE = Exchange(
    name="acmerpc",
    title="Acme RPC",
    codes=("acr",),
    rest_url="https://www.acme-rpc.test",
    stream_url="wss://www.acme-rpc.test",
    budgets=(
        Budget(name="public", limit=20, period_ms=1000, jitter_ms=50),
        Budget(name="tokens", limit=5, period_ms=10_000, jitter_ms=50),
    ),
    judge=judge,
    clock=CLOCK,
    instruments=INSTRUMENTS,
    rest_feeds=REST_FEEDS,
    sockets=SOCKETS,
    stream_feeds=STREAM_FEEDS,
    unsent=frozenset({"tbv"}),
)
