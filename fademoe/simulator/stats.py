"""Counts of requests, responses, faults and sockets of an exchange, for /sim/stats."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Stats:
    """Counts since the start or the last reset."""

    requests: int = 0
    paths: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)  # by HTTP status, or by the exchange's code with status 200
    faults: Counter[str] = field(default_factory=Counter)  # by kind
    sockets_opened: int = 0
    sockets_closed: int = 0
    messages_received: int = 0

    def count_answer(self, path: str, status: int) -> None:
        """Count a REST response; a status of 400 or more is a refusal."""
        self.requests += 1
        self.paths[path] += 1
        self.statuses[status] += 1
        if status >= 400:
            self.refusals[str(status)] += 1

    def report(self) -> dict[str, object]:
        """Return the counts as JSON values."""
        return {
            "requests": self.requests,
            "paths": dict(self.paths),
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "refusals": dict(self.refusals),
            "faults": dict(self.faults),
            "sockets_opened": self.sockets_opened,
            "sockets_closed": self.sockets_closed,
            "messages_received": self.messages_received,
        }
