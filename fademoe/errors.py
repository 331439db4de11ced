"""The exceptions of FadeMoe: the class says what the caller does, the attributes say where it happened.

FadeMoeError
├── ConfigError          a setting or an argument is wrong: print one line, exit code 2
├── SourceError          an exchange's answer cannot be used
│   ├── RetryLater       repeat the request after `retry_after_s` seconds: counts as no attempt
│   │   └── BudgetSpent  our own rate limit, not the exchange, requires the pause
│   ├── Refused          the exchange never answers this request: do not retry automatically
│   └── BadPayload       the answer is not what the exchange documents: store nothing of it
└── StoreError           PostgreSQL, Redis or supervisord is away or fails
"""

from typing import Any

BODY_EXCERPT = 200


class FadeMoeError(Exception):
    """Base class of all expected errors."""


class ConfigError(FadeMoeError):
    """A setting or an argument is wrong; the message names it and the valid values."""


class StoreError(FadeMoeError):
    """PostgreSQL, Redis or supervisord is away or fails."""


class SourceError(FadeMoeError):
    """An exchange's answer cannot be used.

    `exchange`, `request` (path and query as sent, without secrets), `http_status` (None when there was no answer) and
    `body` (its first 200 characters) are stored in `perp_errors`.
    """

    def __init__(
        self,
        message: str,
        *,
        exchange: str = "",
        request: str = "",
        http_status: int | None = None,
        body: str = "",
    ) -> None:
        super().__init__(message)
        self.exchange = exchange
        self.request = request
        self.http_status = http_status
        self.body = body[:BODY_EXCERPT]

    def locate(self, exchange: str, request: str, body: object) -> None:
        """Set the attributes that are still empty, for an answer that came with HTTP 200."""
        self.exchange = self.exchange or exchange
        self.request = self.request or request
        self.http_status = self.http_status or 200
        self.body = self.body or str(body)[:BODY_EXCERPT]


class RetryLater(SourceError):
    """The exchange requires a pause, cannot be reached or fails: repeat the request after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float, **where: object) -> None:
        super().__init__(message, **where)  # type: ignore[arg-type]
        self.retry_after_s = retry_after_s


class BudgetSpent(RetryLater):
    """The rate limit has no room within the time that the caller may wait; nothing was sent.

    `path`: where only requests for that path have to wait, because it fails; else "".
    """

    def __init__(self, message: str, *, retry_after_s: float, path: str = "", **where: object) -> None:
        super().__init__(message, retry_after_s=retry_after_s, **where)
        self.path = path


class Refused(SourceError):
    """The exchange refuses this request permanently: unknown symbol, bad parameter, blocked region.

    `is_unknown_contract`: it does not know the contract, or does not serve it any more since its end.
    """

    def __init__(self, message: str, *, is_unknown_contract: bool = False, **where: Any) -> None:
        super().__init__(message, **where)
        self.is_unknown_contract = is_unknown_contract


class BadPayload(SourceError):
    """The answer does not have the documented shape or holds impossible values; nothing of its page is stored."""
