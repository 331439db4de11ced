"""The requests of one round, for many contracts, several at once: until all are answered or something ends it."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from fademoe.clock import monotonic_s
from fademoe.errors import BadPayload, BudgetSpent, RetryLater, SourceError
from fademoe.jobs.feed_client import REQUESTED_POLL_S, TimeUp, has_requested_work, send_patiently
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
    """What a round gave: rows, errors to record, how many tasks were answered or given up, and what failed.

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
    answers: dict[int, Answer | SourceError] = {}
    postponed: dict[int, RetryLater] = {}
    waiting, lock = deque(enumerate(tasks)), threading.Lock()
    ended: SourceError | Stopped | None = None
    deadline_s = monotonic_s() + run_s
    next_look_s = 0.0

    def take() -> tuple[int, Task] | None:
        nonlocal ended, next_look_s
        with lock:
            now_s = monotonic_s()
            is_first = len(waiting) == len(tasks)  # a round does at least one
            if waiting and queue != LIVE and now_s >= next_look_s and not is_first and ended is None:
                next_look_s = now_s + REQUESTED_POLL_S
                if has_requested_work(services):
                    ended = TimeUp("requested work goes first", retry_after_s=0)
            return waiting.popleft() if waiting and ended is None and now_s < deadline_s else None

    def work() -> None:
        nonlocal ended
        while (taken := take()) is not None:
            number, task = taken
            try:
                answer: Answer | SourceError = send_patiently(services, queue, partial(request, task), max_wait_s)
            except (BudgetSpent, TimeUp, Stopped) as error:
                ended = ended or error
                return
            except SourceError as error:
                answer = error  # about this task, the next one may be fine
            with lock:
                if isinstance(answer, RetryLater) and number not in postponed:
                    postponed[number] = answer
                    waiting.append(taken)
                else:
                    answers[number] = answer

    try:
        for future in run_in_threads(services.stop, [work] * min(threads, len(tasks)), threads):
            future.result()
    except Stopped as stopped:
        ended = stopped
    with lock:
        left = [error for number, error in postponed.items() if number not in answers]
        return _sum_up(dict(answers), left, ended)


def _sum_up(
    answers: Mapping[int, Answer | SourceError], left: Sequence[RetryLater], ended: SourceError | Stopped | None
) -> Round:
    outcome = Round(failed=ended, errors=[error for error in left if error.http_status is not None])
    while outcome.requested in answers:
        outcome.requested += 1
    for _, answer in sorted(answers.items(), key=lambda item: item[0]):
        if isinstance(answer, SourceError):
            outcome.failed = outcome.failed or answer
        else:
            outcome.rows += answer[0]
            outcome.errors += answer[1]
    return outcome
