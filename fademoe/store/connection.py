"""Connections to PostgreSQL."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import monotonic_s
from fademoe.errors import ConfigError, StoreError
from fademoe.settings import Settings, mask_url

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5  # psycopg2 cannot be interrupted meanwhile, and SIGTERM is obeyed within ten
WAIT_S = 30  # how long a starting process waits for PostgreSQL


class Database:
    """One connection, opened when needed, opened again after it broke. Not for use by two threads."""

    def __init__(self, url: str, name: str = "fademoe", **options: Any) -> None:
        """Remember where PostgreSQL is; `options` go to psycopg2.connect."""
        self._url = url
        self._name = name
        self._options = options
        self._connection: Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """Yield a cursor of one transaction: committed at the end, rolled back when the block raises.

        Raises StoreError when PostgreSQL cannot be reached, breaks off or refuses for its own sake: a full disk, a
        server that only reads for the time being.
        """
        connection = self._open()
        try:
            with connection, connection.cursor() as cursor:
                yield cursor
        except (psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.InternalError) as error:
            self.close()
            raise StoreError(f"PostgreSQL at {mask_url(self._url)}: {first_line(error)}") from error

    def close(self) -> None:
        """Close the connection if there is one."""
        if self._connection is not None and not self._connection.closed:
            self._connection.close()
        self._connection = None

    def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            try:
                self._connection = psycopg2.connect(
                    self._url,
                    connect_timeout=CONNECT_TIMEOUT_S,
                    application_name=self._name,
                    keepalives_idle=30,
                    **self._options,
                )
            except psycopg2.OperationalError as error:
                raise StoreError(f"PostgreSQL at {mask_url(self._url)}: {first_line(error)}") from error
        return self._connection


def wait_for_database(settings: Settings, wait_s: float = WAIT_S) -> None:
    """Return when PostgreSQL answers; raise ConfigError that names the address after `wait_s` seconds."""
    database = Database(settings.postgres_url, "fademoe wait")
    deadline = monotonic_s() + wait_s
    while True:
        try:
            with database.transaction() as cursor:
                cursor.execute("SELECT 1")
        except StoreError as error:
            if monotonic_s() >= deadline:
                setting = "FADEMOE_DATABASE_URL" if settings.database_url else "the embedded server (make up starts it)"
                raise ConfigError(f"{error}; waited {wait_s:.0f} s; this is {setting}") from error
            time.sleep(0.3)
        else:
            database.close()
            return


def first_line(error: Exception) -> str:
    """Return the first line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
