"""Connections to exchanges that leave by one egress: a local address, a proxy, or as the host routes them."""

import ssl
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.contrib.socks import SOCKSProxyManager
from urllib3.util.ssl_ import create_urllib3_context

POOL = 16  # connections kept alive per host


def open_pool(address: str | None) -> urllib3.PoolManager:
    """Return connections for many small answers, by a local address, through a proxy URL, or (None) by the route.

    Without what a session does for each request, which takes longer than reading a page.
    """
    options: dict[str, Any] = {"maxsize": POOL, "ssl_context": _make_ssl_context()}
    if address is None:
        return urllib3.PoolManager(**options)
    if "://" not in address:
        return urllib3.PoolManager(**options, source_address=(address, 0))
    parts = urlsplit(address)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme.startswith("socks"):
        return SOCKSProxyManager(address, username=user or None, password=password or None, **options)
    headers = urllib3.make_headers(proxy_basic_auth=f"{user}:{password}") if user else None
    return urllib3.ProxyManager(address, proxy_headers=headers, **options)


def open_session(address: str | None) -> requests.Session:
    """Return a session for files that leaves by a local address, through a proxy URL, or (None) by the host's route."""
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


class _BoundAdapter(HTTPAdapter):
    """Sends from one local address."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__(pool_maxsize=POOL)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, source_address=(self._address, 0), **kwargs)


@cache
def _make_ssl_context() -> ssl.SSLContext:
    """Return what verifies exchanges' certificates; loading the authorities takes as long as some requests."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    context.load_verify_locations(certifi.where())
    return context
