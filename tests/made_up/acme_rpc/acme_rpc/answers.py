"""What Acme RPC's answers mean: the code of their error, which comes with HTTP 400."""

from collections.abc import Mapping

from fademoe.feeds.answers import REFUSED, Answer, Reaction, Refusal, close_budget, evaluate
from fademoe.feeds.instrument import Json
from fademoe.feeds.values import get_member

RATE_LIMITED = close_budget(wait_s=1.0)
ERRORS: Mapping[int | str, Reaction] = {
    10028: RATE_LIMITED,  # too_many_requests
    -32601: REFUSED,  # unknown method
    -32602: REFUSED,  # invalid params
}
STATUSES = {429: RATE_LIMITED}


def judge(answer: Answer) -> Refusal | None:
    """Return what an answer means; None: it holds a result.

    {"jsonrpc": "2.0", "error": {"code": 10028, "message": "too_many_requests"}}
    """
    body = answer.body if isinstance(answer.body, Mapping) else {}
    error = body.get("error") if isinstance(body.get("error"), Mapping) else {}
    code = error.get("code")
    return evaluate(answer, code if type(code) is int else None, error.get("message"), errors=ERRORS, statuses=STATUSES)


def read_result(answer: Json) -> Json:
    """Return the result of an answer."""
    return get_member(answer, "result")
