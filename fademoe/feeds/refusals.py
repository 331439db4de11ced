"""What an answer that is not data asks for: one function for each reaction, so that all exchanges are understood alike.

`said` tells what the exchange answered, waits are in seconds.
"""

from fademoe.errors import BadPayload, Refused, RetryLater
from fademoe.feeds.spec import Answer, Closes, Refusal

TROUBLE_S = 5.0


def too_often(said: str, wait_s: float | None) -> Refusal:
    """Wait with everything that shares the budget; None: until its aligned window turns."""
    return Refusal(error=RetryLater, message=f"rate limit: {said}", retry_after_s=wait_s, closes=Closes.BUDGET)


def shut_out(reason: str, said: str, wait_s: float) -> Refusal:
    """Send nothing more from this address: it is banned, or its country barred."""
    return Refusal(error=RetryLater, message=f"{reason}: {said}", retry_after_s=wait_s, closes=Closes.EXCHANGE)


def trouble(said: str, wait_s: float = TROUBLE_S) -> Refusal:
    """Ask the same again soon."""
    return Refusal(error=RetryLater, message=f"trouble on the exchange's side: {said}", retry_after_s=wait_s)


def refused(said: str) -> Refusal:
    """Do not ask this again."""
    return Refusal(error=Refused, message=f"refused: {said}")


def broken(said: str) -> Refusal:
    """Keep the answer for a human: it is neither data nor a known refusal."""
    return Refusal(error=BadPayload, message=said)


def by_status(answer: Answer, said: str) -> Refusal | None:
    """Judge the statuses that mean the same everywhere; None for 200."""
    if answer.status >= 500 or answer.status == 408:
        return trouble(said)
    return None if answer.status == 200 else refused(said)
