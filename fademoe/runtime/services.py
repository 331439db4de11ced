"""The shared services of a process: settings, database, Redis, rate limits and REST, each opened when first used."""

import socket
from functools import cached_property

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from fademoe.client.archive import ArchiveClient
from fademoe.client.clock_offsets import ClockOffsets
from fademoe.client.rate_limit.budgets import Budgets
from fademoe.client.rest import RestClient
from fademoe.client.server_time import ExchangeClocks
from fademoe.settings import Settings
from fademoe.signals import StopSignal
from fademoe.store.connection import Database
from fademoe.store.writer import Writer


def connect_redis(settings: Settings) -> Redis:
    """Open Redis; calls that fail for the network are tried again for about a second."""
    return Redis.from_url(
        settings.queue_url,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 4),
        retry_on_error=[RedisConnectionError],
        health_check_interval=30,
        driver_info=None,  # looking up redis's own version takes milliseconds for each connection of each job
    )


def resolve_egress(settings: Settings) -> tuple[tuple[str, str | None], ...]:
    """Return (name, local address or proxy URL) of each egress; the host's own address goes by the host's name."""
    return settings.egress or ((socket.gethostname(), None),)


class Services:
    """The connections of one process, each opened when first used."""

    def __init__(self, settings: Settings, stop: StopSignal) -> None:
        """Remember the settings; open nothing."""
        self.settings = settings
        self.stop = stop

    @cached_property
    def database(self) -> Database:
        """The process's connection to PostgreSQL."""
        return Database(self.settings.postgres_url)

    @cached_property
    def writer(self) -> Writer:
        """The process's writer."""
        return Writer(self.database)

    @cached_property
    def redis(self) -> Redis:
        """The process's connection to Redis."""
        return connect_redis(self.settings)

    @cached_property
    def clock_offsets(self) -> ClockOffsets:
        """How far the exchanges' clocks are from this machine's."""
        return ClockOffsets(self.redis)

    @property
    def egress_names(self) -> tuple[str, ...]:
        """The names of this host's egress addresses."""
        return tuple(name for name, _ in resolve_egress(self.settings))

    @cached_property
    def budgets(self) -> Budgets:
        """The budgets of this host's egress addresses."""
        return Budgets(
            self.redis,
            self.egress_names,
            self.stop,
            share=lambda exchange: float(self.settings.get_limit_share(exchange)),
            server_now_ms=self.clock_offsets.read_server_now_ms,
        )

    @cached_property
    def rest(self) -> RestClient:
        """The client for exchanges."""
        return RestClient(self.settings, self.budgets, resolve_egress(self.settings), self.clock_offsets)

    @cached_property
    def archive_client(self) -> ArchiveClient:
        """The client for archives of files."""
        return ArchiveClient(self.settings, self.budgets, self.redis, self.stop, resolve_egress(self.settings))

    @cached_property
    def clocks(self) -> ExchangeClocks:
        """The exchanges' clocks."""
        return ExchangeClocks(self.clock_offsets, self.rest)

    def prepare(self) -> None:
        """Make what requests and writes need, for all processes that are forked from this one; connect nothing."""
        self.clocks, self.writer  # noqa: B018 - made by being read

    def close(self) -> None:
        """Close what was opened."""
        for name in ("database", "redis"):
            if name in self.__dict__:
                self.__dict__[name].close()
