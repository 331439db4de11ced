"""Requests to exchanges: take the cost, send with timeouts, and turn the answer into JSON or one of our errors."""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson
import urllib3

from fademoe.client.clock_offsets import ClockOffsets
from fademoe.client.egress import open_pool
from fademoe.client.rate_limit.budgets import Budgets, Grant
from fademoe.clock import DAY_MS, SECOND_MS, monotonic_s, now_ms, steady_ms, to_host_s
from fademoe.errors import BudgetSpent, Refused, RetryLater
from fademoe.feeds.answers import Answer, Closes, Refusal
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.instrument import Json
from fademoe.feeds.request import Request
from fademoe.feeds.values import decode
from fademoe.settings import Settings

log = logging.getLogger(__name__)

_COUNT = re.compile("[0-9]{1,18}")
TIMEOUT = urllib3.Timeout(connect=5.0, read=30.0)  # seconds; to read: between two pieces of an answer
MAX_ANSWER_S = 120.0  # of the host: from the first piece of an answer to its last
MAX_ANSWER_BYTES = 64 << 20  # unpacked; the largest that is known, a list of all contracts, has 2 MB
PIECE_BYTES = 1 << 18
UNREACHABLE_S = 15.0
MAX_WAIT_S = 2.0  # for units of a budget; a job that would wait longer goes back to the queue and frees its worker
MAX_LIMIT_CLOSURE_S = 600.0  # an absurd Retry-After must not stop an exchange for years
MAX_BAN_S = 3 * DAY_MS / SECOND_MS
WINDOW_MARGIN_S = 0.5  # behind the turn of an aligned window
USER_AGENT = "fademoe"
HEADERS = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}


class TimedBody(NamedTuple):
    """A decoded answer, and between which times of the steady clock it was made."""

    body: Json
    sent_ms: int
    received_ms: int


class Disconnected(OSError):
    """The connection was cut before an answer came."""


