"""`fademoe reconcile`, `fademoe retry`, `fademoe migrate`: do now what the scheduler does later."""

import click

from fademoe.cli.arguments import PERPSPEC, SYMBOL
from fademoe.cli.environment import pass_running_settings
from fademoe.feeds import registry
from fademoe.jobs.reconcile import enqueue_missing
from fademoe.queue.ids import list_window_queues
from fademoe.queue.retry import requeue_failed
from fademoe.queue.states import list_failed_jobs
from fademoe.runtime.startup import wait_until_ready
from fademoe.settings import Settings


@click.command("reconcile")
@pass_running_settings
def reconcile(settings: Settings) -> None:
    """Enqueue everything that is wanted and missing; print how many windows per exchange."""
    for exchange, count in enqueue_missing(wait_until_ready(settings)).items():
        click.echo(f"{exchange}: {count} windows enqueued")


@click.command("retry")
@click.option("--source", type=PERPSPEC, help="Only this perpspec, such as bin-ohlcv.")
@click.option("--symbol", type=SYMBOL, help="Only this symbol, such as BTC.")
@pass_running_settings
def retry(settings: Settings, source: str | None, symbol: str | None) -> None:
    """Put windows that are paused after repeated failures back into their queue."""
    services = wait_until_ready(settings)
    count = 0
    for name in list_window_queues(*registry.list_names()):
        tasks = [
            job_id
            for job_id, task in list_failed_jobs(services.redis, [name])
            if source in (None, task.series.source) and symbol in (None, task.series.symbol)
        ]
        count += requeue_failed(services.redis, name, tasks)
    click.echo(f"{count} windows are back in their queue")


@click.command("migrate")
@pass_running_settings
def migrate(settings: Settings) -> None:
    """Bring the database schema up to date."""
    wait_until_ready(settings).close()
    click.echo("the schema is up to date")
