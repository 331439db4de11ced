"""Checks before programs start and while they come up: ports, servers, the web's health, reach of the exchanges."""

import http.client
import json
import shutil
import socket
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode, urlsplit

from redis.exceptions import RedisError

from fademoe.errors import ConfigError
from fademoe.feeds.exchange import Exchange
from fademoe.runtime.services import connect_redis
from fademoe.settings import Settings, mask_url
from fademoe.store.connection import WAIT_S, wait_for_database
from fademoe.tokens import load_admin_token

HTTP_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 4.0
MAX_REASON_LENGTH = 160
MIN_FREE_BYTES = 50_000_000  # with less, the servers cannot be expected to store anything
CONNECTABLE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # listening address -> one to connect to

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Web:
    """Client of the web of a deployment."""

    def __init__(self, settings: Settings) -> None:
        """Name the address; connect to nothing."""
        self._host = CONNECTABLE.get(settings.web_host, settings.web_host)
        self._port = settings.web_port
        self._settings = settings

    @property
    def url(self) -> str:
        """Address for a browser."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/"

    def read_health(self) -> str:
        """Return "" when the web is up and ready, else the reason."""
        status, body = self._get("/health")
        return _describe_failure("/health", status, body)

    def read_rows(self, perpspec: str, **query: str | int) -> tuple[list[dict[str, Any]], str]:
        """Return rows of a perpspec and "", or no rows and the reason why the web shows none."""
        path = f"/api/data/{perpspec}"
        token = load_admin_token(self._settings.admin_token, self._settings.home)
        status, body = self._get(f"{path}?{urlencode(query)}", {"Authorization": f"Bearer {token}"})
        rows: list[dict[str, Any]] = json.loads(body)["rows"] if status == 200 else []
        return rows, _describe_failure(path, status, body)

    def _get(self, path: str, headers: Mapping[str, str] = NO_HEADERS) -> tuple[int, str]:
        """Return (status, body), or (0, reason) when there is no answer; never through a proxy."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=HTTP_TIMEOUT_S)
        try:
            connection.request("GET", path, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, f"no answer yet ({error or type(error).__name__})"
        finally:
            connection.close()


def check_web_port(settings: Settings) -> None:
    """Raise ConfigError that names the setting when the web could not listen on its address."""
    host, port = settings.web_host, settings.web_port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no name of a host"
        raise ConfigError(f"FADEMOE_WEB_HOST is {host!r}: {reason}") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise ConfigError(
                f"FADEMOE_WEB_PORT is {port}, which the web cannot listen on at {host!r} ({error.strerror}):"
                " end what uses it, or set FADEMOE_WEB_PORT to a free port"
            ) from error


def find_free_port(preferred: int) -> int:
    """Return `preferred` when it is free on loopback, else another free port."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            number: int = probe.getsockname()[1]
            return number
    raise ConfigError("no free TCP port on 127.0.0.1")


def check_servers(settings: Settings) -> None:
    """Wait for the servers that the settings name; raise ConfigError that names the setting of one that stays away."""
    if settings.database_url:
        wait_for_database(settings)
    if settings.redis_url:
        _wait_for_redis(settings)


def describe_full_disk(home: Path) -> str:
    """Return "" when the disk of `home` has room, else a sentence that says how little is free."""
    free = shutil.disk_usage(home).free
    if free >= MIN_FREE_BYTES:
        return ""
    return f"the disk is full: {free / 1e6:.0f} MB are free at {home}; collecting resumes when there is room"


def find_unreachable(exchanges: Iterable[Exchange], settings: Settings) -> list[str]:
    """Return a line for each exchange to which this host cannot open a connection now.

    None when FADEMOE_EGRESS is set: requests then leave by another way than the check.
    """
    urls = {exchange.title: settings.rest_urls.get(exchange.name, exchange.rest_url) for exchange in exchanges}
    if settings.egress or not urls:
        return []
    with ThreadPoolExecutor(len(urls)) as pool:
        reasons = list(pool.map(_connection_error, urls.values()))
    return [f"{title} ({url}): {why}" for (title, url), why in zip(urls.items(), reasons, strict=True) if why]


def _describe_failure(path: str, status: int, body: str) -> str:
    """Return "" for the status 200, else what was answered; without an answer the body is the reason."""
    if status == 200:
        return ""
    return f"{path} answers {status}: {_read_reasons(body)}" if status else body


def _read_reasons(body: str) -> str:
    """Return the detail of a problem, or the texts in an answer of /health."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = body
    texts = answer if isinstance(answer, dict) else {"detail": body}
    reasons = [text for text in ([texts["detail"]] if "detail" in texts else texts.values()) if isinstance(text, str)]
    return "; ".join(reasons)[:MAX_REASON_LENGTH].strip()


def _connection_error(url: str) -> str:
    """Return "" when a connection can be opened, else the reason."""
    parts = urlsplit(url)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname, port), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    except UnicodeError:
        return "no name of a host"
    return ""


def _wait_for_redis(settings: Settings) -> None:
    client = connect_redis(settings)
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            client.ping()
        except RedisError as error:
            if time.monotonic() >= deadline:
                url = mask_url(settings.queue_url)
                raise ConfigError(f"FADEMOE_REDIS_URL is {url!r}: {error}; waited {WAIT_S:.0f} s") from error
            time.sleep(0.3)
        else:
            client.close()
            return
