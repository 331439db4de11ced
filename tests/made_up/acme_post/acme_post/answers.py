"""What Acme Post's answers mean: the HTTP status alone. An error is a JSON text: "unknown coin"."""

from fademoe.feeds.answers import UNEXPECTED, Answer, Refusal, close_budget, evaluate

LIMIT_S = 10.0
STATUSES = {429: close_budget(wait_s=LIMIT_S)}


def judge(answer: Answer) -> Refusal | None:
    """Return what an answer means; None: it holds data, a list or an object."""
    if answer.status == 200 and isinstance(answer.body, str):
        return UNEXPECTED.to_refusal(answer, answer.body[:200])
    return evaluate(answer, None, None, errors={}, statuses=STATUSES)
