"""`fademoe stream`: what supervisord runs for each exchange. Without the imports of workers, so that it stays small."""

import logging

import click

from fademoe.cli.environment import pass_settings
from fademoe.cli.main import DONE, TERMINATED
from fademoe.feeds import registry
from fademoe.runtime.startup import wait_until_ready
from fademoe.settings import Settings
from fademoe.streams.runner import StreamRunner

log = logging.getLogger(__name__)


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
