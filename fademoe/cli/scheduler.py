"""`fademoe scheduler`: what supervisord runs once. Without the imports of workers, so that it stays small."""

import click

from fademoe.cli.environment import pass_settings
from fademoe.runtime.startup import follow_exchanges, wait_until_ready
from fademoe.settings import Settings
from fademoe.worker import scheduler


@click.command("scheduler")
@pass_settings
def run_scheduler(settings: Settings) -> None:
    """Run the scheduler until SIGTERM: polls, reconcile, audit and maintenance at their times."""
    services = wait_until_ready(settings)
    services.stop.install()
    follow_exchanges(services.database, settings)
    scheduler.run(services)
    services.close()
