"""Requests to exchanges: take the cost, send with timeouts, and turn the answer into JSON or one of our errors."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from fademoe.client.rate_limit.budgets import Budgets, Grant
from fademoe.clock import now_ms
from fademoe.errors import RetryLater
from fademoe.feeds.answers import Answer, Closes, Refusal
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.instrument import Json
from fademoe.feeds.request import Request
from fademoe.feeds.values import decode
from fademoe.settings import Settings

log = logging.getLogger(__name__)

TIMEOUT_S = (5.0, 30.0)  # connect, and between two pieces of an answer
UNREACHABLE_S = 15.0
MAX_WAIT_S = 2.0  # for units of a budget; a job that would wait longer goes back to the queue and frees its worker
USER_AGENT = "fademoe"
POOL = 16  # connections kept alive per host


class RestClient:
    """Sends the requests of one process, from any of its threads."""

    def __init__(self, settings: Settings, budgets: Budgets, egress: Sequence[tuple[str, str | None]]) -> None:
        """Open one session per egress, (name, local address or proxy URL); connections are kept alive."""
        self._settings = settings
        self._budgets = budgets
        self._sessions = {name: _session(address) for name, address in egress}

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

        Raises RetryLater, Refused or BadPayload with the request and an excerpt of the answer.
        """
        url = self._settings.rest_urls.get(exchange.name, exchange.rest_url)
        headers = {"User-Agent": USER_AGENT, **exchange.headers(self._settings.keys.get(exchange.name, ""))}
        prepared = requests.Request(
            request.method, url + request.path, params=dict(request.params), json=request.json, headers=headers
        ).prepare()
        try:
            with ExitStack() as connected:
                for session in self._sessions.values():
                    connected.enter_context(_connected(session, prepared))
                grant = self._budgets.take(exchange, budget, cost, live=live, max_wait_s=max_wait_s)
            response = self._send_granted(grant, prepared)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise RetryLater(
                f"{exchange.name} cannot be reached at {url}: {_cause(error)}",
                retry_after_s=UNREACHABLE_S,
                exchange=exchange.name,
                request=str(request),
            ) from error
        answer = Answer(
            status=response.status_code,
            headers=response.headers,
            body=_decoded(response.content),
            text=response.content[:1000].decode("utf-8", "replace"),
            now_ms=now_ms(),
        )
        self._correct(grant, answer)
        refusal = exchange.judge(answer)
        if refusal is not None:
            raise self._error(exchange, grant, refusal, str(request), answer)
        return answer.body

    def _send_granted(self, grant: Grant, request: requests.PreparedRequest) -> requests.Response:
        """Return the whole answer; its units grow old as soon as it begins."""
        try:
            response = self._sessions[grant.egress].send(request, timeout=TIMEOUT_S, allow_redirects=False, stream=True)
        finally:
            self._budgets.landed(grant)
        response.content  # noqa: B018 - read, and the connection is free again
        return response

    def _correct(self, grant: Grant, answer: Answer) -> None:
        header = grant.budget.used_header
        count = answer.headers.get(header, "") if header else ""
        if count.isdigit():
            self._budgets.correct(grant, int(count))

    def _error(self, exchange: Exchange, grant: Grant, refusal: Refusal, request: str, answer: Answer) -> Exception:
        """Make the exception of a refusal, and close the budgets it closes."""
        wait_s = refusal.retry_after_s
        if wait_s is None:
            wait_s = self._budgets.until_turn_s(grant.budget) + 0.5
        if refusal.closes is not Closes.NOTHING:
            every = tuple(budget.name for budget in exchange.budgets)
            names = every if refusal.closes is Closes.EXCHANGE else (grant.budget.name,)
            self._budgets.close(exchange, names, grant.egress, wait_s, refusal.message)
        where: dict[str, Any] = {
            "exchange": exchange.name,
            "request": request,
            "http_status": answer.status,
            "body": answer.text,
        }
        message = f"{exchange.name}: {refusal.message}"
        if refusal.error is RetryLater:
            return RetryLater(message, retry_after_s=wait_s, **where)
        return refusal.error(message, **where)


class _BoundAdapter(HTTPAdapter):
    """Sends from one local address."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__(pool_maxsize=POOL)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, source_address=(self._address, 0), **kwargs)


@contextmanager
def _connected(session: requests.Session, request: requests.PreparedRequest) -> Iterator[None]:
    """Keep a connection open for `request`: what was granted leaves at once, not after a handshake of unknown length.

    Raises what urllib3 does when the host cannot be reached. Proxies connect for themselves.
    """
    adapter = session.get_adapter(request.url or "")
    pool = adapter.get_connection_with_tls_context(request, verify=True) if isinstance(adapter, HTTPAdapter) else None
    if session.proxies or not isinstance(pool, urllib3.HTTPConnectionPool):
        yield
        return
    connection = pool._get_conn()
    try:
        if connection.is_closed:
            connection.timeout = TIMEOUT_S[0]
            connection.connect()
        yield
    finally:
        pool._put_conn(connection)  # where the request takes it from


def _session(address: str | None) -> requests.Session:
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


def _cause(error: BaseException) -> str:
    """Return the innermost reason of a failed request, in words."""
    while error.__context__ is not None and not isinstance(error, OSError | TimeoutError):
        error = error.__context__
    reasons = [str(part) for part in error.args if part] or [type(error).__name__]
    return reasons[-1][:200]
