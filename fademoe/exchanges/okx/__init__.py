"""OKX v5, swaps margined in USDT.

Facts: the OKX API guide (docs-v5) as mirrored on 2026-08-22, and what clients report of the live service in 2026. What
neither settles stands where it matters. Prices are per one coin; sizes are contracts and mostly come in coins too.
"""

from fademoe.clock import SECOND_MS
from fademoe.exchanges.okx.answers import judge
from fademoe.exchanges.okx.archive import ARCHIVE
from fademoe.exchanges.okx.history import POLL_FEEDS, REST_FEEDS
from fademoe.exchanges.okx.instruments import CLOCK, INSTRUMENTS
from fademoe.exchanges.okx.stream import SOCKETS, STREAM_FEEDS
from fademoe.exchanges.okx.terms import TERMS_FEEDS
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.limits import Budget

PERIOD_MS = 2 * SECOND_MS  # of every limit
JITTER_MS = 30

EXCHANGE = Exchange(
    name="okx",
    title="OKX swaps",
    codes=("okx",),
    rest_url="https://www.okx.com",
    stream_url="wss://ws.okx.com:8443",
    budgets=(
        Budget(name="candles", limit=40, period_ms=PERIOD_MS, jitter_ms=JITTER_MS),  # by address
        Budget(name="history-candles", limit=20, period_ms=PERIOD_MS, jitter_ms=JITTER_MS),  # by address
        Budget(name="mark-price-candles", limit=20, period_ms=PERIOD_MS, jitter_ms=JITTER_MS),  # by address
        Budget(name="history-mark-price-candles", limit=20, period_ms=PERIOD_MS, jitter_ms=JITTER_MS),  # by address
        Budget(name="premium-history", limit=20, period_ms=PERIOD_MS, jitter_ms=JITTER_MS),  # by address
        Budget(name="time", limit=10, period_ms=PERIOD_MS, jitter_ms=JITTER_MS),  # by address
        Budget(name="instruments", limit=20, period_ms=PERIOD_MS, jitter_ms=JITTER_MS),  # by address and instType
        # The five below count by address and contract: one budget for all contracts is right under both readings.
        Budget(name="position-tiers", limit=10, period_ms=PERIOD_MS, jitter_ms=JITTER_MS),  # by address
        Budget(name="open-interest", limit=20, period_ms=PERIOD_MS, jitter_ms=JITTER_MS),  # asked for all at once
        Budget(name="funding-rate", limit=10, period_ms=PERIOD_MS, jitter_ms=JITTER_MS),  # asked for all at once
        Budget(name="funding-rate-history", limit=10, period_ms=PERIOD_MS, jitter_ms=JITTER_MS),
        Budget(name="open-interest-history", limit=10, period_ms=PERIOD_MS, jitter_ms=JITTER_MS),
        Budget(name="long-short-ratio", limit=5, period_ms=PERIOD_MS, jitter_ms=JITTER_MS),
    ),
    judge=judge,
    clock=CLOCK,
    instruments=INSTRUMENTS,
    rest_feeds=REST_FEEDS,
    terms_feeds=TERMS_FEEDS,
    poll_feeds=POLL_FEEDS,
    sockets=SOCKETS,
    stream_feeds=STREAM_FEEDS,
    archive=ARCHIVE,
    unsent=frozenset({"tbv", "fr_mark"}),
)
