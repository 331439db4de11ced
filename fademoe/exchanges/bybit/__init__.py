"""Bybit v5, category linear: perpetuals settled in USDT.

Facts: the v5 documentation (bybit-exchange.github.io/docs/v5), read 2026-07-24, and public captures and measurements
up to 2026-10-09. Every list comes newest first, numbers are strings, trailing zeros are dropped.
"""

from fademoe.clock import SECOND_MS
from fademoe.exchanges.bybit.answers import judge
from fademoe.exchanges.bybit.history import REST_FEEDS
from fademoe.exchanges.bybit.instruments import CLOCK, INSTRUMENTS
from fademoe.exchanges.bybit.stream import SOCKETS, STREAM_FEEDS
from fademoe.exchanges.bybit.terms import TERMS_FEEDS
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.limits import Budget

EXCHANGE = Exchange(
    name="bybit",
    title="Bybit linear",
    codes=("byb",),
    rest_url="https://api.bybit.com",
    stream_url="wss://stream.bybit.com",
    budgets=(
        # 600 requests are allowed; one more costs ten minutes, so five stay unused
        Budget(name="ip", limit=595, period_ms=5 * SECOND_MS, jitter_ms=25),
    ),
    judge=judge,
    clock=CLOCK,
    instruments=INSTRUMENTS,
    rest_feeds=REST_FEEDS,
    terms_feeds=TERMS_FEEDS,
    sockets=SOCKETS,
    stream_feeds=STREAM_FEEDS,
    unsent=frozenset({"tbv", "fr_mark"}),
)
