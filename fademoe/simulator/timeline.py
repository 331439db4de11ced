"""A schedule of actions by the exchange's clock."""

import asyncio
import heapq
import itertools
from collections.abc import Callable

from fademoe.clock import to_host_s
from fademoe.simulator.clock import Clock

Action = Callable[[int], None]
_LONGEST_SLEEP_S = 0.5
_SLOT_S = 0.02  # actions within one slot share a wake-up, so that their frames share a write


class Timeline:
    """Actions in time order, run by one task. An action is called with the exchange's time and may schedule more."""

    def __init__(self, clock: Clock) -> None:
        """Start empty, on `clock`."""
        self._clock = clock
        self._heap: list[tuple[int, int, Action]] = []
        self._numbers = itertools.count()
        self._earlier = asyncio.Event()

    def schedule(self, due_ms: int, action: Action) -> None:
        """Run `action` when the exchange's clock reaches `due_ms`."""
        entry = (due_ms, next(self._numbers), action)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._earlier.set()

    def clear(self) -> None:
        """Remove all actions."""
        self._heap.clear()

    def run_due(self, now_ms: int) -> int | None:
        """Run the actions due at `now_ms`; return when the next action is due, None without actions."""
        while self._heap and self._heap[0][0] <= now_ms:
            heapq.heappop(self._heap)[2](now_ms)
        return self._heap[0][0] if self._heap else None

    async def run(self) -> None:
        """Run the actions when they are due, until cancelled."""
        while True:
            self._earlier.clear()
            next_ms = self.run_due(self._clock.now_ms())
            wait_s = _LONGEST_SLEEP_S if next_ms is None else (next_ms - self._clock.now_ms()) / 1000
            if to_host_s(wait_s) > _SLOT_S:
                try:
                    await asyncio.wait_for(self._earlier.wait(), min(to_host_s(wait_s), _LONGEST_SLEEP_S))
                except TimeoutError:
                    continue
            else:
                await asyncio.sleep(_SLOT_S)
