"""Faults: what goes wrong at an exchange on request of the control plane, and for how long.

Each kind is declared once, with its effect. `fademoe simulator --help` and docs/simulator.md show these texts.
"""

import itertools
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields

from fademoe.simulator.clock import Clock

# In place of the answer to a REST request.
BEFORE_ANSWER = {
    "down": "connections are reset, open sockets too, and new ones are refused",
    "reset": "the connection is reset without an answer",
    "reset_reused": "the connection is reset without an answer when it has served a request before",
    "stall": "the answer comes after `seconds`",
    "html_200": "status 200 with an HTML page about maintenance",
    "html_400": "status 400 with an HTML page",
    "html_403": "status 403 with an HTML page of a CDN",
    "html_404": "status 404 with an HTML page",
    "html_405": "status 405 with an HTML page",
    "html_502": "status 502 with an HTML page of a proxy",
    "empty_200": "status 200 with an empty body",
    "empty_202": "status 202 with an empty body",
    "string_200": "status 200 with a JSON string",
    "object_200": "status 200 with a JSON object of a gateway",
    "trickle_200": "status 200 with a body that comes a byte a second, without end",
    "odd_time": "the exchange's time is a day ahead (of the endpoint that tells it)",
    "garbled_200": "status 200 with a body that is said to be gzip and is not",
    "redirect_302": "status 302 to `location`",
    "error_503": "status 503 with the exchange's own body",
    "rate_limited": "the exchange's refusal above a rate limit, with the header `retry_after`",
    "banned": "the exchange's refusal of a banned address",
    "restricted": "the exchange's refusal in a blocked region",
    "other_symbol": "the rows of another contract",
}
# In an answer: its list of rows or of contracts.
LISTS = {
    "empty_list": "the list is empty",
    "half_list": "the second half of the list is missing",
    "lost_contract": "the element in the middle of the list is missing, as if it were between two pages",
    "odd_contract": "all texts of the first contract but its names are null",
    "doubled_contract": "the first contract comes twice, with another listing",
    "unknown_type": "the second half of the contracts has a type that no client knows",
    "sibling": "beside each contract on a thousand coins is a contract on another coin with the coin's name",
}
# In an answer: the row in the middle of the page.
ROWS = {
    "nan": "its first value is NaN",
    "blank": 'its first value is ""',
    "null": "its first value is null",
    "null_row": "the row itself is null",
    "exponent": "its first value is written with an exponent: 5E-7",
    "negative_volume": "its volume, or its only value, is negative",
    "low_above_open": "its low is above its open (candles only)",
    "missing_field": "the second half of its values is missing, or its first value when it is an object",
    "tomorrow": "its times are a day ahead",
    "duplicate_row": "the row comes twice, with different volumes (or first values)",
}
AFTER_ANSWER = {
    **LISTS,
    **ROWS,
    "late_rows": "rows younger than `seconds` are not there yet",
    "lost_edges": "the first and the last row of a page are missing, unless it has less than three",
    "cut_gzip": "the body is packed, and breaks off in the middle of a well-formed message",
    "seconds": "all times are in seconds instead of milliseconds",
    "truncated": "the last third of the body is missing",
    "error_200": "an error with status 200",
}
# On sockets; `path` is the prefix of a topic there.
ON_STREAM = {
    "lost_close": "a closed candle is not sent",
    "duplicate_close": "a closed candle is sent twice, a second apart",
    "changed_close": "a closed candle is sent with a wrong close, and a second later with the right one",
    "late_bars": "a closed candle is sent `seconds` late",
    "doubled_frames": "a message of a topic is sent twice",
    "swapped_frames": "a message of a topic is sent behind the one that follows it, or two seconds late",
    "silent_sockets": "sockets stay open and send nothing, acks included",
    "silent_topics": "topics are acknowledged and send nothing",
    "unnamed_refusal": "a request with such a topic is refused as a whole, without the name of the topic",
    "lost_ack": "a request with such a topic is executed and not acknowledged",
    "control_frames": "at once and once: every socket gets the frames about the service and the connection",
    "drop_sockets": "at once and once: every socket is cut without a close frame",
}
# In a file of an archive; `path` is the begin of its path. The file stays so while the fault is in force.
IN_FILE = {
    "lost_file": "the file is not there",
    "lost_checksum": "its checksum is not there",
    "wrong_checksum": "its checksum is that of another file",
    "cut_zip": "the last third of the zip is missing",
    "bad_crc": "the checksum inside the zip is wrong",
    "two_members": "the zip holds a second member",
    "html_file": "it is an HTML page",
    "short_month": "the last two days of a month are missing in the month's file",
    "doubled_rows": "each line comes twice",
    "conflicting_rows": "a line comes twice, with different values",
    "unsorted_rows": "the second half of the lines comes first",
    "late_stamps": "some lines of metrics are stamped one to five seconds late",
    "midnight_row": "a day of metrics holds the first line of the next day, too",
    "blank_cells": "some cells of metrics are blank",
    "zero_rows": "some lines of metrics have an open interest of 0",
    "short_day": "the last line of a day of metrics is missing",
    "old_form": "a day of metrics runs from 00:05 to midnight of the next day, each line at the time of its sample",
    "mixed_label": "the first half of a day of metrics is labelled otherwise than the second",
    "few_values": "nearly all values of the open interest are blank, so that the label cannot be told",
}
KINDS = {**BEFORE_ANSWER, **AFTER_ANSWER, **ON_STREAM, **IN_FILE}


