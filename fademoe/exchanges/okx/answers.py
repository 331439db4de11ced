"""What OKX's answers mean: the code decides, whatever the HTTP status; what is not JSON is a page of the CDN."""

from collections.abc import Mapping

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

LIMIT_S = 2.0  # the period of every limit
FIREWALL_S = 60.0

RATE_LIMITED = close_budget(wait_s=LIMIT_S)
BLOCKED = close_exchange("blocked for this address", wait_s=FIREWALL_S)

ERRORS: Mapping[int | str, Reaction] = {
    "50001": SERVER_ERROR,  # service temporarily unavailable
    "50004": SERVER_ERROR,  # endpoint request timed out
    "50005": REFUSED,  # endpoint offline
    "50011": RATE_LIMITED,  # rate limit reached
    "50013": RATE_LIMITED,  # system busy
    "50014": REFUSED,  # required parameter empty
    "50015": REFUSED,  # one of two parameters needed
    "50016": REFUSED,  # two parameters do not fit
    "50024": REFUSED,  # two parameters exclude each other
    "50025": REFUSED,  # too many values of a parameter
    "50026": SERVER_ERROR,  # system error
    "50030": REFUSED,  # no permission
    "50039": REFUSED,  # this endpoint cannot page by time
    "50040": RATE_LIMITED,  # operation too frequent
    "50047": UNKNOWN_CONTRACT,  # contract settled
    "50051": REFUSED,  # refused in this region
    "50061": RATE_LIMITED,  # limit of a sub-account
    "50103": REFUSED,  # header of the key empty
    "50119": REFUSED,  # key unknown
    "51000": REFUSED,  # parameter error
    "51001": UNKNOWN_CONTRACT,  # instrument does not exist
    "51014": REFUSED,  # index does not exist
    "51015": REFUSED,  # instId does not match instType
    "51027": UNKNOWN_CONTRACT,  # contract expired
    "51155": REFUSED,  # refused for compliance
}
STATUSES = {
    403: BLOCKED,
    429: RATE_LIMITED,
    451: BLOCKED,
}


def judge(answer: Answer) -> Refusal | None:
    """Return what an answer means; None: it holds data."""
    body = answer.body if isinstance(answer.body, Mapping) else {}
    code = body["code"] if isinstance(body.get("code"), str) else None
    if answer.status == 200 and code == "0" and not isinstance(body.get("data"), list):
        return NOT_THE_API.to_refusal(answer, "HTTP 200, code 0 without data")
    return evaluate(answer, code, body.get("msg"), errors=ERRORS, statuses=STATUSES, success="0")
