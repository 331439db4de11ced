"""What an answer of Acme Post that is not data means."""

from fademoe.feeds import answers
from fademoe.feeds.answers import Answer, Refusal

LIMIT_S = 10.0


def judge(answer: Answer) -> Refusal | None:
    """Return what to do about an answer, None where it holds data. An error is a JSON text: "unknown coin"."""
    detail = f"HTTP {answer.status}: {answer.text[:200]}"
    if answer.status == 429:
        return answers.rate_limited(detail, LIMIT_S)
    if answer.status == 200 and not isinstance(answer.body, list | dict):
        return answers.unexpected_payload(detail)
    return answers.by_status(answer, detail)
