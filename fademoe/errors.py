"""The errors of FadeMoe: the class says what to do, the attributes say where it happened.

FadeMoeError
├── ConfigError          a setting or an argument is wrong: one line, exit code 2
├── SourceError          an exchange's answer cannot be used
│   ├── RetryLater       wait `retry_after_s`, then ask again: uses up no attempt
│   │   └── BudgetSpent  our own budget, not the exchange, asks for the pause
│   ├── Refused          the exchange will not answer this request: no retry by itself
│   └── BadPayload       the answer is not what the exchange documents: nothing of it is stored
└── StoreError           PostgreSQL or Redis cannot be used
"""

BODY_EXCERPT = 200


class FadeMoeError(Exception):
    """Something went wrong that FadeMoe knows how to name."""


class ConfigError(FadeMoeError):
    """A setting or an argument is wrong; the message names it and the valid values."""


class StoreError(FadeMoeError):
    """PostgreSQL or Redis does not do what it should."""


class SourceError(FadeMoeError):
    """An exchange's answer cannot be used.

    `exchange`, `request` (path and query as sent, without secrets), `http_status` (None when there was no answer) and
    `body` (the first 200 characters) say where; they are stored in `perp_errors`.
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
        """Say which answer it was about, as far as that is not said yet; the answer came with HTTP 200."""
        self.exchange = self.exchange or exchange
        self.request = self.request or request
        self.http_status = self.http_status or 200
        self.body = self.body or str(body)[:BODY_EXCERPT]


class RetryLater(SourceError):
    """The exchange asks for a pause, is unreachable or stumbled: ask the same again in `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float, **where: object) -> None:
        super().__init__(message, **where)  # type: ignore[arg-type]
        self.retry_after_s = retry_after_s


class BudgetSpent(RetryLater):
    """The budget of an exchange is spent for longer than this work may block its worker; nothing was sent."""


class Refused(SourceError):
    """The exchange refuses this request for good: unknown symbol, bad parameter, blocked region."""


class BadPayload(SourceError):
    """The answer does not have the documented shape or holds impossible values; nothing of its page is stored."""
