"""Backtests that an assistant asks for: rules in TOML, queued like any other run."""

import time

from redis import Redis

from fademoe.backtest.request import RunRequest, check_request
from fademoe.clock import monotonic_s
from fademoe.errors import ConfigError
from fademoe.queue.enqueue import enqueue_backtest
from fademoe.settings import Settings
from fademoe.store import backtests
from fademoe.store.backtests import Backtest
from fademoe.store.connection import Database

WAIT_S = 45.0
LOOK_S = 0.3


def queue_and_wait(settings: Settings, request: RunRequest) -> Backtest:
    """Queue a run; return it when it has ended, or as it is after WAIT_S. Raises ConfigError for a wrong request."""
    check_request(request)
    database = Database(settings.postgres_url, "fademoe mcp")
    redis = Redis.from_url(settings.queue_url)
    try:
        run_id = database.run(lambda cursor: backtests.add(cursor, backtests.RUN, request.name, request.to_json()))
        enqueue_backtest(redis, run_id, request.name)
        deadline_s = monotonic_s() + WAIT_S
        while True:
            run = database.run(lambda cursor: backtests.find_run(cursor, run_id))
            if run is None:
                raise ConfigError(f"the run {run_id} was removed")
            if run.state not in (backtests.QUEUED, backtests.RUNNING) or monotonic_s() > deadline_s:
                return run
            time.sleep(LOOK_S)
    finally:
        redis.close()
        database.close()