@dataclass(kw_only=True)
class Fault:
    """A fault: what goes wrong, where, how often and for how long."""

    kind: str  # one of KINDS
    exchange: str | None = None  # None: every exchange
    path: str = ""  # prefix of the REST path, or of the topic
    symbol: str | None = None  # the exchange's name of a contract; None: every contract
    count: int | None = None  # number of hits after which it ends; None: no limit
    duration_s: float | None = None  # host seconds after which it ends; None: no limit
    probability: float = 1.0  # share of the matching requests or messages that it hits
    seconds: float = 5.0  # delay of stall and late_bars
    retry_after: str | None = None  # header Retry-After of a refusal
    location: str = "https://example.com/maintenance"  # header Location of a redirect
    id: int = 0
    hits: int = 0
    until_ms: int | None = field(default=None, repr=False)

    def report(self) -> dict[str, object]:
        """Return the fault as JSON values."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


class Faults:
    """The active faults. Without faults, a check costs one test of an empty list."""

    def __init__(self, seed: int) -> None:
        """Start without faults; `seed` seeds the random numbers of faults with a probability."""
        self.active: list[Fault] = []
        self._ids = itertools.count(1)
        self._dice = random.Random(seed)

    def add(self, request: Mapping[str, object]) -> Fault:
        """Activate a fault given as a JSON object and return it; ValueError when a member is unknown or invalid."""
        members = {item.name for item in fields(Fault)} - {"id", "hits", "until_ms"}
        unknown = set(request) - members
        if unknown:
            raise ValueError(f"unknown members {', '.join(sorted(unknown))}: allowed: {', '.join(sorted(members))}")
        if request.get("kind") not in KINDS:
            raise ValueError(f"unknown kind {request.get('kind')!r}: allowed: {', '.join(KINDS)}")
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
        """End the fault with this id, or all (None); return how many ended."""
        kept = [fault for fault in self.active if fault_id is not None and fault.id != fault_id]
        ended = len(self.active) - len(kept)
        self.active = kept
        return ended

    def pick(self, exchange: str, kinds: Collection[str], *, path: str = "", symbol: str | None = None) -> Fault | None:
        """Return the first active fault that matches and count the hit; None when none matches.

        A fault whose count is used up ends. `path` is the REST path or the topic.
        """
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
        """Tell whether a fault of this kind is active, without counting a hit."""
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
