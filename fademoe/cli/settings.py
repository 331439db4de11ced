"""`fademoe settings`, `fademoe psql`."""

import argparse
import os
import shutil
from collections.abc import Sequence

from fademoe.cli.edge import DONE, Commands, guarded
from fademoe.cli.running import inherit_running_settings
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.settings import Settings


def main(argv: Sequence[str]) -> int:
    """Print the settings, or open a shell on the database they name."""
    if argv[0] == "psql":  # its arguments are psql's
        return guarded(lambda settings: shell(settings, argv[1:]), inherit_running_settings)
    commands = Commands(inherit_running_settings)
    commands.add("settings", show, "print the resolved settings, secrets masked")
    return commands.call(argv)


def show(settings: Settings, args: argparse.Namespace) -> int:
    """Print every setting as VARIABLE=value."""
    enabled = ",".join(exchange.name for exchange in registry.enabled(settings))
    for name, value in settings.rows():
        print(f"{name}={enabled if name == 'FADEMOE_EXCHANGES' else value}")
    return DONE


def shell(settings: Settings, arguments: Sequence[str]) -> int:
    """Become psql; raise ConfigError when it is not installed."""
    program = shutil.which("psql")
    if program is None:
        raise ConfigError("psql is not on PATH: install PostgreSQL's client programs (Debian: postgresql-client)")
    os.execv(program, [program, settings.postgres_url, *arguments])
