"""The channels: one attempt to hand a message over. Webhook, ntfy and Telegram are built in; the rest is apprise's."""

import importlib
import json
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from multiprocessing.pool import ThreadPool
from urllib.parse import quote, urlsplit

import requests
import urllib3

from fademoe.alerts.messages import Transition, make_headers, make_text, make_title
from fademoe.alerts.rules import ENVIRONMENT, WEBHOOK_SCHEMES, check_variable
from fademoe.clock import SECOND_MS

ANSWER_TIMEOUT_S = 10.0
MAX_RETRY_AFTER_S = 3_600
TELEGRAM_URL = "https://api.telegram.org"
NTFY_URL = "https://ntfy.sh"
NTFY_PRIORITIES = {"info": "3", "warning": "4", "critical": "5"}
MAX_TELEGRAM_CHARACTERS = 4_096
MAX_READ_BYTES = 10_000  # of the body of a refusal


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is sent: `body` are the bytes of a webhook, the transitions are for channels that show text."""

    webhook_id: str
    body: bytes
    transitions: Sequence[Transition]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended: delivered when `error` is empty. `status`: of HTTP, None without an answer."""

    error: str = ""
    status: int | None = None
    retry_after_s: float | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver has taken the message."""
        return not self.error


def send(url: str, secret: str, message: Message, now_ms: int, environ: Mapping[str, str] = os.environ) -> Outcome:
    """Try once to deliver a message to a channel. Nothing is raised, and no text of the outcome has a secret in it.

    `url` and `secret` are as the rule file has them: `env:NAME` is looked up here, at each attempt.
    """
    try:
        address = _resolve(url, environ) if url.startswith(ENVIRONMENT) else url
        key = _resolve(secret, environ) if secret else ""
        return _choose_sender(address)(address, key, message, now_ms)
    except _Unset as error:
        return Outcome(error=str(error))
    except ValueError as error:
        return Outcome(error=f"the channel is not usable: {type(error).__name__}")
    except requests.Timeout:
        return Outcome(error=f"no answer within {ANSWER_TIMEOUT_S:.0f} s")
    except requests.RequestException as error:
        return Outcome(error=f"no connection: {type(error).__name__}")


def find_unset_variables(url: str, secret: str, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names of the environment variables that a channel needs and that are not set."""
    names = [check_variable(text) for text in (url, secret) if text.startswith(ENVIRONMENT)]
    return [name for name in names if not environ.get(name)]


class _Unset(Exception):
    """A variable of the environment is not set."""


def _resolve(text: str, environ: Mapping[str, str]) -> str:
    name = check_variable(text)
    if value := environ.get(name):
        return value
    raise _Unset(f"the environment variable {name} is not set for worker-notify")


Sender = Callable[[str, str, Message, int], Outcome]


def _choose_sender(url: str) -> Sender:
    scheme = url.partition("://")[0].lower()
    if scheme in WEBHOOK_SCHEMES:
        return _send_webhook
    if scheme in ("ntfy", "ntfys"):
        return _send_ntfy
    return _send_telegram if scheme == "tgram" else _send_apprise


def _send_webhook(url: str, secret: str, message: Message, now_ms: int) -> Outcome:
    headers = make_headers(message.webhook_id, now_ms, message.body, secret)
    return _post(url, message.body, headers, now_ms)


def _send_ntfy(url: str, secret: str, message: Message, now_ms: int) -> Outcome:
    """`ntfy://topic` is a topic of ntfy.sh, `ntfy://host/topic` one of a server of yours (ntfys:// with TLS)."""
    parts = urlsplit(url)
    topic = parts.path.strip("/")
    scheme = "https" if parts.scheme == "ntfys" else "http"
    address = f"{scheme}://{parts.netloc}/{topic}" if topic else f"{NTFY_URL}/{parts.netloc}"
    headers = {
        "Title": _to_header(make_title(message.transitions)),
        "Priority": NTFY_PRIORITIES.get(message.transitions[0].severity, "3"),
        "X-Message-Id": message.webhook_id,
    }
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    return _post(address, make_text(message.transitions).encode(), headers, now_ms)


