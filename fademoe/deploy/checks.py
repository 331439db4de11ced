"""What is looked at before programs start, and while they come up: ports, servers, the web's health, the exchanges."""

import http.client
import json
import shutil
import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from redis.exceptions import RedisError

from fademoe.errors import ConfigError
from fademoe.feeds.exchange import Exchange
from fademoe.runtime.context import connect_redis
from fademoe.settings import Settings, mask_url
from fademoe.store.connection import WAIT_S, wait_for_database

HTTP_TIMEOUT_S = 5.0
REACH_S = 4.0
REASON_LENGTH = 160
FULL_BYTES = 50_000_000  # with less the servers cannot be expected to store anything
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # listening address -> one to connect to


class Web:
    """The web of a deployment, as its users see it."""

    def __init__(self, settings: Settings) -> None:
        """Name the address; nothing is asked yet."""
        self._host = EVERYWHERE.get(settings.web_host, settings.web_host)
        self._port = settings.web_port

    @property
    def url(self) -> str:
        """The address for a browser."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/"

    def health(self) -> str:
        """Return "" when the web is up and ready, else what is wrong."""
        status, body = self._get("/health")
        if status == 200:
            return ""
        return f"/health says {status}: {_reasons(body)}" if status else body

    def rows(self, perpspec: str, **query: str | int) -> list[dict[str, Any]]:
        """Return rows of a perpspec; none as long as the web has none, does not answer or does not know the symbol."""
        status, body = self._get(f"/api/data/{perpspec}?{urlencode(query)}")
        if status != 200:
            return []
        found: list[dict[str, Any]] = json.loads(body)["rows"]
        return found

    def _get(self, path: str) -> tuple[int, str]:
        """Return (status, body), or (0, why there is no answer); never through a proxy."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=HTTP_TIMEOUT_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, f"no answer yet ({error or type(error).__name__})"
        finally:
            connection.close()


def check_web_port(settings: Settings) -> None:
    """Raise ConfigError when the web could not listen on its address."""
    host, port = settings.web_host, settings.web_port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(f"FADEMOE_WEB_HOST is {host!r}: {error.strerror}") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise ConfigError(
                f"FADEMOE_WEB_PORT is {port}, which the web cannot listen on at {host!r} ({error.strerror}):"
                " end what uses it, or set FADEMOE_WEB_PORT to a free port"
            ) from error


def free_port(preferred: int) -> int:
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
    """Wait for the servers that the settings name; raise ConfigError that names the setting when one stays away."""
    if settings.database_url:
        wait_for_database(settings)
    if settings.redis_url:
        _wait_for_redis(settings)


def disk_trouble(home: Path) -> str:
    """Return "" when there is room where the data are, else how little there is."""
    free = shutil.disk_usage(home).free
    if free >= FULL_BYTES:
        return ""
    return f"the disk is full: {free / 1e6:.0f} MB are free where {home} is; all goes on by itself when there is room"


def unreachable(exchanges: Iterable[Exchange], settings: Settings) -> list[str]:
    """Return a line for each exchange to which no connection can be opened from here now."""
    urls = {exchange.title: settings.rest_urls.get(exchange.name, exchange.rest_url) for exchange in exchanges}
    if settings.egress or not urls:  # through a proxy or from another address: this host's own reach says nothing
        return []
    with ThreadPoolExecutor(len(urls)) as pool:
        reasons = list(pool.map(_reach, urls.values()))
    found = zip(urls.items(), reasons, strict=True)
    return [f"{title} ({url}): {reason}" for (title, url), reason in found if reason]


def _reasons(body: str) -> str:
    """Return what an answer of /health says in words."""
    try:
        found = json.loads(body)
    except ValueError:
        found = body
    reasons = [value for value in found.values() if isinstance(value, str)] if isinstance(found, dict) else [str(found)]
    return "; ".join(reasons)[:REASON_LENGTH].strip()


def _reach(url: str) -> str:
    """Return "" when a connection can be opened, else why not."""
    parts = urlsplit(url)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname, port), REACH_S).close()
    except OSError as error:
        return error.strerror or str(error)
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
