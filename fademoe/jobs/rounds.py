"""The requests of one round, for many contracts, several at once: until all are answered or something ends it."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Generic, TypeVar

from fademoe.clock import monotonic_s
from fademoe.errors import BadPayload, BudgetSpent, RetryLater, SourceError
from fademoe.jobs.feed_client import REQUESTED_POLL_S, TimeUp, has_requested_work, send_blocking
from fademoe.jobs.threads import run_in_threads
from fademoe.metrics import Row
from fademoe.queue.ids import LIVE
from fademoe.runtime.services import Services
from fademoe.signals import Stopped
from fademoe.store.coverage import Series

Task = TypeVar("Task")
Answer = tuple[list[tuple[Series, Row]], list[BadPayload]]  # of one request: rows, an error for each unreadable element


@dataclass(kw_only=True)
class Round:
    """What a round gave: rows, errors to record, how many tasks were answered or failed, and its error.

    `errors`: of unreadable elements, and answers whose tasks were not asked again before the round ended. `requested`
    counts from the first task on, up to one that is still to be asked: there the next round goes on. `failed`: what
    ended the round early, else the first task's error.
    """

    rows: list[tuple[Series, Row]] = field(default_factory=list)
    errors: list[SourceError] = field(default_factory=list)
    requested: int = 0
    failed: SourceError | Stopped | None = None


def request_all(
    services: Services,
    tasks: Sequence[Task],
    request: Callable[[Task, float], Answer],
    *,
    queue: str,
    threads: int,
    run_s: float,
    max_wait_s: float,
) -> Round:
    """Request the tasks for a job of a queue; `request` takes the longest wait for the budget, up to `max_wait_s`.

    The round ends when all are answered, `run_s` are over, the exchange cannot be asked, its units are others' and
    others have work, or requested work is ready (live work gives way to nothing). An error about one task costs the
    others nothing; a task whose answer asks for a pause is asked once more, after all others.
    """
    board = _Board(tasks, deadline_s=monotonic_s() + run_s)

    def work() -> None:
        while (taken := board.take(lambda: queue != LIVE and has_requested_work(services))) is not None:
            number, task = taken
            try:
                answer = send_blocking(services, queue, partial(request, task), max_wait_s)
            except (BudgetSpent, TimeUp, Stopped) as error:
                board.end(error)
            except SourceError as error:
                board.enter(number, error)  # about this task, the next one may be fine
            else:
                board.enter(number, answer)

    try:
        for future in run_in_threads(services.stop, [work] * min(threads, len(tasks)), threads):
            future.result()
    except Stopped as stopped:
        board.end(stopped)
    return board.sum_up()


class _Board(Generic[Task]):
    """The tasks of a round and what came of them; several threads take and enter."""

    def __init__(self, tasks: Sequence[Task], *, deadline_s: float) -> None:
        """Hand out tasks until `deadline_s` of the monotonic clock."""
        self._tasks = tasks
        self._waiting = deque(range(len(tasks)))
        self._answers: dict[int, Answer | SourceError] = {}
        self._postponed: dict[int, RetryLater] = {}
        self._ended: SourceError | Stopped | None = None
        self._deadline_s = deadline_s
        self._next_poll_s = 0.0
        self._lock = threading.Lock()

    def take(self, must_give_way: Callable[[], bool]) -> tuple[int, Task] | None:
        """Return the next task with its number, None at the end of the round.

        `must_give_way` is asked every REQUESTED_POLL_S, but not before the first task.
        """
        with self._lock:
            now_s = monotonic_s()
            if self._ended is not None or not self._waiting or now_s >= self._deadline_s:
                return None
            is_first = len(self._waiting) == len(self._tasks)
            if not is_first and now_s >= self._next_poll_s:
                self._next_poll_s = now_s + REQUESTED_POLL_S
                if must_give_way():
                    self._ended = TimeUp("requested work goes first", retry_after_s=0)
                    return None
            number = self._waiting.popleft()
            return number, self._tasks[number]

    def enter(self, number: int, answer: Answer | SourceError) -> None:
        """Enter what came of a task; one that is to be asked later waits behind all others, once."""
        with self._lock:
            if isinstance(answer, RetryLater) and number not in self._postponed:
                self._postponed[number] = answer
                self._waiting.append(number)
            else:
                self._answers[number] = answer

    def end(self, error: SourceError | Stopped) -> None:
        """End the round: no task is handed out any more. The first error counts."""
        with self._lock:
            self._ended = self._ended or error

    def sum_up(self) -> Round:
        """Return what the round gave so far."""
        with self._lock:
            left = [error for number, error in self._postponed.items() if number not in self._answers]
            outcome = Round(failed=self._ended, errors=[error for error in left if error.http_status is not None])
            while outcome.requested in self._answers:
                outcome.requested += 1
            for _, answer in sorted(self._answers.items(), key=itemgetter(0)):
                if isinstance(answer, SourceError):
                    outcome.failed = outcome.failed or answer
                else:
                    outcome.rows += answer[0]
                    outcome.errors += answer[1]
            return outcome
