"""Jobs of the queue `research`: runs of the backtester, sweeps, walking forward."""

from contextlib import closing

from rq import Retry

from fademoe.backtest.database import run_and_store, sweep_and_store
from fademoe.backtest.plan import Plan
from fademoe.backtest.request import RunRequest, is_request, make_plan
from fademoe.backtest.run import Cancelled
from fademoe.backtest.sweep import SweepRequest
from fademoe.errors import FadeMoeError
from fademoe.jobs.failures import ENDLESS
from fademoe.runtime.job_context import JobContext, wrap_job
from fademoe.signals import Stopped
from fademoe.store import backtests
from fademoe.store.connection import Database


@wrap_job
def run_backtest(context: JobContext, run_id: str) -> str | Retry:
    """Run what was added as `run_id` and store what comes of it; return how it ended.

    A stop gives the job back: the run begins again with the next worker.
    """
    services = context.services
    with services.database.open_transaction() as cursor:
        found = backtests.find_run(cursor, run_id)
    if found is None or found.state not in (backtests.QUEUED, backtests.RUNNING):
        return "nothing to do"
    try:
        if is_request(found.plan):
            with services.database.open_transaction() as cursor:
                plan = make_plan(cursor, RunRequest.from_json(found.plan))
        else:
            plan = Plan.from_json(found.plan)
    except FadeMoeError as error:
        message = str(error)
        services.database.run(lambda cursor: backtests.fail(cursor, run_id, message))
        return message

    def check_stop(share: float) -> None:
        if services.stop.requested:
            raise Stopped

    with closing(Database(services.settings.postgres_url, "fademoe backtest")) as reading:
        try:
            if found.kind == backtests.RUN:
                run_and_store(services.database, reading, run_id, plan, check_stop)
            else:
                asked = SweepRequest.from_json(found.plan["sweep"])
                sweep_and_store(services.database, reading, run_id, plan, asked, check_stop)
        except Stopped:
            return Retry(max=ENDLESS, interval=0, enqueue_at_front=True)
        except Cancelled:
            return "cancelled"
        except FadeMoeError as error:
            return str(error)
    return "done"
