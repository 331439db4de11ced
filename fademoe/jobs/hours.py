"""Makes the hours that longer steps are read from: what is covered and over, and what has changed since."""

from collections.abc import Callable, Iterator
from functools import partial

from psycopg2.extensions import cursor as Cursor

from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, monotonic_s, split
from fademoe.feeds import registry
from fademoe.metrics import INTERVALS_MS, METRICS, parse_metric
from fademoe.runtime.job_context import JobContext, wrap_job
from fademoe.runtime.services import Services
from fademoe.store import hours, status
from fademoe.store.status import State

UNIT = "hours"
RUN_S = 15.0  # of each minute: collecting goes on meanwhile
MAX_SERIES = 500  # looked up at once
LONGEST_MS = 31 * DAY_MS  # of one transaction


@wrap_job
def refresh_hours(context: JobContext) -> int:
    """Make hours as a job; see `refresh`."""
    return refresh(context.services)


def refresh(services: Services, run_s: float = RUN_S) -> int:
    """Make the hours that are due, changed ones first, for about `run_s` seconds; return how many."""
    deadline_s = monotonic_s() + run_s
    count, rest = 0, "all hours are made"
    with status.Tracked(database=services.database, unit=UNIT, interval_s=MINUTE_MS // SECOND_MS) as tracked:
        for work in _list_work(services):
            if monotonic_s() >= deadline_s or services.stop.requested:
                rest = "more hours are to be made"
                break
            count += services.database.run(work)
        tracked.report(State.DONE, f"{rest}, {count} of them now")
    return count


def _list_work(services: Services) -> Iterator[Callable[[Cursor], int]]:
    """Yield transactions that make hours, each with how many it makes, until none is due."""
    services.database.run(hours.drop_unmade)
    for series in services.database.run(lambda cursor: hours.list_stale_series(cursor, MAX_SERIES)):
        yield partial(hours.renew, series=series)
    sources = list_sources()
    while due := services.database.run(lambda cursor: hours.list_due(cursor, sources, MAX_SERIES)):
        for series, window in due:
            for part in reversed(list(split(window, LONGEST_MS))):
                yield partial(hours.make, series=series, window=part)


def list_sources() -> list[str]:
    """Return the stored perpspecs whose rows are joined into hours: their interval is no longer than one."""
    sources = [source for exchange in registry.load_exchanges().values() for source in exchange.list_perpspecs()]
    return [
        source for source in sources if INTERVALS_MS.get(METRICS[parse_metric(source)].interval, HOUR_MS) <= HOUR_MS
    ]
