"""The RQ worker as FadeMoe runs it: imports its jobs before it forks, ends within seconds of SIGTERM.

Its work horse takes more than one job, see horse.py: connections and what was read stay for the next one.
"""

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
import threading
import time
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Any

import psutil
from redis.exceptions import ResponseError
from rq import Queue
from rq.exceptions import NoSuchJobError, StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import RoundRobinWorker
from rq.worker_registration import clean_worker_registry

from fademoe.clock import monotonic_s
from fademoe.feeds import registry
from fademoe.queue.dequeue import make_queue_class
from fademoe.queue.ids import ARCHIVES, LIVE, NOTIFY, RESEARCH, UPKEEP, list_exchange_queues
from fademoe.queue.reaper import forget_lost_executions
from fademoe.queue.states import connect_queue
from fademoe.runtime.job_context import use_services
from fademoe.runtime.services import Services
from fademoe.signals import StopSignal
from fademoe.worker.horse import Channel, HandedOver, Horse

log = logging.getLogger(__name__)

# The rooms of jobs that each kind of worker imports before it forks, so that no work horse has to. Any worker can run
# any job; what it has not imported costs the work horse the import, and what it has imported costs memory and forks.
HISTORY_JOBS = ("audit", "backfill", "hours", "newest", "polls", "seed", "terms")
JOBS_OF = {
    LIVE: (*HISTORY_JOBS, "maintenance", "reconcile"),
    NOTIFY: ("notify",),
    ARCHIVES: ("archive", "dead"),
    RESEARCH: ("research",),
}
MONITOR_S = 5  # interval of checks of the work horse, each of which renews the job's lease
LEASE_S = 30  # a job whose lease was not renewed for so long is given to another worker
WORKER_TTL_S = 60
REFUSED_S = 5.0  # between two tries while Redis refuses to write, as on a full disk
PR_SET_PDEATHSIG = 1
HORSE_JOBS = 50  # then a new work horse is forked, so that what a job leaves in memory does not stay
HORSE_BYTES = 90_000_000  # it ends where it holds more after a job: one of files takes up to 60, and 150 are the most
HORSE_IDLE_S = 2.0  # then it ends, and its connections with it
THREAD_END_S = 0.1  # threads of a job that is done end meanwhile; a work horse with one that has not ends
# A page of candles is thousands of objects without cycles: at Python's own 700 the collector took a sixth of a job.
GC_THRESHOLDS = (100_000, 50, 100)


def read_memory_bytes() -> int:
    """Return the memory that this process holds now, with what it shares."""
    return int(psutil.Process().memory_info().rss)


