"""What Bybit's answers mean: the HTTP status, and retCode, which tells errors inside a 200 too."""

from collections.abc import Mapping

from fademoe.clock import SECOND_MS
from fademoe.feeds.answers import (
    NOT_THE_API,
    REFUSED,
    SERVER_ERROR,
    UNKNOWN_CONTRACT,
    Answer,
    Reaction,
    Refusal,
    close_budget,
    close_exchange,
    evaluate,
)

BAN_S = 600.0
REGION_S = 300.0
LIMIT_S = 2.0
LONGEST_LIMIT_S = 60.0


def read_limit_s(answer: Answer) -> float:
    """Return the seconds until the limit resets, by its header, which public answers mostly lack."""
    reset = answer.headers.get("X-Bapi-Limit-Reset-Timestamp", "")[:16]
    wait_s = (int(reset) - answer.now_ms) / SECOND_MS if reset.isdecimal() else LIMIT_S
    return min(max(wait_s, LIMIT_S), LONGEST_LIMIT_S)


RATE_LIMITED = close_budget(wait_s=read_limit_s)
BANNED = close_exchange("banned", wait_s=BAN_S)
REGION_BLOCKED = close_exchange("blocked in this region", wait_s=REGION_S)

ERRORS: Mapping[int | str, Reaction] = {
    429: RATE_LIMITED,
    10000: SERVER_ERROR,  # server timeout
    10001: REFUSED,  # request parameter error
    10006: RATE_LIMITED,  # too many visits
    10009: REGION_BLOCKED,  # IP has been banned
    10016: SERVER_ERROR,  # one client documents it for the rate limit, Bybit for a server error: waiting suits both
    10017: REFUSED,  # route not found
    10018: RATE_LIMITED,  # exceeded the IP rate limit
    10024: REGION_BLOCKED,  # compliance rules
    10029: REFUSED,  # the requested symbol is not whitelisted
}
STATUSES = {
    403: REGION_BLOCKED,  # CloudFront
    429: RATE_LIMITED,
    451: REGION_BLOCKED,
}


def judge(answer: Answer) -> Refusal | None:
    """Return what an answer means; None: it holds data.

    A 403 with "access too frequent" is the ban of the address, ten minutes at least; every other 403 is taken for the
    region. A 10001 whose text names the symbol ("Not supported symbols") is of an unknown contract; its other texts
    name a parameter.
    """
    if answer.status == 403:
        is_ban = "access too frequent" in answer.text.lower()
        return (BANNED if is_ban else REGION_BLOCKED).to_refusal(answer, "HTTP 403")
    body = answer.body if isinstance(answer.body, Mapping) else {}
    code = body["retCode"] if type(body.get("retCode")) is int else None
    if answer.status == 200 and code == 0 and not body.get("result"):
        return NOT_THE_API.to_refusal(answer, "HTTP 200, code 0 without a result")
    if code == 10001 and "symbol" in str(body.get("retMsg")).lower():
        return UNKNOWN_CONTRACT.to_refusal(answer, f"HTTP {answer.status}, code {code}: {body['retMsg']}")
    return evaluate(answer, code, body.get("retMsg"), errors=ERRORS, statuses=STATUSES, success=0)
