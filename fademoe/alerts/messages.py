"""What is sent: the body of Alertmanager's webhook, version 4, with a part of our own; its signature; plain text."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from fademoe.alerts.ids import make_fingerprint, make_transition_id
from fademoe.alerts.state_machine import State
from fademoe.clock import MINUTE_MS, SECOND_MS, to_iso

NEVER = "0001-01-01T00:00:00Z"  # Alertmanager's end of an alert that fires
SENT_STATES = (State.FIRING, State.RESOLVED, State.UNKNOWN, State.KNOWN)
FIRST_STATES = (State.FIRING, State.UNKNOWN)  # what begins; the others end it
SECRET_PREFIX = "whsec_"


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One transition as it is stored. Times are ms; `since` is the minute of what it ends, None for what begins."""

    id: str
    rule: str
    version: str
    code: str
    symbol: str
    minute: int
    state: str
    since: int | None = None
    reason: str = ""
    severity: str = "warning"
    message: str = ""
    values: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def begin_id(self) -> str | None:
        """The id of the transition that it ends, None where no message told of one."""
        begun = {State.RESOLVED: State.FIRING, State.KNOWN: State.UNKNOWN}.get(State(self.state))
        if begun is None or self.since is None:
            return None
        return make_transition_id(self.rule, self.version, self.code, self.symbol, self.since, str(begun))

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its alert; unknown and known are one of their own."""
        labels = {"alertname": self.rule, "code": self.code, "symbol": self.symbol, "severity": self.severity}
        return labels | ({"state": "unknown"} if self.state in (State.UNKNOWN, State.KNOWN) else {})

    @property
    def status(self) -> str:
        """Alertmanager's word: `firing` for what begins, `resolved` for what ends."""
        return "firing" if self.state in FIRST_STATES else "resolved"


def make_body(channel: str, transitions: Sequence[Transition], web_url: str) -> bytes:
    """Return the body of one message: the transitions of one rule in one minute, at least one.

    `web_url`: address of FadeMoe's pages without a slash at the end.
    """
    first = transitions[0]
    alerts = [_describe_alert(transition, web_url) for transition in transitions]
    is_firing = any(alert["status"] == "firing" for alert in alerts)
    group_labels = {"alertname": first.rule}
    body = {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{first.rule}"}}',
        "truncatedAlerts": 0,
        "status": "firing" if is_firing else "resolved",
        "receiver": channel,
        "groupLabels": group_labels,
        "commonLabels": _find_common([transition.labels for transition in transitions]),
        "commonAnnotations": _find_common([{"message": transition.message} for transition in transitions]),
        "externalURL": web_url,
        "alerts": alerts,
        "fademoe": {
            "minute": first.minute,
            "values": dict(first.values),
            "transitions": [
                {
                    "id": transition.id,
                    "rule": transition.rule,
                    "version": transition.version,
                    "code": transition.code,
                    "symbol": transition.symbol,
                    "state": transition.state,
                    "reason": transition.reason,
                    "values": dict(transition.values),
                }
                for transition in transitions
            ],
        },
    }
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def make_headers(webhook_id: str, now_ms: int, body: bytes, secret: str) -> dict[str, str]:
    """Return the headers of Standard Webhooks; without a secret the message is not signed."""
    timestamp = str(now_ms // SECOND_MS)
    headers = {"webhook-id": webhook_id, "webhook-timestamp": timestamp, "Content-Type": "application/json"}
    if secret:
        headers["webhook-signature"] = sign(webhook_id, timestamp, body, secret)
    return headers


def sign(webhook_id: str, timestamp: str, body: bytes, secret: str) -> str:
    """Return `v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body`.

    A secret `whsec_…` is base64 behind the prefix, any other is its UTF-8 bytes.
    """
    signed = b".".join((webhook_id.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(decode_secret(secret), signed, hashlib.sha256)).decode()


def decode_secret(secret: str) -> bytes:
    """Return the key of a secret; raise ValueError when what follows `whsec_` is not base64."""
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    try:
        text = secret.removeprefix(SECRET_PREFIX)
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("the secret begins with whsec_, but what follows is not base64") from error


def make_title(transitions: Sequence[Transition]) -> str:
    """Return a line for channels that show text: `FIRING oi-surge: BTC bin, ETH byb`."""
    first = transitions[0]
    states = sorted({transition.state for transition in transitions})
    where = ", ".join(f"{one.symbol} {one.code}".strip() for one in transitions[:5])
    more = f" and {len(transitions) - 5} more" if len(transitions) > 5 else ""
    return f"{'/'.join(states).upper()} {first.rule}: {where}{more}"


def make_text(transitions: Sequence[Transition]) -> str:
    """Return the text of a message, a line for each transition."""
    return "\n".join(
        f"{transition.state}: {transition.message or make_title([transition])}"
        f" ({to_iso(transition.minute + MINUTE_MS)})"
        for transition in transitions
    )


def _describe_alert(transition: Transition, web_url: str) -> dict[str, object]:
    is_first = transition.state in FIRST_STATES
    begin = transition.minute if is_first or transition.since is None else transition.since
    query = {"rule": transition.rule, "code": transition.code, "symbol": transition.symbol}
    return {
        "status": transition.status,
        "labels": transition.labels,
        "annotations": {"message": transition.message},
        "startsAt": to_iso(begin + MINUTE_MS),
        "endsAt": NEVER if is_first else to_iso(transition.minute + MINUTE_MS),
        "generatorURL": f"{web_url}/alerts?{urlencode({name: value for name, value in query.items() if value})}",
        "fingerprint": make_fingerprint(transition.labels),
    }


def _find_common(tables: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first, *others = tables
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
