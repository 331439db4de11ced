"""Binance USDⓈ-M futures.

Facts: developers.binance.com, Derivatives > USDⓈ-M Futures, read 2026-05-28, and measurements of 2026-10-07 against
production (cost bands, windows, acknowledgements, socket limits).
"""

from fademoe.clock import MINUTE_MS
from fademoe.exchanges.binance.answers import judge
from fademoe.exchanges.binance.archive import ARCHIVE
from fademoe.exchanges.binance.history import POLL_FEEDS, REST_FEEDS
from fademoe.exchanges.binance.instruments import CLOCK, INSTRUMENTS
from fademoe.exchanges.binance.stream import SOCKETS, STREAM_FEEDS
from fademoe.exchanges.binance.terms import TERMS_FEEDS, read_tiers
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.limits import Budget

EXCHANGE = Exchange(
    name="binance",
    title="Binance USDⓈ-M",
    codes=("bin",),
    rest_url="https://fapi.binance.com",
    stream_url="wss://fstream.binance.com",
    budgets=(
        Budget(
            name="weight",
            limit=2400,
            period_ms=MINUTE_MS,
            aligned=True,
            jitter_ms=400,
            used_header="X-MBX-USED-WEIGHT-1M",
        ),
        # Whether the windows of the two are aligned or sliding is not documented: sliding ones are right for both.
        Budget(name="funding", limit=500, period_ms=5 * MINUTE_MS, jitter_ms=500),
        # Whether all routes of /futures/data share one pool is not documented: one pool is right for both.
        Budget(name="futures-data", limit=1000, period_ms=5 * MINUTE_MS, jitter_ms=500),
    ),
    judge=judge,
    clock=CLOCK,
    instruments=INSTRUMENTS,
    rest_feeds=REST_FEEDS,
    terms_feeds=TERMS_FEEDS,
    tiers_file=read_tiers,
    poll_feeds=POLL_FEEDS,
    sockets=SOCKETS,
    stream_feeds=STREAM_FEEDS,
    archive=ARCHIVE,
)
