"""Coroutines in tests: in a thread of their own, because Playwright keeps a loop running in the main one."""

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio


def run_async(function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """Run an asynchronous function to its end and return what it returns."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(anyio.run, function, *arguments).result()