def _send_telegram(url: str, secret: str, message: Message, now_ms: int) -> Outcome:
    """`tgram://token/chat`."""
    token, _, chat = url.partition("://")[2].strip("/").partition("/")
    text = f"{make_title(message.transitions)}\n{make_text(message.transitions)}"[:MAX_TELEGRAM_CHARACTERS]
    body = json.dumps({"chat_id": chat, "text": text, "disable_web_page_preview": True}).encode()
    address = f"{TELEGRAM_URL}/bot{quote(token, safe=':')}/sendMessage"
    return _post(address, body, {"Content-Type": "application/json"}, now_ms, _read_telegram_pause)


def _read_telegram_pause(body: bytes) -> str:
    """Return what Telegram asks to wait: {"ok":false,"error_code":429,"parameters":{"retry_after":35}}.

    https://core.telegram.org/bots/api#responseparameters, read 2026-11-26.
    """
    try:
        return str(json.loads(body)["parameters"]["retry_after"])
    except (ValueError, KeyError, TypeError):
        return ""


def _send_apprise(url: str, secret: str, message: Message, now_ms: int) -> Outcome:
    try:
        apprise = importlib.import_module("apprise")
    except ModuleNotFoundError:
        return Outcome(error=f"{url.partition('://')[0]}:// needs the extra: pip install 'fademoe[notify]'")
    sender = apprise.Apprise()
    if not sender.add(url):
        return Outcome(error="apprise does not know this kind of address")
    title, text = make_title(message.transitions), make_text(message.transitions)
    return Outcome() if sender.notify(title=title, body=text) else Outcome(error="apprise could not deliver it")


def _post(
    url: str, body: bytes, headers: Mapping[str, str], now_ms: int, read_pause: Callable[[bytes], str] | None = None
) -> Outcome:
    """Post once; `read_pause` finds in the body of a refusal how long to wait when no header says so.

    ANSWER_TIMEOUT_S holds for all of it: that of requests restarts with every byte, and with every address of a
    name. The thread of an answer without end is left behind, and ends with its process.
    """
    pool = ThreadPool(1)  # its threads are daemons
    answered = pool.apply_async(_exchange, (url, body, headers, now_ms, read_pause))
    pool.close()
    try:
        return answered.get(ANSWER_TIMEOUT_S)
    except multiprocessing.TimeoutError as error:
        raise requests.Timeout from error


def _exchange(
    url: str, body: bytes, headers: Mapping[str, str], now_ms: int, read_pause: Callable[[bytes], str] | None
) -> Outcome:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(
            url, data=body, headers=dict(headers), timeout=ANSWER_TIMEOUT_S, allow_redirects=False, stream=True
        )
        status, retry_after = answer.status_code, answer.headers.get("Retry-After", "")
        if status >= 400 and not retry_after and read_pause:
            retry_after = read_pause(_read_refusal(answer))
        answer.close()
    if 200 <= status < 300:
        return Outcome(status=status)
    return Outcome(error=f"HTTP {status}", status=status, retry_after_s=parse_retry_after(retry_after, now_ms))


def _read_refusal(answer: requests.Response) -> bytes:
    """Return the begin of the body, nothing where it breaks off or is not what its headers say."""
    try:
        content: bytes = answer.raw.read(MAX_READ_BYTES, decode_content=True)
    except (urllib3.exceptions.HTTPError, OSError):
        return b""
    return content


def parse_retry_after(text: str, now_ms: int) -> float | None:
    """Return the seconds that a Retry-After asks for, an hour at most; None where it has none."""
    text = text.strip()
    if text.isdecimal():
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(text)
        at_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()  # dates of HTTP are of UTC
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(at_s - now_ms / SECOND_MS, 0.0), MAX_RETRY_AFTER_S)


def _to_header(text: str) -> str:
    """Return text that a header may carry."""
    return text.encode("ascii", "replace").decode().replace("\n", " ")[:200]
