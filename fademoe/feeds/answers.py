"""What an answer that is not data means: each exchange has tables of reactions, and one evaluator reads them all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from fademoe.errors import BadPayload, Refused, RetryLater, SourceError
from fademoe.feeds.instrument import Json

SERVER_ERROR_S = 5.0
NOT_THE_API_S = 15.0


class Closes(StrEnum):
    """What a refusal closes for all processes behind the same egress address."""

    NOTHING = "nothing"
    BUDGET = "budget"  # the budget of the request
    EXCHANGE = "exchange"  # every budget of the exchange


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What an answer that is not data means.

    `error` is the class to raise. `retry_after_s` goes with RetryLater; None: until the budget's aligned window turns.
    `is_unknown_contract` goes with Refused.
    """

    error: type[SourceError]
    message: str
    retry_after_s: float | None = SERVER_ERROR_S
    closes: Closes = Closes.NOTHING
    is_unknown_contract: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An exchange's answer as its `judge` sees it; `body` is None when it was not JSON."""

    status: int
    headers: Mapping[str, str]
    body: Json
    text: str
    now_ms: int


Wait = float | Callable[[Answer], float | None] | None


@dataclass(frozen=True, kw_only=True)
class Reaction:
    """An entry of an exchange's tables: the error to raise for an answer, and what it closes.

    `wait_s`: the pause before the next request, or how it is read from the answer; None: until the budget's aligned
    window turns. `is_unknown_contract`: see `Refused`.
    """

    error: type[SourceError]
    reason: str
    wait_s: Wait = SERVER_ERROR_S
    closes: Closes = Closes.NOTHING
    is_unknown_contract: bool = False

    def to_refusal(self, answer: Answer, detail: str) -> Refusal:
        """Return what the reaction means for one answer; `detail` is what the exchange says."""
        wait_s = self.wait_s(answer) if callable(self.wait_s) else self.wait_s
        return Refusal(
            error=self.error,
            message=f"{self.reason}: {detail}",
            retry_after_s=wait_s,
            closes=self.closes,
            is_unknown_contract=self.is_unknown_contract,
        )


REFUSED = Reaction(error=Refused, reason="refused")
UNKNOWN_CONTRACT = Reaction(error=Refused, reason="refused", is_unknown_contract=True)
SERVER_ERROR = Reaction(error=RetryLater, reason="error on the exchange's side")
UNEXPECTED = Reaction(error=BadPayload, reason="neither data nor a known error")
NOT_THE_API = Reaction(error=RetryLater, reason="the answer is not the API's", wait_s=NOT_THE_API_S)


def close_budget(wait_s: Wait) -> Reaction:
    """Return the reaction to a spent rate limit: nothing more of its budget is sent until the wait is over."""
    return Reaction(error=RetryLater, reason="rate limit", wait_s=wait_s, closes=Closes.BUDGET)


def close_exchange(reason: str, wait_s: Wait) -> Reaction:
    """Return the reaction to a ban or a blocked region: nothing is sent from this address until the wait is over."""
    return Reaction(error=RetryLater, reason=reason, wait_s=wait_s, closes=Closes.EXCHANGE)


def evaluate(
    answer: Answer,
    code: int | str | None,
    message: object,
    *,
    errors: Mapping[int | str, Reaction],
    statuses: Mapping[int, Reaction],
    success: int | str | None = None,
) -> Refusal | None:
    """Return what an exchange's tables say of an answer; None: it holds data.

    `code` is the exchange's own error code, None where the answer has none; `message` is its text; `success` is the
    code of data, None where data come without a code. `errors` decides first, then `statuses`, then what a status means
    everywhere: a 5xx or a timeout is an error of the server. What is not a JSON object or list did not come from the
    API (a proxy, a page of maintenance), nor did a redirect, nor an answer without a code where `success` or the status
    needs one. Every other status but 200 is a refusal.
    """
    detail = f"HTTP {answer.status}"
    if code is not None:
        detail += f", code {code}" if message in (None, "") else f", code {code}: {message}"
    reaction = None if code is None else errors.get(code)
    reaction = reaction or statuses.get(answer.status) or _by_status(answer, has_code=code is not None)
    if reaction is None and code != success:
        reaction = NOT_THE_API if code is None else UNEXPECTED
    return reaction.to_refusal(answer, detail) if reaction else None


def _by_status(answer: Answer, *, has_code: bool) -> Reaction | None:
    if answer.status >= 500 or answer.status == 408:
        return SERVER_ERROR
    if answer.status == 200 and isinstance(answer.body, dict | list):
        return None
    return REFUSED if has_code and answer.status >= 400 else NOT_THE_API
