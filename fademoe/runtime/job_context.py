"""What a job is called with: the services of its process, and the rq job that it runs as."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from rq import Retry, get_current_job
from rq.job import Job

from fademoe.clock import to_host_s
from fademoe.errors import FadeMoeError
from fademoe.queue.retry import ENDLESS
from fademoe.runtime.services import Services
from fademoe.signals import Stopped

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class JobContext:
    """The context of one run of a job; `job` is None outside a worker."""

    services: Services
    job: Job | None = None

    @property
    def queue(self) -> str:
        """Name of the queue that the job came from, "" outside a worker."""
        return str(self.job.origin) if self.job else ""

    def read_meta(self, key: str) -> int:
        """Return the number that the job keeps from run to run under a key, 0 where there is none."""
        return int(self.job.meta.get(key, 0)) if self.job else 0

    def write_meta(self, key: str, value: int) -> None:
        """Keep a number from run to run."""
        if self.job is not None:
            self.job.meta[key] = value
            self.job.save_meta()

    def read_notes(self, key: str) -> list[list[int]]:
        """Return the notes, each of some numbers, that the job keeps from run to run under a key."""
        return list(self.job.meta.get(key, [])) if self.job else []

    def add_notes(self, key: str, notes: Sequence[Sequence[int]]) -> None:
        """Keep more notes from run to run."""
        if self.job is not None and notes:
            self.job.meta[key] = [*self.read_notes(key), *map(list, notes)]
            self.job.save_meta()

    def count_failure(self, key: str) -> int:
        """Add one to a counter that the job keeps from run to run; return it. Outside a worker it is 1."""
        if self.job is None:
            return 1
        self.job.meta[key] = int(self.job.meta.get(key, 0)) + 1
        self.job.save_meta()
        return int(self.job.meta[key])

    def keep_finished(self, duration_s: float) -> None:
        """Keep the job for a while after it succeeds: its id is held, so that it is not enqueued again meanwhile."""
        if self.job is not None:
            self.job.result_ttl = max(1, round(to_host_s(duration_s)))

    def clear_failures(self, key: str) -> None:
        """Set the counter to zero."""
        if self.job is not None and self.job.meta.pop(key, 0):
            self.job.save_meta()


_services: list[Services] = []  # of this worker process; work horses are forked from it


def use_services(services: Services) -> None:
    """Run the jobs of this process, and of work horses forked from it, with `services`."""
    _services[:] = [services]


def wrap_job(function: Callable[Concatenate[JobContext, Arguments], Result]) -> Callable[Arguments, Result | Retry]:
    """Make a function that takes a JobContext callable by rq, which knows only the other arguments.

    SIGTERM then requests a stop; a job that raises Stopped runs again. One that raises anything else fails for good:
    rq's retries are for work horses that were killed.
    Raises FadeMoeError in a process that is not a FadeMoe worker.
    """

    @wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result | Retry:
        if not _services:
            raise FadeMoeError("this job needs a FadeMoe worker: start one with `fademoe worker`")
        _services[0].stop.install()
        job = get_current_job()
        with ExitStack() as on_error:
            on_error.callback(_take_retries, job)
            try:
                result: Result | Retry = function(JobContext(services=_services[0], job=job), *args, **kwargs)
            except Stopped:
                result = Retry(max=ENDLESS, enqueue_at_front=True)
            on_error.pop_all()
        return result

    return run


def _take_retries(job: Job | None) -> None:
    if job is not None:
        job.retries_left = 0
