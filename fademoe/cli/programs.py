"""`fademoe stream`, `worker`, `scheduler`: what supervisord runs."""

import logging
import signal

import click

from fademoe.cli.environment import pass_settings
from fademoe.cli.main import DONE
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.queue.ids import ARCHIVES, LIVE, NOTIFY, RESEARCH
from fademoe.runtime.startup import wait_until_ready
from fademoe.settings import Settings
from fademoe.streams.runner import StreamRunner
from fademoe.worker import scheduler, worker

log = logging.getLogger(__name__)

# The exit code that a shell reports for a program that SIGTERM ended. supervisord starts a stream again that ends with
# it, unless supervisord itself was told to stop the stream. A stream that has nothing to do ends with 0 and stays down.
TERMINATED = 128 + signal.SIGTERM


@click.command("stream")
@click.argument("exchange", type=click.Choice(registry.list_names()), metavar="EXCHANGE")
@pass_settings
def run_stream(settings: Settings, exchange: str) -> int:
    """Follow the streams of an exchange until SIGTERM.

    Ends at once with exit code 0 when FADEMOE_EXCHANGES leaves the exchange out.
    """
    table = registry.load_exchanges()[exchange]
    if table not in registry.select_enabled(settings):
        log.info("%s is disabled by FADEMOE_EXCHANGES", exchange)
        return DONE
    if not table.stream_feeds:
        log.info("%s has no streams", exchange)
        return DONE
    services = wait_until_ready(settings)
    services.stop.install()
    StreamRunner(services, table).run()
    services.close()
    return TERMINATED


@click.command("worker")
@click.option("--live", is_flag=True, help="Serve the queues live and upkeep instead of those of the exchanges.")
@click.option("--notify", is_flag=True, help="Serve the queue notify: deliver alerts.")
@click.option("--archive", is_flag=True, help="Serve the queue of the archives of files.")
@click.option("--research", is_flag=True, help="Serve the queue research: backtests and sweeps.")
@pass_settings
def run_worker(settings: Settings, *, live: bool, notify: bool, archive: bool, research: bool) -> int:
    """Run one RQ worker until SIGTERM.

    With --archive it ends at once with exit code 0 when FADEMOE_ARCHIVES allows no archive.
    """
    chosen = [kind for kind, on in ((LIVE, live), (NOTIFY, notify), (ARCHIVES, archive), (RESEARCH, research)) if on]
    if len(chosen) > 1:
        raise ConfigError("--live, --notify, --archive and --research name different queues: give one of them")
    if archive and not registry.select_archives(settings):
        log.info("FADEMOE_ARCHIVES allows no archive")
        return DONE
    worker.run(wait_until_ready(settings), *chosen)
    return TERMINATED if archive else DONE


@click.command("scheduler")
@pass_settings
def run_scheduler(settings: Settings) -> None:
    """Run the scheduler until SIGTERM: polls, reconcile, audit and maintenance at their times."""
    services = wait_until_ready(settings)
    services.stop.install()
    scheduler.run(services)
    services.close()
