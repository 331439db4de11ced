"""The web under gunicorn."""

import errno
import logging
import socket
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.config import Config
from gunicorn.glogging import Logger

from fademoe.errors import ConfigError
from fademoe.settings import LOOPBACK, Settings
from fademoe.web.app import create_app

log = logging.getLogger(__name__)

WORKERS = 2
THREADS = 8
BACKLOG = 512
TIMEOUT_S = 60
GRACE_S = 10


class _Log(Logger):
    """gunicorn's messages in FadeMoe's format."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)


class _Server(BaseApplication):
    """gunicorn with fixed options instead of its command line; it serves the socket of `listener_fd`."""

    def __init__(self, settings: Settings, listener_fd: int) -> None:
        self._settings = settings
        self._listener_fd = listener_fd
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": f"fd://{self._listener_fd}",
            "worker_class": "gthread",
            "workers": WORKERS,
            "threads": THREADS,
            "preload_app": True,  # one copy of the code in memory; no connection is opened before the fork
            "timeout": TIMEOUT_S,
            "graceful_timeout": GRACE_S,
            "keepalive": 5,
            "limit_request_line": 8190,  # bytes, the most it takes: 4,000 characters of one parameter need over 4,094
            "logger_class": _Log,
        }
        for name, value in options.items():
            self.cfg.set(name, value)
        if "control_socket_disable" in self.cfg.settings:  # gunicorn 25 and later open a socket for commands
            self.cfg.set("control_socket_disable", value=True)

    def load(self) -> Any:
        return create_app(self._settings)


def run_web(settings: Settings) -> int:
    """Serve the web until SIGTERM and return 0; raise ConfigError when the address cannot be bound."""
    listener = _listen(settings.web_host, settings.web_port)
    host = f"[{settings.web_host}]" if ":" in settings.web_host else settings.web_host
    log.info("the web is at http://%s:%s/", host, settings.web_port)
    if settings.web_host not in LOOPBACK:
        log.info("FADEMOE_WEB_HOST is not loopback: every page and answer needs the admin token")
    _Server(settings, listener.detach()).run()
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """Return a bound socket. A check of the port without binding it would be a race with other programs."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise ConfigError(f"FADEMOE_WEB_HOST is {host!r}: {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            reason = "another program uses it" if error.errno == errno.EADDRINUSE else "it may not be used by this user"
            raise ConfigError(f"port {port} is not free ({reason}): set FADEMOE_WEB_PORT to another one") from error
        raise ConfigError(f"FADEMOE_WEB_HOST is {host!r}: {error.strerror}") from error
    return listener
