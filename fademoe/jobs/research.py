"""Jobs of the queue `research`: runs of the backtester, sweeps, walking forward."""

from collections.abc import Callable
from contextlib import closing

from rq import Retry

from fademoe.backtest.chunks import Sweep, remove_ended
from fademoe.backtest.database import StoredFailure, run_and_store, sweep_and_store
from fademoe.backtest.plan import Plan
from fademoe.backtest.request import RunRequest, is_request, make_plan
from fademoe.backtest.run import Cancelled
from fademoe.backtest.sweep import SweepRequest
from fademoe.errors import FadeMoeError
from fademoe.queue.enqueue import enqueue_chunk
from fademoe.queue.retry import ENDLESS
from fademoe.runtime.job_context import JobContext, wrap_job
from fademoe.runtime.services import Services
from fademoe.signals import Stopped
from fademoe.store import backtests
from fademoe.store.backtests import Backtest
from fademoe.store.connection import Database

Say = Callable[[float], None]


@wrap_job
def run_backtest(context: JobContext, run_id: str) -> str | Retry:
    """Run what was added as `run_id` and store what comes of it; return how it ended.

    Of a sweep with many sets it is the first chunk; the others are enqueued. A stop gives the job back: the run begins
    again with the next worker.
    """
    return _work(context, run_id, _run)


@wrap_job
def run_chunk(context: JobContext, run_id: str, data: str, number: int) -> str | Retry:
    """Run a chunk of a sweep over the rows with the hash `data`; the last number is the choice of the best.

    A chunk that is run again counts once. The job that finds all of them stored enqueues the choice.
    """

    def run(services: Services, found: Backtest, reading: Database, say: Say) -> None:
        sweep = Sweep(services.database, reading, services.settings.home, run_id, found.plan)
        if number == sweep.chunks:
            sweep.finish(data, say)
        elif sweep.run_chunk(data, number, say):
            enqueue_chunk(services.redis, run_id, data, sweep.chunks, found.title)

    return _work(context, run_id, run)


def _run(services: Services, found: Backtest, reading: Database, say: Say) -> None:
    if is_request(found.plan):
        with services.database.open_transaction() as cursor:
            plan = make_plan(cursor, RunRequest.from_json(found.plan))
    else:
        plan = Plan.from_json(found.plan)
    if found.kind == backtests.RUN:
        run_and_store(services.database, reading, found.id, plan, say)
        return
    sweep = Sweep(services.database, reading, services.settings.home, found.id, found.plan)
    if sweep.chunks == 1:
        sweep_request = SweepRequest.from_json(found.plan["sweep"])
        sweep_and_store(services.database, reading, found.id, plan, sweep_request, say)
        return
    data = sweep.begin(say)
    for number in range(1, sweep.chunks):
        enqueue_chunk(services.redis, found.id, data, number, found.title)


def _work(context: JobContext, run_id: str, work: Callable[[Services, Backtest, Database, Say], None]) -> str | Retry:
    """Do a part of a run that has not ended; store why it failed, and remove what ended sweeps left."""
    services = context.services
    with services.database.open_transaction() as cursor:
        found = backtests.find_run(cursor, run_id)

    def check_stop(share: float) -> None:
        if services.stop.requested:
            raise Stopped

    ended = "done"
    if found is None or found.state not in (backtests.QUEUED, backtests.RUNNING):
        ended = "nothing to do"
    else:
        with closing(Database(services.settings.postgres_url, "fademoe backtest")) as reading:
            try:
                with StoredFailure(services.database, run_id):
                    work(services, found, reading, check_stop)
            except Stopped:
                return Retry(max=ENDLESS, interval=0, enqueue_at_front=True)
            except Cancelled:
                ended = "cancelled"
            except FadeMoeError as error:
                ended = str(error)
    remove_ended(services.database, services.settings.home)
    return ended
