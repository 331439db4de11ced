"""What Binance's answers mean: the HTTP status, and the code of a {"code", "msg"} object, even inside a 200."""

import re
from collections.abc import Mapping

from fademoe.clock import SECOND_MS
from fademoe.feeds.answers import (
    NOT_THE_API,
    SERVER_ERROR,
    UNEXPECTED,
    UNKNOWN_CONTRACT,
    Answer,
    Reaction,
    Refusal,
    close_budget,
    close_exchange,
    evaluate,
)
from fademoe.feeds.values import read_retry_after_s

BAN_S = 120.0  # the shortest ban
FIREWALL_S = 300.0
REGION_S = 3600.0
OBJECTS = frozenset({"symbols", "serverTime", "openInterest"})  # one of these members is in each answer that is no list
BANNED_UNTIL = re.compile(r"banned until (\d{13})")


def read_ban_s(answer: Answer) -> float:
    """Return the seconds until a ban ends: by Retry-After or the time in the text, the later; at least two minutes."""
    named = BANNED_UNTIL.search(answer.text)
    named_s = (int(named[1]) - answer.now_ms) / SECOND_MS + 1 if named else 0.0
    return max(BAN_S, named_s, read_retry_after_s(answer.headers) or 0.0)


RATE_LIMITED = close_budget(wait_s=lambda answer: read_retry_after_s(answer.headers))
BANNED = close_exchange("banned", wait_s=read_ban_s)

ERRORS: Mapping[int | str, Reaction] = {
    -1000: SERVER_ERROR,  # an unknown error occurred while processing the request
    -1001: SERVER_ERROR,  # disconnected, internal error
    -1003: RATE_LIMITED,  # too many requests
    -1007: SERVER_ERROR,  # timeout waiting for the backend
    -1008: SERVER_ERROR,  # server overloaded
    -1016: SERVER_ERROR,  # service shutting down
    -1121: UNKNOWN_CONTRACT,  # invalid symbol
}
STATUSES = {
    403: close_exchange("blocked by the firewall", wait_s=FIREWALL_S),
    418: BANNED,
    429: RATE_LIMITED,
    451: close_exchange("blocked in this region", wait_s=REGION_S),
}


def judge(answer: Answer) -> Refusal | None:
    """Return what an answer means; None: it holds data."""
    code, message = _error(answer)
    if answer.status == 418 or (code == -1003 and "banned" in message):
        return BANNED.to_refusal(answer, f"HTTP {answer.status}: {message}")
    if answer.status == 200 and code is not None and code not in ERRORS:
        return UNEXPECTED.to_refusal(answer, f"an error inside HTTP 200: code {code}: {message}")
    if answer.status == 200 and code is None and isinstance(answer.body, Mapping) and not OBJECTS & answer.body.keys():
        return NOT_THE_API.to_refusal(answer, "HTTP 200 with an object that is neither data nor an error")
    return evaluate(answer, code, message, errors=ERRORS, statuses=STATUSES)


def _error(answer: Answer) -> tuple[int | None, str]:
    """Return code and text of an error object, None and "" where the body is something else."""
    body = answer.body
    if isinstance(body, Mapping) and isinstance(body.get("code"), int) and "msg" in body:
        return body["code"], str(body["msg"])
    return None, ""
