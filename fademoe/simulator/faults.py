"""Faults on request: what goes wrong at an exchange, told over the control plane."""

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from fademoe.simulator.clock import Clock

BEFORE_ANSWER = (
    "down",
    "reset",
    "html_200",
    "html_502",
    "html_403",
    "html_400",
    "html_404",
    "html_405",
    "empty_200",
    "empty_202",
    "string_200",
    "garbled_200",  # said to be gzip
    "redirect_302",
    "error_503",
    "rate_limited",
    "banned",
    "restricted",
    "stall",
    "other_symbol",
)
LISTS = ("half_list", "sibling", "odd_contract")  # in lists of contracts
AFTER_ANSWER = (*LISTS, "truncated", "error_200", "nan", "negative_volume", "missing_field", "seconds", "empty_list")
ON_STREAM = (
    "lost_close",
    "duplicate_close",
    "changed_close",  # a closed bar comes with another close first, and a second later with the right one
    "late_bars",
    "silent_sockets",
    "silent_topics",  # topics that begin with `path` are acknowledged and send nothing
    "unnamed_refusal",  # a request with a topic that begins with `path` is void, and the refusal does not name it
    "lost_ack",  # a request with such a topic is carried out and not answered
    "control_frames",  # at once, every socket gets the frames that the exchange sends about itself
    "drop_sockets",
    "down",
)
KINDS = tuple(dict.fromkeys(BEFORE_ANSWER + AFTER_ANSWER + ON_STREAM))


@dataclass(kw_only=True)
class Fault:
    """One thing that goes wrong, until its count or its time is used up or it is cleared."""

    kind: str
    exchange: str | None = None  # None: every exchange
    path: str = ""  # prefix of the REST path, or of the topic
    symbol: str | None = None  # the exchange's own name of a contract; None: every one
    count: int | None = None  # how often; None: without end
    duration_s: float | None = None  # how long; None: without end
    probability: float = 1.0
    seconds: float = 5.0  # of a stall, or by how much bars are late
    retry_after: str | None = None  # header of a refusal that asks for a pause
    location: str = "https://example.com/maintenance"  # header of a redirect
    id: int = 0
    hits: int = 0
    until_ms: int | None = field(default=None, repr=False)

    def report(self) -> dict[str, object]:
        """Return the fault as JSON values."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


class Faults:
    """The faults in force. While there are none, asking costs one look at an empty list."""

    def __init__(self, seed: int) -> None:
        """Start without faults; `seed` decides the draws of faults with a probability."""
        self.active: list[Fault] = []
        self._ids = itertools.count(1)
        self._dice = random.Random(seed)

    def add(self, request: Mapping[str, object]) -> Fault:
        """Put a fault in force from its JSON object; ValueError when it is not a proper one."""
        known = {item.name for item in fields(Fault)} - {"id", "hits", "until_ms"}
        unknown = set(request) - known
        if unknown:
            raise ValueError(f"unknown members {', '.join(sorted(unknown))}: there are {', '.join(sorted(known))}")
        if request.get("kind") not in KINDS:
            raise ValueError(f"unknown kind {request.get('kind')!r}: there are {', '.join(KINDS)}")
        for name in ("count", "duration_s", "probability", "seconds"):
            if request.get(name) is not None and not isinstance(request[name], int | float):
                raise ValueError(f"{name} must be a number")
        fault = Fault(**request)  # type: ignore[arg-type]
        fault.id = next(self._ids)
        if fault.duration_s is not None:
            fault.until_ms = Clock.host_ms() + int(fault.duration_s * 1000)
        self.active.append(fault)
        return fault

    def clear(self, fault_id: int | None = None) -> int:
        """End one fault, or all of them, and return how many ended."""
        kept = [fault for fault in self.active if fault_id is not None and fault.id != fault_id]
        ended = len(self.active) - len(kept)
        self.active = kept
        return ended

    def pick(self, exchange: str, kinds: tuple[str, ...], *, path: str = "", symbol: str | None = None) -> Fault | None:
        """Return a fault that strikes now and count it, None when nothing goes wrong."""
        if not self.active:
            return None
        for fault in self.list_active():
            if fault.kind not in kinds or fault.exchange not in (None, exchange) or not path.startswith(fault.path):
                continue
            if fault.symbol not in (None, symbol) or self._dice.random() >= fault.probability:
                continue
            fault.hits += 1
            if fault.count is not None and fault.hits >= fault.count:
                self.active.remove(fault)
            return fault
        return None

    def is_in_force(self, kind: str, exchange: str, path: str = "") -> bool:
        """Tell whether a lasting fault is in force, without counting it."""
        return any(
            fault.kind == kind and fault.exchange in (None, exchange) and path.startswith(fault.path)
            for fault in self.list_active()
        )

    def list_active(self) -> list[Fault]:
        """Return the faults whose time is not over."""
        now_ms = Clock.host_ms()
        if any(fault.until_ms is not None and fault.until_ms <= now_ms for fault in self.active):
            self.active = [fault for fault in self.active if fault.until_ms is None or fault.until_ms > now_ms]
        return list(self.active)
