"""Coinalyze: an aggregator's figures of the perpetuals of Binance, Bybit and OKX, each under a code of its own.

Facts: api.coinalyze.net/v1/doc, read in autumn 2026 from a stored copy, and other people's measurements of 2025-10 and
2026-08-25. No recorded answer is published, so samples below follow the documentation. Times are seconds, values
are JSON numbers, and what the unit of a value leaves open is documented at its parser.
"""

from fademoe.clock import MINUTE_MS
from fademoe.exchanges.coinalyze.answers import judge, make_headers
from fademoe.exchanges.coinalyze.history import POLL_FEEDS, REST_FEEDS
from fademoe.exchanges.coinalyze.instruments import CODES, INSTRUMENTS
from fademoe.exchanges.coinalyze.stream import SOCKETS, STREAM_FEEDS
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.limits import Budget

EXCHANGE = Exchange(
    name="coinalyze",
    title="Coinalyze",
    codes=tuple(CODES.values()),
    rest_url="https://api.coinalyze.net",
    needs_key=True,
    headers=make_headers,
    budgets=(
        # every market of a request counts as one call
        Budget(name="key", limit=40, period_ms=MINUTE_MS, jitter_ms=500, per_key=True),
    ),
    judge=judge,
    clock=None,
    instruments=INSTRUMENTS,
    rest_feeds=REST_FEEDS,
    poll_feeds=POLL_FEEDS,
    sockets=SOCKETS,
    stream_feeds=STREAM_FEEDS,
    unsent=frozenset({"qv", "fr_mark"}),
)
