"""Rate limits: fixed windows of the UTC clock, sliding windows, and bans for clients that continue after refusals."""

from collections import deque

KEPT_WINDOWS = 30


class FixedWindow:
    """A budget that resets with every window of the UTC clock, as Binance's weight per minute does."""

    def __init__(self, capacity: int, window_ms: int) -> None:
        """Allow `capacity` units in each window of `window_ms`."""
        self.capacity = capacity
        self._window_ms = window_ms
        self._start_ms = 0
        self._used = 0
        self._finished: deque[tuple[int, int]] = deque(maxlen=KEPT_WINDOWS)

    def take(self, cost: int, now_ms: int) -> int:
        """Count `cost` and return the units used in this window; more than `capacity` means refuse."""
        start_ms = now_ms - now_ms % self._window_ms
        if start_ms != self._start_ms:
            if self._start_ms:
                self._finished.append((self._start_ms, self._used))
            self._start_ms, self._used = start_ms, 0
        self._used += cost
        return self._used

    def is_over(self) -> bool:
        """Tell whether the last `take` exceeded the budget."""
        return self._used > self.capacity

    def find_wait_ms(self, now_ms: int) -> int:
        """Return the ms until the current window ends."""
        return self._window_ms - now_ms % self._window_ms

    def list_finished(self, now_ms: int) -> list[dict[str, int]]:
        """Return start and used units of the last finished windows, oldest first."""
        self.take(0, now_ms)
        return [{"start_ms": start_ms, "used": used} for start_ms, used in self._finished]


class SlidingWindow:
    """A budget over the last `period_ms` at any instant; refused requests do not count."""

    def __init__(self, capacity: int, period_ms: int) -> None:
        """Allow `capacity` units in any `period_ms`."""
        self.capacity = capacity
        self._period_ms = period_ms
        self._taken: deque[tuple[int, int]] = deque()
        self._used = 0

    def take(self, cost: int, now_ms: int) -> bool:
        """Count `cost` if it fits; return whether it did."""
        if self.count_used(now_ms) + cost > self.capacity:
            return False
        self._taken.append((now_ms, cost))
        self._used += cost
        return True

    def count_used(self, now_ms: int) -> int:
        """Return the units used within the period; what was used before the clock was set back counts as used now."""
        if self._taken and self._taken[-1][0] > now_ms:
            self._taken = deque((min(at_ms, now_ms), cost) for at_ms, cost in self._taken)
        while self._taken and self._taken[0][0] <= now_ms - self._period_ms:
            self._used -= self._taken.popleft()[1]
        return self._used

    def find_wait_ms(self, now_ms: int) -> int:
        """Return the ms until the oldest units leave the window."""
        return max(0, self._taken[0][0] + self._period_ms - now_ms) if self._taken else 0


class Ban:
    """Ban an address that continues after refusals; each further ban lasts twice as long."""

    def __init__(self, strikes: int, first_ms: int, longest_ms: int, memory_ms: int) -> None:
        """Ban for `first_ms` at the refusal number `strikes` within `memory_ms`."""
        self._strikes = strikes
        self._length_ms = first_ms
        self._longest_ms = longest_ms
        self._memory_ms = memory_ms
        self._refusals: deque[int] = deque(maxlen=strikes)
        self._until_ms = 0

    def find_end_ms(self, now_ms: int) -> int:
        """Return when the current ban ends, 0 when there is none."""
        return self._until_ms if now_ms < self._until_ms else 0

    def count_refusal(self, now_ms: int) -> int:
        """Count a refusal; return the end of the ban that it causes, 0 when it causes none."""
        self._refusals.append(now_ms)
        if len(self._refusals) < self._strikes or now_ms - self._refusals[0] > self._memory_ms:
            return 0
        self._refusals.clear()
        self._until_ms = now_ms + self._length_ms
        self._length_ms = min(2 * self._length_ms, self._longest_ms)
        return self._until_ms