def release_memory() -> None:
    """Give memory that is free in this process back to the system; glibc keeps tens of MB of what a job has freed."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Worker(RoundRobinWorker):
    """Takes the queues in turn, so that no exchange starves another."""

    stop: StopSignal  # of the work horse
    horse_jobs = 1  # that a work horse takes at most
    _horse: Horse | None = None
    _ends: tuple[socket.socket, socket.socket] | None = None  # of the channel to a new work horse: ours, its

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Hand the job over to the work horse of the job before, where it is still there; else fork one."""
        execution_id = next(iter(self.executions))
        if self._horse is not None and self._horse.hand_over(HandedOver(job.id, queue.name, execution_id)):
            self._horse_pid = self._horse.pid
            return
        self.end_horse()
        self._ends = socket.socketpair() if self.horse_jobs > 1 else None
        handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
        self.stop.install()  # a signal in this moment counts for both processes
        super().fork_work_horse(job, queue)  # the work horse does not come back from here
        with suppress(OSError):  # it does so itself, and may be further
            os.setpgid(self.horse_pid, self.horse_pid)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if self._ends is not None:
            ours, theirs = self._ends
            theirs.close()
            self._horse = Horse(ours, self.horse_pid)
        if self.stop.requested:
            self.request_stop(signal.SIGTERM, None)

    def wait_for_horse(self) -> Any:
        """Wait until the job is done or the work horse has ended; return its pid, exit status and use of resources."""
        if self._horse is not None and self._horse.wait_until_done():
            return self._horse.pid, os.EX_OK, None
        ended = super().wait_for_horse()
        self.end_horse()
        return ended

    def end_horse(self) -> None:
        """End the work horse, if there is one."""
        if self._horse is not None:
            self._horse.end()
            self._horse = None

    def look_after_itself(self) -> None:
        """While no job is ready: end a work horse that has had none for a while, and stop where that was requested.

        rq stops an idle worker by an exception of the signal's handler, which is lost where it meets a destructor.
        """
        if self._stop_requested:
            raise StopRequested
        if self._horse is not None and monotonic_s() - self._horse.idle_since_s > HORSE_IDLE_S:
            self.end_horse()

    def perform_job(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """Perform a job, in its work horse, and then those that the worker hands over."""
        is_done: bool = super().perform_job(job, queue, execution)
        if self._ends is None:
            return is_done
        ours, theirs = self._ends
        ours.close()
        channel = Channel(theirs)
        for _ in range(self.horse_jobs - 1):
            following = channel.report_and_take() if is_done and self._is_reusable() else None
            if following is None:
                break
            try:
                job = Job.fetch(following.job_id, connection=self.connection, serializer=self.serializer)
            except NoSuchJobError:  # Redis was flushed; the Reaper drops the execution
                continue
            queue = next(each for each in self.queues if each.name == following.queue)
            execution = Execution(following.execution_id, job.id, self.connection, self.name)
            self.executions = {execution.id: execution}
            is_done = super().perform_job(job, queue, execution)
        return is_done

    def _is_reusable(self) -> bool:
        """Return whether another job may follow: no stop is requested, and no thread and little memory is left."""
        if read_memory_bytes() > HORSE_BYTES:
            release_memory()
        if self.stop.requested or read_memory_bytes() > HORSE_BYTES:
            return False
        until_s = monotonic_s() + THREAD_END_S
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(max(0.0, until_s - monotonic_s()))
        return threading.active_count() == 1

    def teardown(self) -> None:
        """End the work horse, and what rq ends."""
        if not self.is_horse:
            self.end_horse()
        super().teardown()

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Pass SIGTERM on to the work horse, which stores what it has and gives its job back; then end."""
        if self.horse_pid:
            self.kill_horse(signal.SIGTERM)
        self._stop_requested = True
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

    def handle_execution_ended(self, job: Job, queue: Queue, heartbeat_ttl: int) -> None:
        """Note the end of a job, whose earlier executions may be lost."""
        super().handle_execution_ended(job, queue, heartbeat_ttl)
        forget_lost_executions(self.connection, job.id)

    def handle_work_horse_killed(self, job: Job, retpid: int | None, ret_val: int | None, rusage: Any) -> None:
        """Drop a job from the taken ones, where it is if the work horse died before it began; it is requeued."""
        super().handle_work_horse_killed(job, retpid, ret_val, rusage)
        connect_queue(self.connection, job.origin).intermediate_queue.remove(job.id)

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        """Return the seconds of a job's lease; rq's own are a minute more than the interval of checks."""
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
        """Receive SIGTERM when the worker dies, so that the work horse does not run on unsupervised.

        Signals request a stop already (see `fork_work_horse`), not as rq has it only from the job's begin on.
        """
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class NotifyWorker(Worker):
    """Delivers alerts, also while the workers are paused: a pause stops the collecting of data."""

    def check_for_suspension(self, burst: bool) -> None:  # noqa: FBT001 - rq's signature
        """Return at once: a paused system still delivers alerts."""


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
    worker.stop = services.stop
    if kind not in (NOTIFY, RESEARCH):  # these run what users wrote: nothing of it may stay
        worker.horse_jobs = HORSE_JOBS
    if kind != NOTIFY:
        queue_class.on_idle = worker.look_after_itself
    gc.collect()
    gc.freeze()  # a work horse's collector would touch, and so copy, all that it shares with its worker
    gc.set_threshold(*GC_THRESHOLDS)
    worker.work(with_scheduler=False, logging_level="WARNING")
    services.close()
