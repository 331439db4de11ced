"""What an answer of Acme RPC that is not data means, and what is inside of one that is."""

from collections.abc import Mapping

from fademoe.feeds import answers
from fademoe.feeds.answers import Answer, Refusal
from fademoe.feeds.instrument import Json
from fademoe.feeds.values import member

TOO_MANY_REQUESTS, INVALID_PARAMS, UNKNOWN_METHOD = 10028, -32602, -32601


def judge(answer: Answer) -> Refusal | None:
    """Return what to do about an answer, None where it holds a result.

    {"jsonrpc": "2.0", "error": {"code": 10028, "message": "too_many_requests"}} comes with HTTP 400.
    """
    body = answer.body if isinstance(answer.body, Mapping) else {}
    error = body.get("error")
    code = error.get("code") if isinstance(error, Mapping) else None
    detail = f"HTTP {answer.status}, error {error}"
    if code == TOO_MANY_REQUESTS or answer.status == 429:
        return answers.rate_limited(detail, 1.0)
    if code in (INVALID_PARAMS, UNKNOWN_METHOD):
        return answers.refused(detail)
    if answer.status == 200 and "result" in body:
        return None
    return answers.by_status(answer, detail) or answers.unexpected_payload(detail)


def result(answer: Json) -> Json:
    """Return the result of an answer."""
    return member(answer, "result")
