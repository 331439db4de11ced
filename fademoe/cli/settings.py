"""`fademoe settings`, `fademoe psql`."""

import os
import shutil

import click

from fademoe.cli.environment import pass_running_settings
from fademoe.cli.table import format_table
from fademoe.embedded.servers import find_psql
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.settings import Settings, list_declared_settings


@click.command("settings")
@click.option("--describe", is_flag=True, help="Print what each setting means and its default instead.")
@pass_running_settings
def print_settings(settings: Settings, *, describe: bool) -> None:
    """Print the settings in effect as VARIABLE=value, secrets masked."""
    if describe:
        rows = [(item.variable, item.default_text, item.help) for item in list_declared_settings().values()]
        click.echo(format_table(("variable", "default", "meaning"), rows))
        return
    enabled = ",".join(exchange.name for exchange in registry.select_enabled(settings))
    for variable, value in settings.list_rows():
        click.echo(f"{variable}={enabled if variable == 'FADEMOE_EXCHANGES' else value}")


@click.command("psql", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@pass_running_settings
def open_psql(settings: Settings, arguments: tuple[str, ...]) -> None:
    """Open psql on the database; ARGUMENTS are psql's own, such as -c "SELECT 1"."""
    program = shutil.which("psql") or find_psql()
    if program is None:
        raise ConfigError("psql is not on PATH: install PostgreSQL's client programs (Debian: postgresql-client)")
    os.execv(program, [program, settings.postgres_url, *arguments])
