"""`fademoe reconcile`, `fademoe migrate`."""

import argparse
from collections.abc import Sequence

from fademoe.cli.edge import DONE, Commands
from fademoe.cli.running import inherit_running_settings
from fademoe.jobs import maintenance
from fademoe.runtime import context as contexts
from fademoe.runtime.startup import ready
from fademoe.settings import Settings


def main(argv: Sequence[str]) -> int:
    """Do a chore now instead of waiting for the scheduler."""
    commands = Commands(inherit_running_settings)
    commands.add("reconcile", reconcile, "enqueue everything that is wanted and missing, now")
    commands.add("migrate", update_schema, "bring the schema up to date")
    return commands.call(argv)


def reconcile(settings: Settings, args: argparse.Namespace) -> int:
    """Enqueue what is missing and print how many windows that is per exchange."""
    context = ready(settings)
    contexts.use(context)
    for exchange, count in maintenance.reconcile().items():
        print(f"{exchange}: {count} windows enqueued")
    return DONE


def update_schema(settings: Settings, args: argparse.Namespace) -> int:
    """Apply pending migrations."""
    ready(settings).close()
    print("the schema is up to date")
    return DONE
