"""What supervisord runs: streams, workers, the scheduler."""

import argparse
import logging
import signal
from collections.abc import Sequence

from fademoe.cli.edge import DONE, Commands
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.runtime.startup import ready
from fademoe.settings import Settings
from fademoe.streams.runner import StreamRunner
from fademoe.worker import scheduler, worker

log = logging.getLogger(__name__)

# What a shell says of a program that SIGTERM ended. supervisord leaves a stream alone that has nothing to do (0) or was
# stopped through it, and starts one again that somebody else has ended.
TERMINATED = 128 + signal.SIGTERM


def main(argv: Sequence[str]) -> int:
    """Run `stream EXCHANGE`, `worker [--live]` or `scheduler`."""
    commands = Commands()
    commands.add("stream", stream, "follow an exchange live until SIGTERM").add_argument(
        "exchange", help=f"one of {', '.join(registry.names())}"
    )
    commands.add("worker", work, "run one RQ worker until SIGTERM").add_argument(
        "--live", action="store_true", help="serve the live and upkeep queues instead of the exchanges'"
    )
    commands.add("scheduler", schedule, "run the scheduler until SIGTERM")
    return commands.call(argv)


def stream(settings: Settings, args: argparse.Namespace) -> int:
    """Follow one exchange until SIGTERM; return DONE at once when the settings leave it out."""
    if args.exchange not in registry.names():
        raise ConfigError(f"unknown exchange {args.exchange!r}: valid are {', '.join(registry.names())}")
    exchange = registry.exchanges()[args.exchange]
    if exchange not in registry.enabled(settings):
        log.info("%s is not enabled in FADEMOE_EXCHANGES: nothing to follow", exchange.name)
        return DONE
    if not exchange.stream_feeds:
        log.info("%s has no streams", exchange.name)
        return DONE
    context = ready(settings)
    context.stop.install()
    StreamRunner(context, exchange).run()
    context.close()
    return TERMINATED


def work(settings: Settings, args: argparse.Namespace) -> int:
    """Run one RQ worker until SIGTERM."""
    worker.run(ready(settings), live=args.live)
    return DONE


def schedule(settings: Settings, args: argparse.Namespace) -> int:
    """Run the scheduler until SIGTERM."""
    context = ready(settings)
    context.stop.install()
    scheduler.run(context)
    context.close()
    return DONE
