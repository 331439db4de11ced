"""Requests to exchanges: take the cost, send with timeouts, and turn the answer into JSON or one of our errors."""

import logging
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import requests
import urllib3
from requests.adapters import HTTPAdapter

from fademoe.client.clock_offsets import ClockOffsets
from fademoe.client.rate_limit.budgets import Budgets, Grant
from fademoe.clock import DAY_MS, SECOND_MS, now_ms, steady_ms
from fademoe.errors import RetryLater
from fademoe.feeds.answers import Answer, Closes, Refusal
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.instrument import Json
from fademoe.feeds.request import Request
from fademoe.feeds.values import decode
from fademoe.settings import Settings

log = logging.getLogger(__name__)

_COUNT = re.compile("[0-9]{1,18}")
TIMEOUT_S = (5.0, 30.0)  # connect, and between two pieces of an answer
UNREACHABLE_S = 15.0
MAX_WAIT_S = 2.0  # for units of a budget; a job that would wait longer goes back to the queue and frees its worker
MAX_LIMIT_CLOSURE_S = 600.0  # an absurd Retry-After must not stop an exchange for years
MAX_BAN_S = 3 * DAY_MS / SECOND_MS
WINDOW_MARGIN_S = 0.5  # behind the turn of an aligned window
USER_AGENT = "fademoe"
POOL = 16  # connections kept alive per host


class TimedBody(NamedTuple):
    """A decoded answer, and between which times of the steady clock it was made."""

    body: Json
    sent_ms: int
    received_ms: int


