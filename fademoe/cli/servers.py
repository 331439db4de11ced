"""`fademoe postgres`, `fademoe redis`: the embedded servers, as supervisord runs them."""

import click

from fademoe.cli.environment import pass_settings
from fademoe.embedded import servers
from fademoe.settings import Settings


@click.command("postgres")
@pass_settings
def run_postgres(settings: Settings) -> int:
    """Run the embedded PostgreSQL; end at once when FADEMOE_DATABASE_URL names another one."""
    return servers.run_postgres(settings)


@click.command("redis")
@pass_settings
def run_redis(settings: Settings) -> int:
    """Run the embedded Valkey; end at once when FADEMOE_REDIS_URL names another one."""
    return servers.run_redis(settings)