class RestClient:
    """Sends the requests of one process, from any of its threads."""

    def __init__(
        self,
        settings: Settings,
        budgets: Budgets,
        egress: Sequence[tuple[str, str | None]],
        offsets: ClockOffsets,
    ) -> None:
        """Open one pool per egress, (name, local address or proxy URL); connections are kept alive."""
        self._settings = settings
        self._budgets = budgets
        self._pools = {name: open_pool(address) for name, address in egress}
        self._pools_of_one_request = {name: open_pool(address) for name, address in egress}  # no connection stays open
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

        A request whose connection is cut before an answer comes is sent once more: servers close connections that were
        idle while it is on its way. An egress address from which the exchange cannot be reached, or that it bans, is
        passed over while there is another. Raises RetryLater, Refused or BadPayload with the request and an excerpt of
        the answer.
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
        headers = {**HEADERS, **exchange.headers(self._settings.keys.get(exchange.name, ""))}
        avoided: list[str] = []
        failed: RetryLater | None = None
        is_repeated = False
        while True:
            try:
                grant = self._budgets.take(
                    exchange, budget, cost, live=live, max_wait_s=max_wait_s, path=request.path, avoid=avoided
                )
            except BudgetSpent as spent:
                if failed is not None and failed.retry_after_s < spent.retry_after_s:
                    raise failed from None  # the address that failed is free before the others
                raise
            avoided.append(grant.egress)
            has_another = len(avoided) < len(self._pools)
            sent_ms = steady_ms()
            try:
                response, content = self._send_granted(grant, url, request, headers, on_new_connection=is_repeated)
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                if isinstance(error, Disconnected) and not is_repeated and not grant.failures:
                    is_repeated = True
                    avoided.remove(grant.egress)
                    log.info("%s: a connection was cut, its request is sent by another one: %s", exchange.name, error)
                    continue
                failed = self._note_unreachable(exchange, grant, url, request, error)
                if not has_another:
                    raise failed from error
            else:
                received_ms = steady_ms()
                answer = self._make_answer(exchange, response, content)
                refusal = exchange.judge(answer)
                if refusal is None:
                    self._budgets.note_success(grant)
                    return TimedBody(answer.body, sent_ms, received_ms)
                refused = self._error(exchange, grant, refusal, str(request), answer)
                is_of_address = refusal.closes is not Closes.NOTHING and not grant.budget.per_key
                if not (has_another and is_of_address and isinstance(refused, RetryLater)):
                    raise refused
                failed = refused
            log.warning("%s; another address is tried", failed)

    def _note_unreachable(
        self, exchange: Exchange, grant: Grant, url: str, request: Request, error: Exception
    ) -> RetryLater:
        """Note that an exchange could not be reached from an address; return the exception that says so."""
        reason = f"{exchange.name} cannot be reached at {url} from {grant.egress}: {describe_cause(error)}"
        pause_s = self._budgets.note_failure(grant, reason)
        wait_s = max(UNREACHABLE_S, pause_s)
        return RetryLater(reason, retry_after_s=wait_s, exchange=exchange.name, request=str(request))

    def _send_granted(
        self, grant: Grant, url: str, request: Request, headers: Mapping[str, str], *, on_new_connection: bool
    ) -> tuple[urllib3.BaseHTTPResponse, bytes]:
        """Return an answer and its whole content; the window of its units starts as soon as it begins."""
        query = f"?{urlencode(request.params)}" if request.params else ""
        if request.json is not None:
            headers = {**headers, "Content-Type": "application/json"}
        if on_new_connection:
            headers = {**headers, "Connection": "close"}
        pools = self._pools_of_one_request if on_new_connection else self._pools
        count = None
        try:
            response = pools[grant.egress].urlopen(
                request.method,
                url + request.path + query,
                body=None if request.json is None else orjson.dumps(request.json),
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=TIMEOUT,
            )
            count = _read_used_count(grant, response)
        except urllib3.exceptions.ProtocolError as error:
            raise Disconnected(describe_cause(error)) from error
        finally:
            self._budgets.release(grant, count)
        return response, _read_content(response)

    def _make_answer(self, exchange: Exchange, response: urllib3.BaseHTTPResponse, content: bytes) -> Answer:
        return Answer(
            status=response.status,
            headers=response.headers,
            body=_decoded(content),
            text=content[:1000].decode("utf-8", "replace"),
            now_ms=self.read_server_now_ms(exchange),
        )

    def _error(self, exchange: Exchange, grant: Grant, refusal: Refusal, request: str, answer: Answer) -> Exception:
        """Make the exception of a refusal; close the budgets that it closes, or note the exchange's failure."""
        message = f"{exchange.name}: {refusal.message}"
        wait_s = self._wait_s(exchange, grant, refusal)
        if refusal.closes is not Closes.NOTHING:
            every = tuple(budget.name for budget in exchange.budgets)
            names = every if refusal.closes is Closes.EXCHANGE else (grant.budget.name,)
            self._budgets.close(exchange, names, grant.egress, wait_s, refusal.message)
        elif refusal.error is RetryLater:
            wait_s = max(wait_s, self._budgets.note_failure(grant, message, answered=True))
        if refusal.closes is not Closes.NOTHING or refusal.error is not RetryLater:
            self._budgets.note_success(grant)  # a refusal is an answer too: the exchange is reachable
        details: dict[str, Any] = {
            "exchange": exchange.name,
            "request": request,
            "http_status": answer.status,
            "body": answer.text,
        }
        if refusal.error is RetryLater:
            details["retry_after_s"] = wait_s
        elif refusal.error is Refused:
            details["is_unknown_contract"] = refusal.is_unknown_contract
        return refusal.error(message, **details)

    def _wait_s(self, exchange: Exchange, grant: Grant, refusal: Refusal) -> float:
        """Return the pause that a refusal asks for, within what exchanges are known to ask for."""
        if refusal.retry_after_s is None:
            return self._budgets.compute_window_left_s(exchange.name, grant.budget) + WINDOW_MARGIN_S
        longest_s = MAX_BAN_S if refusal.closes is Closes.EXCHANGE else MAX_LIMIT_CLOSURE_S
        return min(refusal.retry_after_s, longest_s)


def _read_content(response: urllib3.BaseHTTPResponse) -> bytes:
    """Return the whole content; raise OSError for one without end: too large, or that trickles in."""
    content, begin_s = bytearray(), monotonic_s()
    try:
        while piece := response.read1(PIECE_BYTES, decode_content=True):
            content += piece
            if len(content) > MAX_ANSWER_BYTES or to_host_s(monotonic_s() - begin_s) > MAX_ANSWER_S:
                raise OSError(f"an answer without end: {len(content)} bytes so far")
    except (urllib3.exceptions.HTTPError, OSError):
        response.close()
        raise
    response.release_conn()
    return bytes(content)


def _read_used_count(grant: Grant, response: urllib3.BaseHTTPResponse) -> int | None:
    """Return the exchange's own count of the budget's window, None where the answer does not hold it."""
    header = grant.budget.used_header
    count = response.headers.get(header, "") if header else ""
    return int(count) if _COUNT.fullmatch(count) else None


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