class RestClient:
    """Sends the requests of one process, from any of its threads."""

    def __init__(
        self,
        settings: Settings,
        budgets: Budgets,
        egress: Sequence[tuple[str, str | None]],
        offsets: ClockOffsets,
    ) -> None:
        """Open one session per egress, (name, local address or proxy URL); connections are kept alive."""
        self._settings = settings
        self._budgets = budgets
        self._sessions = {name: open_session(address) for name, address in egress}
        self._offsets = offsets

    def read_server_now_ms(self, exchange: Exchange) -> int:
        """Return the exchange's time as far as it is known, without asking it; otherwise the host's."""
        server_ms = self._offsets.read_server_now_ms(exchange.name)
        return now_ms() if server_ms is None else server_ms

    def send(
        self,
        exchange: Exchange,
        request: Request,
        *,
        budget: str,
        cost: int,
        live: bool = False,
        max_wait_s: float = MAX_WAIT_S,
    ) -> Json:
        """Return the decoded answer of one request after its cost was granted, `max_wait_s` from now at most.

        An egress address from which the exchange cannot be reached is passed over while there is another. Raises
        RetryLater, Refused or BadPayload with the request and an excerpt of the answer.
        """
        return self.send_timed(exchange, request, budget=budget, cost=cost, live=live, max_wait_s=max_wait_s).body

    def send_timed(
        self,
        exchange: Exchange,
        request: Request,
        *,
        budget: str,
        cost: int,
        live: bool = False,
        max_wait_s: float = MAX_WAIT_S,
    ) -> TimedBody:
        """Return what `send` does, with the times of sending and receiving."""
        url = self._settings.rest_urls.get(exchange.name, exchange.rest_url)
        headers = {"User-Agent": USER_AGENT, **exchange.headers(self._settings.keys.get(exchange.name, ""))}
        prepared = requests.Request(
            request.method, url + request.path, params=dict(request.params), json=request.json, headers=headers
        ).prepare()
        unreachable: list[str] = []
        while True:
            grant = self._budgets.take(exchange, budget, cost, live=live, max_wait_s=max_wait_s, avoid=unreachable)
            sent_ms = steady_ms()
            try:
                response = self._send_granted(grant, prepared)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                # requests raises ValueError for a Location that is no address, even where it is not followed
                reason = f"{exchange.name} cannot be reached at {url} from {grant.egress}: {describe_cause(error)}"
                pause_s = self._budgets.note_failure(grant, reason)
                unreachable.append(grant.egress)
                if len(unreachable) < len(self._sessions):
                    log.warning("%s; another address is tried", reason)
                    continue
                raise RetryLater(
                    reason, retry_after_s=max(UNREACHABLE_S, pause_s), exchange=exchange.name, request=str(request)
                ) from error
            received_ms = steady_ms()
            body = self._read(exchange, grant, str(request), response)
            return TimedBody(body, sent_ms, received_ms)

    def _send_granted(self, grant: Grant, request: requests.PreparedRequest) -> requests.Response:
        """Return the whole answer; the window of its units starts as soon as it begins."""
        try:
            response = self._sessions[grant.egress].send(request, timeout=TIMEOUT_S, allow_redirects=False, stream=True)
        finally:
            self._budgets.release(grant)
        response.content  # noqa: B018 - read, and the connection is free again
        return response

    def _read(self, exchange: Exchange, grant: Grant, request: str, response: requests.Response) -> Json:
        """Return the body of an answer that holds data, else raise the error that the answer means."""
        answer = Answer(
            status=response.status_code,
            headers=response.headers,
            body=_decoded(response.content),
            text=response.content[:1000].decode("utf-8", "replace"),
            now_ms=self.read_server_now_ms(exchange),
        )
        self._correct(grant, answer)
        refusal = exchange.judge(answer)
        if refusal is not None:
            raise self._error(exchange, grant, refusal, request, answer)
        self._budgets.note_success(grant)
        return answer.body

    def _correct(self, grant: Grant, answer: Answer) -> None:
        header = grant.budget.used_header
        count = answer.headers.get(header, "") if header else ""
        if _COUNT.fullmatch(count):
            self._budgets.correct(grant, int(count))

    def _error(self, exchange: Exchange, grant: Grant, refusal: Refusal, request: str, answer: Answer) -> Exception:
        """Make the exception of a refusal; close the budgets that it closes, or note the exchange's failure."""
        message = f"{exchange.name}: {refusal.message}"
        wait_s = self._wait_s(exchange, grant, refusal)
        if refusal.closes is not Closes.NOTHING:
            every = tuple(budget.name for budget in exchange.budgets)
            names = every if refusal.closes is Closes.EXCHANGE else (grant.budget.name,)
            self._budgets.close(exchange, names, grant.egress, wait_s, refusal.message)
        elif refusal.error is RetryLater:
            wait_s = max(wait_s, self._budgets.note_failure(grant, message))
        if refusal.closes is not Closes.NOTHING or refusal.error is not RetryLater:
            self._budgets.note_success(grant)  # a refusal is an answer too: the exchange is reachable
        where: dict[str, Any] = {
            "exchange": exchange.name,
            "request": request,
            "http_status": answer.status,
            "body": answer.text,
        }
        if refusal.error is RetryLater:
            return RetryLater(message, retry_after_s=wait_s, **where)
        return refusal.error(message, **where)

    def _wait_s(self, exchange: Exchange, grant: Grant, refusal: Refusal) -> float:
        """Return the pause that a refusal asks for, within what exchanges are known to ask for."""
        if refusal.retry_after_s is None:
            return self._budgets.compute_window_left_s(exchange.name, grant.budget) + WINDOW_MARGIN_S
        longest_s = MAX_BAN_S if refusal.closes is Closes.EXCHANGE else MAX_LIMIT_CLOSURE_S
        return min(refusal.retry_after_s, longest_s)


class _BoundAdapter(HTTPAdapter):
    """Sends from one local address."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__(pool_maxsize=POOL)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, source_address=(self._address, 0), **kwargs)


def open_session(address: str | None) -> requests.Session:
    """Return a session that leaves by a local address, through a proxy URL, or (None) as the host routes it."""
    session = requests.Session()
    session.trust_env = False
    adapter = HTTPAdapter(pool_maxsize=POOL)
    if address and "://" in address:
        session.proxies = {"http": address, "https": address}
    elif address:
        adapter = _BoundAdapter(address)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _decoded(content: bytes) -> Json:
    """Return the decoded JSON, None where it is not JSON."""
    try:
        return decode(content)
    except ValueError:
        return None


def describe_cause(error: BaseException) -> str:
    """Return the innermost reason of a failed request, in words."""
    while error.__context__ is not None and not isinstance(error, OSError | TimeoutError):
        error = error.__context__
    reasons = [str(part) for part in error.args if part] or [type(error).__name__]
    return reasons[-1][:200]
