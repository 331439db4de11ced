"""Coinalyze's limit per key, 40 calls in any 60 seconds where every symbol is a call, and its refusals."""

import argparse
from collections.abc import Mapping

import orjson

from fademoe.simulator.clock import MINUTE_MS
from fademoe.simulator.decimals import to_fixed
from fademoe.simulator.exchange import Call, Reply
from fademoe.simulator.limits import SlidingWindow


class CoinalyzeRefusal(Exception):
    """A response other than 200. The messages are made up: the real ones are unknown."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Build the reply of this refusal."""
        super().__init__(message)
        self.reply = Reply(orjson.dumps({"message": message}), status, headers or {})


class CoinalyzeLimits:
    """The calls of every key."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Start without calls; with --no-limits calls are counted and never refused."""
        self._options = options
        self._windows: dict[str, SlidingWindow] = {}

    def read_key(self, call: Call) -> str:
        """Return the key of a request, from the header or the query; raise CoinalyzeRefusal (401) for a wrong one."""
        key = call.headers.get("api_key") or call.query.get("api_key") or ""
        if not key or (self._options.coinalyze_key is not None and key != self._options.coinalyze_key):
            raise CoinalyzeRefusal(401, "invalid or missing api key")
        return key

    def take(self, key: str, cost: int, now_ms: int) -> None:
        """Count `cost` calls; raise CoinalyzeRefusal (429), without counting them, when they exceed the limit."""
        window = self._windows.setdefault(key, SlidingWindow(self._options.coinalyze_limit, MINUTE_MS))
        if not window.take(cost, now_ms) and self._options.limits:
            raise self.refuse(429, "too many requests", wait_ms=window.find_wait_ms(now_ms))

    def refuse(self, status: int, message: str, *, wait_ms: int) -> CoinalyzeRefusal:
        """Return a refusal; a 429 has Retry-After in seconds, with a fraction unless --coinalyze-whole-waits."""
        seconds = str(-(-wait_ms // 1000)) if self._options.coinalyze_whole_waits else to_fixed(wait_ms, 3)
        return CoinalyzeRefusal(status, message, {"Retry-After": seconds} if status == 429 else {})

    def report(self, now_ms: int) -> dict[str, object]:
        """Return the calls of the last minute of each key, numbered in order of first use; no key is shown."""
        return {f"key {number}": window.count_used(now_ms) for number, window in enumerate(self._windows.values(), 1)}
