"""Backtests that an assistant asks for: rules in TOML, queued like any other run."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from threading import BoundedSemaphore
from typing import Any

from psycopg2.extensions import cursor as Cursor
from redis import Redis

from fademoe.backtest.request import RunRequest, check_request
from fademoe.backtest.strategies import StrategyFile
from fademoe.clock import monotonic_s
from fademoe.errors import ConfigError
from fademoe.queue.enqueue import enqueue_backtest
from fademoe.settings import Settings
from fademoe.store import backtests
from fademoe.store.backtests import Backtest
from fademoe.store.connection import Database

WAIT_S = 45.0
STATE_POLL_S = 0.3
MOST_WAITING = 4  # questions that wait for their run at a time; others are answered at once
MOST_QUEUED = 20  # runs: with more, an assistant queues none
MONEY, SHARE, YEARLY = "USDT", "fraction", "fraction per year"
UNITS = {
    "equity": MONEY,
    "profit": MONEY,
    "fees": MONEY,
    "funding": MONEY,
    "return": SHARE,
    "buy_and_hold": SHARE,
    "cagr": YEARLY,
    "volatility": YEARLY,
    "sharpe": "ratio, yearly",
    "sortino": "ratio, yearly",
    "calmar": "ratio",
    "max_drawdown": "fraction of the peak",
    "max_drawdown_minutes": "minutes",
    "exposure": "fraction of the equity, mean",
    "time_in_market": "fraction of the time",
    "turnover": "multiple of the mean equity",
    "trades": "count",
    "hit_rate": "fraction of the trades",
    "profit_factor": "ratio",
    "average_holding_minutes": "minutes",
    "calls": "count",
    "corrections": "count",
    "longest_stale_minutes": "minutes",
}

_waiting = BoundedSemaphore(MOST_WAITING)


def queue_and_wait(settings: Settings, request: RunRequest) -> Backtest:
    """Queue a run; return it when it has ended, or as it is after WAIT_S. Raises ConfigError for a wrong request."""
    check_request(request)
    StrategyFile(request.name, request.text)
    with closing(Database(settings.postgres_url, "fademoe mcp")) as database:
        run_id = database.run(lambda cursor: _add(cursor, request))
        with closing(Redis.from_url(settings.queue_url)) as redis:
            enqueue_backtest(redis, run_id, request.name)
        waits = _waiting.acquire(blocking=False)
        try:
            return _follow(database, run_id, WAIT_S if waits else 0.0)
        finally:
            if waits:
                _waiting.release()


def list_series_read(run: Backtest) -> Iterator[tuple[str, str]]:
    """Yield the (source, symbol) that a run has read, as its certificate names them."""
    certificate: dict[str, Any] = json.loads(run.certificate) if run.certificate else {}
    yield from ((series["source"], series["symbol"]) for series in certificate.get("series", ()))


def _add(cursor: Cursor, request: RunRequest) -> str:
    if (queued := backtests.count_queued(cursor)) >= MOST_QUEUED:
        raise ConfigError(f"{queued} backtests are queued already: wait for them, or cancel some")
    return backtests.add(cursor, backtests.RUN, request.name, request.to_json())


def _follow(database: Database, run_id: str, for_s: float) -> Backtest:
    """Return a run when it has ended, or as it is after `for_s` seconds."""
    deadline_s = monotonic_s() + for_s
    while True:
        run = database.run(lambda cursor: backtests.find_run(cursor, run_id))
        if run is None:
            raise ConfigError(f"the run {run_id} was removed")
        if run.state not in (backtests.QUEUED, backtests.RUNNING) or monotonic_s() > deadline_s:
            return run
        time.sleep(STATE_POLL_S)
