"""Waits for PostgreSQL and Redis and brings the schema up to date: what every program and command does first."""

import time

from redis.exceptions import RedisError

from fademoe.clock import monotonic_s
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.runtime.services import Services, connect_redis
from fademoe.settings import Settings, mask_url
from fademoe.signals import StopSignal
from fademoe.store.connection import WAIT_S, Database, wait_for_database
from fademoe.store.derived import follow
from fademoe.store.migrate import FIRST_MIGRATION, MIGRATING, migrate


def wait_until_ready(settings: Settings, wait_s: float = WAIT_S) -> Services:
    """Return services whose servers answer and whose schema is up to date.

    Raises ConfigError that names the server which does not answer within `wait_s` seconds.
    """
    wait_for_database(settings, wait_s)
    wait_for_redis(settings, wait_s)
    migrate_database(settings)
    return Services(settings, StopSignal())


def wait_for_schema(settings: Settings, wait_s: float = WAIT_S) -> Services:
    """Return services whose database answers and is up to date, for what needs no Redis; raise ConfigError."""
    wait_for_database(settings, wait_s)
    migrate_database(settings)
    return Services(settings, StopSignal())


def migrate_database(settings: Settings) -> None:
    """Bring the schema up to date; a new database is computed over the exchanges of who made it."""
    database = Database(settings.postgres_url, MIGRATING)
    if FIRST_MIGRATION in migrate(database, list(registry.load_exchanges().values()), is_shared=True):
        follow_exchanges(database, settings)
    database.close()


def follow_exchanges(database: Database, settings: Settings) -> None:
    """Compute the metrics across exchanges over those of these settings from now on, for all who read the database.

    For the scheduler alone, which runs where the system was started: the shell of a command, and a host that has
    joined with workers, may name other exchanges.
    """
    codes = [code for exchange in registry.select_enabled(settings) for code in exchange.codes]
    database.run(lambda cursor: follow(cursor, codes))


def wait_for_redis(settings: Settings, wait_s: float = WAIT_S) -> None:
    """Return when Redis answers; raise ConfigError that names the address after `wait_s` seconds."""
    deadline_s = monotonic_s() + wait_s
    redis = connect_redis(settings)
    while True:
        try:
            redis.ping()
        except RedisError as error:
            if monotonic_s() >= deadline_s:
                setting = "FADEMOE_REDIS_URL" if settings.redis_url else "the embedded server (make up starts it)"
                raise ConfigError(
                    f"Redis at {mask_url(settings.queue_url)}: {error}; waited {wait_s:.0f} s; this is {setting}"
                ) from error
            time.sleep(0.3)
        else:
            redis.close()
            return
