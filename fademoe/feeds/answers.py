"""What an answer that is not data means: one function for each reaction, so that all exchanges are understood alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fademoe.errors import BadPayload, Refused, RetryLater, SourceError
from fademoe.feeds.instrument import Json


class Closes(StrEnum):
    """What a refusal shuts for everyone behind the same egress address."""

    NOTHING = "nothing"
    BUDGET = "budget"  # the budget of the request
    EXCHANGE = "exchange"  # every budget of the exchange


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What an answer that is not data means.

    `error` is the class to raise. `retry_after_s` goes with RetryLater; None: until the budget's aligned window turns.
    """

    error: type[SourceError]
    message: str
    retry_after_s: float | None = 5.0
    closes: Closes = Closes.NOTHING


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An exchange's answer as its `judge` sees it; `body` is None when it was not JSON."""

    status: int
    headers: Mapping[str, str]
    body: Json
    text: str
    now_ms: int


SERVER_ERROR_S = 5.0


def rate_limited(said: str, wait_s: float | None) -> Refusal:
    """Wait with everything that shares the budget; None: until its aligned window turns."""
    return Refusal(error=RetryLater, message=f"rate limit: {said}", retry_after_s=wait_s, closes=Closes.BUDGET)


def banned(reason: str, said: str, wait_s: float) -> Refusal:
    """Send nothing more from this address: it is banned, or its country barred."""
    return Refusal(error=RetryLater, message=f"{reason}: {said}", retry_after_s=wait_s, closes=Closes.EXCHANGE)


def server_error(said: str, wait_s: float = SERVER_ERROR_S) -> Refusal:
    """Ask the same again soon."""
    return Refusal(error=RetryLater, message=f"trouble on the exchange's side: {said}", retry_after_s=wait_s)


def refused(said: str) -> Refusal:
    """Do not ask this again."""
    return Refusal(error=Refused, message=f"refused: {said}")


def unexpected_payload(said: str) -> Refusal:
    """Keep the answer for a human: it is neither data nor a known refusal."""
    return Refusal(error=BadPayload, message=said)


def by_status(answer: Answer, said: str) -> Refusal | None:
    """Judge the statuses that mean the same everywhere; None for 200."""
    if answer.status >= 500 or answer.status == 408:
        return server_error(said)
    return None if answer.status == 200 else refused(said)
