"""Names: the queues, and the jobs, whose ids are made of their arguments so that no work is queued twice."""

from typing import NamedTuple

from fademoe.clock import Window
from fademoe.store.coverage import Series

LIVE = "live"
UPKEEP = "upkeep"
ARCHIVES = "archive"  # periods of archives of files, which workers of their own take
RESEARCH = "research"  # backtests and sweeps, as well
SHARED_QUEUES = (LIVE, UPKEEP, ARCHIVES, RESEARCH)
NOTIFY = "notify"  # of the deliveries of alerts; not paused with the others
# Each exchange has two queues beside them: one with its name for the system's own work, and `<name>-requested` for what
# a person asked for by command or page. An exchange's name has letters and digits only.
REQUESTED = "-requested"

BACKFILL = "bf"
AUDIT = "au"
RECHECK = "re"
IMPORT = "ar"
REIMPORT = "ai"
KINDS = (BACKFILL, AUDIT, RECHECK, IMPORT, REIMPORT)


class Task(NamedTuple):
    """The arguments of a job that works on one window of one series."""

    series: Series
    window: Window

    @property
    def job_id(self) -> str:
        """Id of the window's backfill job."""
        return make_job_id(BACKFILL, self)

    @classmethod
    def parse(cls, text: str) -> "Task | None":
        """Read the id of a backfill job; return None for any other id."""
        kind, task = parse_job_id(text)
        return task if kind == BACKFILL else None


def make_job_id(kind: str, task: Task) -> str:
    """Return the id of a job: letters, digits, `_` and `-` only."""
    return f"{make_series_prefix(task.series, kind)}_{task.window.start_ms}_{task.window.end_ms}"


def make_series_prefix(series: Series, kind: str = BACKFILL) -> str:
    """Return what the ids of a series' jobs begin with; `_` and the window follow."""
    symbol = series.symbol
    coded = symbol if symbol.isascii() and symbol.isalnum() else f"-{symbol.encode().hex()}"
    return f"{kind}-{series.source}_{coded}"


def parse_job_id(text: str) -> tuple[str, Task | None]:
    """Return (kind, task) of an id made by `make_job_id`, ("", None) for any other text."""
    kind, _, rest = text.partition("-")
    parts = rest.rsplit("_", 3)  # the name of a metric may have underscores, nothing behind it has
    if kind not in KINDS or len(parts) != 4:
        return "", None
    source, coded, start, end = parts
    try:
        symbol = bytes.fromhex(coded[1:]).decode() if coded.startswith("-") else coded
        window = Window(int(start), int(end))
    except ValueError:
        return "", None
    return kind, Task(Series(source, symbol), window)


def get_requested_queue(exchange: str) -> str:
    """Return the queue of what was requested of an exchange by command or page."""
    return f"{exchange}{REQUESTED}"


def is_requested(queue: str) -> bool:
    """Return whether a queue holds what was requested by command or page."""
    return queue.endswith(REQUESTED)


def parse_exchange(queue: str) -> str | None:
    """Return the exchange whose queue it is, None for the shared ones."""
    return None if queue in SHARED_QUEUES else queue.removesuffix(REQUESTED)


def list_exchange_queues(*exchanges: str) -> tuple[str, ...]:
    """Return the queues of exchanges, those of requested work first."""
    return (*map(get_requested_queue, exchanges), *exchanges)


def list_window_queues(*exchanges: str) -> tuple[str, ...]:
    """Return the queues in which windows of these exchanges can be."""
    return (*list_exchange_queues(*exchanges), LIVE, ARCHIVES)
