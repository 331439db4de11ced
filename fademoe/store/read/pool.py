"""Read-only connections for the web: a small pool per process, every statement limited in time.

The queries themselves are in the modules beside this one; each takes a cursor of `Reader.read()`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from fademoe.errors import StoreError
from fademoe.settings import mask_url
from fademoe.store.connection import connect, get_first_line
from fademoe.store.queries import load_queries

STATEMENT_TIMEOUT_S = 5
CONNECT_TIMEOUT_S = 3
BUSY_TIMEOUT_S = 5  # how long a request waits for a free connection
CONNECTIONS = 8
READ_ROLE = "fademoe_read"  # sql/read_role.sql; taken where it is and may: then no statement at all can change anything

SQL = load_queries("connection")


class Busy(StoreError):
    """All connections are taken: the same request is good in a second."""


class TooSlow(StoreError):
    """The statement took longer than a read may take: ask for less."""


class Reader:
    """Connections that can only read, shared by the threads of a process. None is opened before the first read."""

    def __init__(self, url: str, connections: int = CONNECTIONS) -> None:
        """Remember where PostgreSQL is; hold at most `connections` of them."""
        self.url = url
        self._slots = threading.BoundedSemaphore(connections)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []

    @contextmanager
    def read(self) -> Iterator[Cursor]:
        """Yield a cursor in autocommit mode on a read-only session.

        Raises StoreError when PostgreSQL cannot be reached, Busy and TooSlow when it is there but has no time.
        """
        with self._connection() as connection, connection.cursor() as cursor:
            yield cursor

    def close(self) -> None:
        """Close the idle connections; the next read opens new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        if not self._slots.acquire(timeout=BUSY_TIMEOUT_S):
            raise Busy("every connection to PostgreSQL is in use")
        connection = None
        try:
            connection = self._take()
            yield connection
        except psycopg2.errors.QueryCanceled as error:
            raise TooSlow(f"the database needed more than {STATEMENT_TIMEOUT_S} s") from error
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            raise StoreError(f"PostgreSQL at {mask_url(self.url)}: {get_first_line(error)}") from error
        except psycopg2.errors.UndefinedTable as error:
            if connection is not None:
                connection.close()  # one opened later may find the tables, and the role that reads them
            raise StoreError("PostgreSQL answers, but FadeMoe's tables are not in it yet") from error
        except psycopg2.errors.InsufficientPrivilege as error:
            raise StoreError(f"PostgreSQL does not let the web read: {get_first_line(error)}") from error
        finally:
            if connection is not None and not connection.closed:
                with self._lock:
                    self._idle.append(connection)
            self._slots.release()

    def _take(self) -> Connection:
        """Return a connection that answers: an idle one, else a new one."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            if _answers(connection):
                return connection
            self.close()  # PostgreSQL was restarted: what else lies idle is dead as well
        return self._open()

    def _open(self) -> Connection:
        # a server that vanished holds no thread for minutes
        untaken_ms = 2 * STATEMENT_TIMEOUT_S * 1000
        connection = connect(self.url, "fademoe web", untaken_ms=untaken_ms, connect_timeout=CONNECT_TIMEOUT_S)
        connection.set_session(readonly=True, autocommit=True)
        with connection.cursor() as cursor:
            cursor.execute(SQL["limit_statements"], {"seconds": STATEMENT_TIMEOUT_S})
            cursor.execute(SQL["may_read"], {"role": READ_ROLE})
            if cursor.fetchone() == (True,):
                # refused, the session is a read-only one all the same
                with suppress(psycopg2.errors.InsufficientPrivilege, psycopg2.errors.InvalidParameterValue):
                    cursor.execute(SQL["take_role"], {"role": READ_ROLE})
        return connection


def _answers(connection: Connection) -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute(SQL["ping"])
    except (psycopg2.OperationalError, psycopg2.InterfaceError):
        connection.close()
        return False
    return True
