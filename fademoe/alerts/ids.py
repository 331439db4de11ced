"""Identifiers that are made of what they name, so that the same thing made twice has the same one."""

import hashlib
import json
from collections.abc import Iterable, Mapping


def make_rule_version(content: Mapping[str, object]) -> str:
    """Return the first 12 hex digits of the SHA-256 of canonical JSON: sorted keys, no blanks."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def make_transition_id(rule: str, version: str, code: str, symbol: str, minute: int, state: str) -> str:
    """Return the id of a transition, 32 hex digits."""
    return _digest(rule, version, code, symbol, str(minute), state)


def make_webhook_id(channel: str, transitions: Iterable[str]) -> str:
    """Return the `webhook-id` of a message: of the channel and the ids of all its transitions, in any order."""
    return f"msg_{_digest(channel, *sorted(transitions))}"


def make_fingerprint(labels: Mapping[str, str]) -> str:
    """Return 16 hex digits, the same for the same labels."""
    return _digest(*(part for name in sorted(labels) for part in (name, labels[name])))[:16]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
