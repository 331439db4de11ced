"""Connections to PostgreSQL."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import monotonic_s
from fademoe.errors import ConfigError, StoreError
from fademoe.settings import Settings, mask_url
from fademoe.store.queries import load_queries
from fademoe.store.text import register_text

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5  # psycopg2 cannot be interrupted meanwhile, and SIGTERM is obeyed within ten
# A host that vanished is noticed within two minutes: by unanswered probes while we wait, by what it does not take else.
PROBE_IDLE_S, PROBE_INTERVAL_S, PROBES = 30, 10, 3
ENCODING = "UTF8"  # of every database and connection: names of coins are in any script
UNTAKEN_MS = 120_000  # a COPY may have to wait for a lock or a disk
WAIT_S = 30  # how long a starting process waits for PostgreSQL
WAITING = "fademoe wait"  # name of the connections of such processes
SCHEMA_LOCK = 7_226_153  # advisory lock: one migration, or one new partition, at a time
MAINTENANCE_LOCK_TIMEOUT_S = 2.0  # a statement that waits for a whole table holds up all behind it
RETRY_PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # before each further try; a random part of up to a half is added
# not of the statement: StoreError
AWAY = (psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.InternalError, errors.InsufficientPrivilege)
COLLISIONS = (errors.DeadlockDetected, errors.SerializationFailure, errors.LockNotAvailable)  # 40P01, 40001, 55P03

T = TypeVar("T")
SQL = load_queries("connection")
register_text()


class Collision(StoreError):
    """Another transaction was in the way: the same work succeeds when it is run again."""


class Database:
    """One connection, opened when needed, opened again after it broke. Not for use by two threads."""

    def __init__(self, url: str, name: str = "fademoe", **options: Any) -> None:
        """Remember where PostgreSQL is; `options` go to psycopg2.connect."""
        self._url = url
        self._name = name
        self._options = options
        self._connection: Connection | None = None

    @contextmanager
    def open_transaction(self) -> Iterator[Cursor]:
        """Yield a cursor of one transaction: committed at the end, rolled back when the block raises.

        Raises StoreError when PostgreSQL cannot be reached, breaks off or refuses for its own sake: a full disk, a
        server that only reads for the time being; Collision when another transaction was in the way.
        """
        connection = self._open()
        try:
            with connection, connection.cursor() as cursor:
                yield cursor
        except COLLISIONS as error:
            raise Collision(f"PostgreSQL at {mask_url(self._url)}: {get_first_line(error)}") from error
        except AWAY as error:
            self.close()
            raise StoreError(f"PostgreSQL at {mask_url(self._url)}: {get_first_line(error)}") from error

    def run(self, work: Callable[[Cursor], T], *, lock_timeout_s: float | None = None) -> T:
        """Return what `work` returns for the cursor of one transaction, which is committed.

        All that writes goes through here. After a deadlock, a serialization failure or a lock timeout `work` is called
        again in a new transaction, so it must change nothing outside it. `lock_timeout_s` limits each wait for a lock.
        Raises StoreError as `open_transaction` does, and Collision after the last try.
        """
        for pause_s in RETRY_PAUSES_S:
            try:
                return self._try(work, lock_timeout_s)
            except Collision as error:
                log.info("transaction is repeated: %s", error)
            time.sleep(pause_s * random.uniform(1.0, 1.5))
        return self._try(work, lock_timeout_s)

    def _try(self, work: Callable[[Cursor], T], lock_timeout_s: float | None) -> T:
        with self.open_transaction() as cursor:
            if lock_timeout_s is not None:
                cursor.execute(SQL["limit_lock_waits"], {"milliseconds": round(lock_timeout_s * 1000)})
            return work(cursor)

    def close(self) -> None:
        """Close the connection if there is one."""
        if self._connection is not None and not self._connection.closed:
            self._connection.close()
        self._connection = None

    def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            try:
                self._connection = connect(self._url, self._name, **self._options)
            except psycopg2.OperationalError as error:
                raise StoreError(f"PostgreSQL at {mask_url(self._url)}: {get_first_line(error)}") from error
        return self._connection


def connect(url: str, name: str, *, untaken_ms: int = UNTAKEN_MS, **options: Any) -> Connection:
    """Return a new connection, in UTF-8; on it both ends notice within a minute that the other one's host has vanished.

    A server that does not notice keeps the session of a host that lost power, with its locks, for hours. `untaken_ms`:
    how long the server may take nothing that was sent. `options` go to psycopg2.connect. Raises
    psycopg2.OperationalError.
    """
    ours: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "client_encoding": ENCODING,  # whatever the server, the role or PGCLIENTENCODING says
        "keepalives_idle": PROBE_IDLE_S,
        "keepalives_interval": PROBE_INTERVAL_S,
        "keepalives_count": PROBES,
    }
    connection: Connection = psycopg2.connect(
        url, application_name=name, tcp_user_timeout=untaken_ms, **{**ours, **options}
    )
    connection.autocommit = True
    with connection.cursor() as cursor:
        values = {"idle_s": PROBE_IDLE_S, "interval_s": PROBE_INTERVAL_S, "count": PROBES}
        cursor.execute(SQL["watch_client"], values)
    connection.autocommit = False
    return connection


def wait_for_database(settings: Settings, wait_s: float = WAIT_S) -> None:
    """Return when PostgreSQL answers; raise ConfigError that names the address after `wait_s` seconds."""
    database = Database(settings.postgres_url, WAITING)
    deadline = monotonic_s() + wait_s
    while True:
        try:
            with database.open_transaction() as cursor:
                cursor.execute(SQL["ping"])
        except StoreError as error:
            if monotonic_s() >= deadline:
                setting = "FADEMOE_DATABASE_URL" if settings.database_url else "the embedded server (make up starts it)"
                raise ConfigError(f"{error}; waited {wait_s:.0f} s; this is {setting}") from error
            time.sleep(0.3)
        else:
            database.close()
            return


def get_first_line(error: Exception) -> str:
    """Return the first line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
