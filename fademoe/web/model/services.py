"""What a request works with: the settings, PostgreSQL and Redis. One object per application."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import redis
from psycopg2.extensions import cursor as Cursor

from fademoe.errors import StoreError
from fademoe.settings import Settings, mask_url
from fademoe.store.connection import Database
from fademoe.store.read.pool import Reader
from fademoe.web.model.queue_rates import QueueRates

REDIS_TIMEOUT_S = 2

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Services:
    """The services behind the routes. None connects before its first use, so a process may fork before that."""

    settings: Settings
    reader: Reader
    redis: redis.Redis
    queue_rates: QueueRates = field(default_factory=QueueRates)
    run_rates: QueueRates = field(default_factory=QueueRates)  # of runs of the backtester: millionths yet to do


def make_services(settings: Settings) -> Services:
    """Return the services of an application."""
    return Services(
        settings=settings,
        reader=Reader(settings.postgres_url),
        redis=redis.Redis.from_url(
            settings.queue_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
        ),
    )


def attempt(read: Callable[[], T]) -> tuple[T | None, str | None]:
    """Return (result, None); when a server is unavailable, (None, reason) for a page that shows the reason."""
    try:
        return read(), None
    except StoreError as error:
        return None, str(error)


def run_change(services: Services, work: Callable[[Cursor], T]) -> T:
    """Return what `work` returns for the cursor of a transaction that may write, on a connection of its own.

    Changes are rare, so none is kept open. Raises StoreError as `Database.run` does.
    """
    database = Database(services.settings.postgres_url, "fademoe web change")
    try:
        return database.run(work)
    finally:
        database.close()


@contextmanager
def convert_redis_errors(connection: redis.Redis) -> Iterator[None]:
    """Raise the errors of Redis inside the block as StoreError with its address."""
    try:
        yield
    except redis.RedisError as error:
        raise StoreError(f"Redis at {_address(connection)}: {error}") from error


def _address(connection: redis.Redis) -> str:
    given = connection.connection_pool.connection_kwargs
    if "path" in given:
        return f"unix://{given['path']}"
    return mask_url(f"redis://{given.get('host')}:{given.get('port')}/{given.get('db') or 0}")
