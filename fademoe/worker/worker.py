"""The RQ worker as FadeMoe runs it: imports its jobs before it forks, ends within seconds of SIGTERM."""

import ctypes
import encodings.ascii  # these are of every first zip and connection: here, so that no work horse imports them
import encodings.cp437
import encodings.idna  # noqa: F401
import gc
import logging
import os
import signal
import socket
import sys
import time
from importlib import import_module
from types import FrameType

from redis.exceptions import ResponseError
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import RoundRobinWorker
from rq.worker_registration import clean_worker_registry

from fademoe.feeds import registry
from fademoe.queue.dequeue import make_queue_class
from fademoe.queue.ids import ARCHIVES, LIVE, NOTIFY, RESEARCH, UPKEEP, list_exchange_queues
from fademoe.runtime.job_context import use_services
from fademoe.runtime.services import Services

log = logging.getLogger(__name__)

# The rooms of jobs that each kind of worker imports before it forks, so that no work horse has to. Any worker can run
# any job; what it has not imported costs the work horse the import, and what it has imported costs memory and forks.
HISTORY_JOBS = ("audit", "backfill", "hours", "newest", "polls", "seed", "terms")
JOBS_OF = {
    LIVE: (*HISTORY_JOBS, "maintenance"),
    NOTIFY: ("notify",),
    ARCHIVES: ("archive", "dead"),
    RESEARCH: ("research",),
}
MONITOR_S = 5  # between two looks at the work horse, each of which renews the job's lease
LEASE_S = 30  # a job whose lease was not renewed for so long is given to another worker
WORKER_TTL_S = 60
REFUSED_S = 5.0  # between two tries while Redis refuses to write, as on a full disk
PR_SET_PDEATHSIG = 1
# A page of candles is thousands of objects without cycles: at Python's own 700 the collector took a sixth of a job.
GC_THRESHOLDS = (100_000, 50, 100)


class Worker(RoundRobinWorker):
    """Takes the queues in turn, so that no exchange starves another."""

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Pass SIGTERM on to the work horse, which stores what it has and gives its job back; then end."""
        if self.horse_pid:
            self.kill_horse(signal.SIGTERM)
        super().request_stop(signum, frame)

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for the next job; while Redis refuses to write, wait for that: rq's own worker would end."""
        last_logged = ""
        while True:
            try:
                taken: tuple[Job, Queue] | None = super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
            except ResponseError as error:
                if str(error) != last_logged:
                    log.warning("Redis refuses to write: %s", error)
                last_logged = str(error)
                time.sleep(REFUSED_S)
            else:
                return taken

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:  # noqa: FBT001, FBT002
        """Prepare a job in its work horse; it was taken by way of the intermediate queue (see ReadyQueue)."""
        super().prepare_job_execution(job, remove_from_intermediate_queue=True)

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        """Return the seconds of a job's lease; rq's own are a minute more than the time between two looks."""
        return LEASE_S

    def clean_registries(self) -> None:
        """Forget workers that are gone, and what was kept for its time.

        Jobs of workers that died are the scheduler's Reaper's: rq would tell them by the clock of this host.
        """
        for queue in self.queues:
            clean_worker_registry(queue)
            FinishedJobRegistry(queue=queue).cleanup()
            FailedJobRegistry(queue=queue).cleanup()
        self.last_cleaned_at = now()

    def setup_work_horse_signals(self) -> None:
        """Make the work horse receive SIGTERM when its worker dies, so that it does not run on unsupervised."""
        super().setup_work_horse_signals()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class NotifyWorker(Worker):
    """Delivers alerts, also while the workers are paused: a pause stops the collecting of data."""

    def check_for_suspension(self, burst: bool) -> None:  # noqa: FBT001 - rq's signature
        """Go on."""


def run(services: Services, kind: str = "worker") -> None:
    """Work until SIGTERM for the queues of a kind of worker: `live`, `notify`, `archive`, `research`, or the others."""
    enabled = [exchange.name for exchange in registry.select_enabled(services.settings)]
    special = {LIVE: (LIVE, UPKEEP), NOTIFY: (NOTIFY,), ARCHIVES: (ARCHIVES,), RESEARCH: (RESEARCH,)}
    names = special.get(kind, list_exchange_queues(*enabled))
    for module in JOBS_OF.get(kind, HISTORY_JOBS):
        import_module(f"fademoe.jobs.{module}")
    use_services(services)
    services.prepare()
    queue_class = Queue if kind == NOTIFY else make_queue_class(services.egress_names)
    worker = (NotifyWorker if kind == NOTIFY else Worker)(
        [queue_class(name, connection=services.redis, serializer=JSONSerializer) for name in names],
        connection=services.redis,
        serializer=JSONSerializer,
        queue_class=queue_class,
        name=f"{kind}.{socket.gethostname()}.{os.getpid()}",
        job_monitoring_interval=MONITOR_S,
        worker_ttl=WORKER_TTL_S,
    )
    worker.log.propagate = True
    gc.collect()
    gc.freeze()  # a work horse's collector would touch, and so copy, all that it shares with its worker
    gc.set_threshold(*GC_THRESHOLDS)
    worker.work(with_scheduler=False, logging_level="WARNING")
    services.close()
