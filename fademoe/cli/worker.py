"""`fademoe worker`: what supervisord runs several times."""

import logging

import click

from fademoe.cli.environment import pass_settings
from fademoe.cli.main import DONE, TERMINATED
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.queue.ids import ARCHIVES, LIVE, NOTIFY, RESEARCH
from fademoe.runtime.startup import wait_until_ready
from fademoe.settings import Settings
from fademoe.worker import worker

log = logging.getLogger(__name__)


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
