"""What an exchange has to do at which time of its clock."""

import asyncio
import heapq
import itertools
from collections.abc import Callable

from fademoe.clock import to_host_s
from fademoe.simulator.clock import Clock

Action = Callable[[int], None]
_LONGEST_SLEEP_S = 0.5
_SLOT_S = 0.02  # actions that fall into one slot share a wake-up, so that their frames share a write


class Timeline:
    """Actions in time order, run by one task; an action gets the exchange's time and may add further ones."""

    def __init__(self, clock: Clock) -> None:
        """Follow `clock`."""
        self._clock = clock
        self._heap: list[tuple[int, int, Action]] = []
        self._numbers = itertools.count()
        self._earlier = asyncio.Event()

    def schedule(self, due_ms: int, action: Action) -> None:
        """Run `action` once the exchange's clock shows `due_ms`."""
        entry = (due_ms, next(self._numbers), action)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._earlier.set()

    def clear(self) -> None:
        """Forget all actions."""
        self._heap.clear()

    def run_due(self, now_ms: int) -> int | None:
        """Run the actions that are due at `now_ms`; return when the next one is, None while there is none."""
        while self._heap and self._heap[0][0] <= now_ms:
            heapq.heappop(self._heap)[2](now_ms)
        return self._heap[0][0] if self._heap else None

    async def run(self) -> None:
        """Run the actions as they fall due, until cancelled."""
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
