"""What a request works with: the settings, the readers of PostgreSQL and Redis. One object per application."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import redis

from fademoe.errors import StoreError
from fademoe.settings import Settings
from fademoe.store.read.pool import Reader
from fademoe.web.model.queue_rates import Samples

REDIS_TIMEOUT_S = 2

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Services:
    """The things behind the routes. Nothing is connected before it is used, so a fork in between does no harm."""

    settings: Settings
    reader: Reader
    redis: redis.Redis
    samples: Samples = field(default_factory=Samples)


def make_services(settings: Settings) -> Services:
    """Build the services of an application."""
    return Services(
        settings=settings,
        reader=Reader(settings.postgres_url),
        redis=redis.Redis.from_url(
            settings.queue_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
        ),
    )


def attempt(read: Callable[[], Found]) -> tuple[Found | None, str | None]:
    """Return what a read found; when a server is away, None and the reason, for a page that says so."""
    try:
        return read(), None
    except StoreError as error:
        return None, str(error)
