"""What Coinalyze's answers mean, by the status alone: no body of an error is known, and a text might repeat the key."""

import re
from collections.abc import Mapping

from fademoe.errors import RetryLater
from fademoe.feeds.answers import (
    NOT_THE_API,
    Answer,
    Reaction,
    Refusal,
    close_budget,
    close_exchange,
    evaluate,
)
from fademoe.feeds.values import read_retry_after_s

LIMIT_S = 60.0  # the period of the limit: the wait when an answer names none
FIREWALL_S = 300.0
KEY_S = 300.0  # until a refused key is tried again: an operator corrects it, and nothing is lost meanwhile
KEY = re.compile(r"[!-~]{1,200}")

BLOCKED = close_exchange("blocked for this address", wait_s=FIREWALL_S)

ERRORS: Mapping[int | str, Reaction] = {}
STATUSES = {
    401: close_exchange("the key is not accepted, check FADEMOE_COINALYZE_KEY", wait_s=KEY_S),
    403: BLOCKED,
    418: BLOCKED,
    429: close_budget(wait_s=lambda answer: read_retry_after_s(answer.headers) or LIMIT_S),
    451: BLOCKED,
}


def judge(answer: Answer) -> Refusal | None:
    """Return what an answer means; None: it holds data, which are always a list."""
    if answer.status == 200 and isinstance(answer.body, Mapping):
        return NOT_THE_API.to_refusal(answer, "the answer is not a list")
    is_error = answer.status != 200 and isinstance(answer.body, Mapping)
    code = answer.status if is_error else None  # no code is known: the status stands for it
    return evaluate(answer, code, "no text is repeated", errors=ERRORS, statuses=STATUSES)


def make_headers(key: str) -> Mapping[str, str]:
    """Return the header with the key: in the query it would end up in logs and error texts.

    Raises RetryLater, without the key's text, for one that no header can carry.
    """
    if not KEY.fullmatch(key):
        reason = "holds blanks or other characters that no key has" if key else "is not set"
        raise RetryLater(f"FADEMOE_COINALYZE_KEY {reason}", retry_after_s=KEY_S, exchange="coinalyze")
    return {"api_key": key}
