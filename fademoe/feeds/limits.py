"""The rate limits of an exchange."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A rate limit: `limit` units of cost in a window of `period_ms`, for one egress address (or one key).

    `aligned`: the windows lie side by side from the epoch on, as the minutes of the clock; otherwise the limit holds in
    every window of that length, wherever it begins. `jitter_ms`: for aligned windows by how much the exchange's clock
    may be off, so that requests near the turn count for both windows; for others how much longer than the period a
    unit is held after its answer. `used_header` names the answer's header with the exchange's own count of the running
    aligned window.
    """

    name: str
    limit: int
    period_ms: int
    jitter_ms: int
    aligned: bool = False
    used_header: str | None = None
    per_key: bool = False  # counted for the key, so that all egress addresses share it

    def __post_init__(self) -> None:
        """Refuse a table that contradicts itself."""
        if self.limit < 1 or not 0 <= self.jitter_ms * 2 < self.period_ms:
            raise ValueError(f"budget {self.name}: it needs a limit, and a jitter below half of its period")
        if self.used_header and not self.aligned:
            raise ValueError(f"budget {self.name}: only the count of an aligned window can be compared with ours")

    @property
    def span_ms(self) -> int:
        """The length of a window as we keep it, so that the limit holds in the exchange's."""
        return self.period_ms + self.jitter_ms * (2 if self.aligned else 1)


class Limited(Protocol):
    """A service with rate limits: an exchange's API, or its archive of files."""

    @property
    def name(self) -> str:
        """The name under which its limits are kept."""

    @property
    def budgets(self) -> Sequence[Budget]:
        """Its rate limits."""

    def get_budget(self, name: str) -> Budget:
        """Return the rate limit called `name`."""
