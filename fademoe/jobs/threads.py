"""Work in threads that a stop does not wait for."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from fademoe.signals import StopSignal

Result = TypeVar("Result")


def run_in_threads(stop: StopSignal, calls: Iterable[Callable[[], Result]], threads: int) -> list[Future[Result]]:
    """Make calls beside each other, in `threads` threads; return their futures, in order, when all are done.

    Raise Stopped as soon as a stop is requested: a thread that waits for an answer that hangs is left behind, and ends
    with its process.
    """
    pool = ThreadPoolExecutor(threads)
    try:
        with stop.allow_interrupt():
            futures = [pool.submit(call) for call in calls]
            wait(futures)
        return futures
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
