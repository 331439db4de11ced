"""The group of all commands, and how errors become one line and an exit code."""

import importlib
import os
import signal
import sys
from collections.abc import Sequence

import click

from fademoe import __version__, logs
from fademoe.errors import ConfigError, FadeMoeError
from fademoe.signals import Stopped

DONE, FAILED, BAD_USAGE = 0, 1, 2
# The exit code that a shell reports for a program that SIGTERM ended. supervisord starts a stream again that ends with
# it, unless supervisord itself was told to stop the stream. A stream that has nothing to do ends with 0 and stays down.
TERMINATED = 128 + signal.SIGTERM

COMMANDS = {  # command -> (module of this package that defines it, the begin of its help)
    "up": ("deploy", "Start everything"),
    "down": ("deploy", "Stop everything"),
    "demo": ("deploy", "Start everything against the built-in exchange simulator"),
    "status": ("deploy", "Show what runs"),
    "seed": ("seed", "Want a range of history and enqueue what is missing of it"),
    "symbols": ("symbols", "Print which contract each symbol is on each exchange"),
    "universe": ("symbols", "Print the contracts that traded at a time, dead ones included"),
    "tiers": ("tiers", "Import tiers of maintenance margin from a file that you exported"),
    "gaps": ("completeness", "Print what is wanted and missing, and why"),
    "coverage": ("completeness", "Print what is wanted, complete, absent and missing of each series"),
    "verify": ("completeness", "Print a certificate of a series"),
    "audit": ("completeness", "Fetch stored rows again, compare them value by value, and correct what differs"),
    "backtest": ("backtest", "Run a strategy over stored minutes; list, show and verify runs"),
    "export": ("export", "Write series as Parquet files with their certificates"),
    "retry": ("maintenance", "Put windows that are paused after repeated failures back into their queue"),
    "reconcile": ("maintenance", "Enqueue everything that is wanted and missing"),
    "archive": ("archive", "Show what came from files of archives, or compare it with what they list now"),
    "migrate": ("maintenance", "Bring the database schema up to date"),
    "settings": ("settings", "Print the settings in effect"),
    "psql": ("settings", "Open psql on the database"),
    "postgres": ("servers", "Run the embedded PostgreSQL"),
    "redis": ("servers", "Run the embedded Valkey"),
    "stream": ("stream", "Follow the streams of an exchange"),
    "worker": ("worker", "Run one RQ worker"),
    "scheduler": ("scheduler", "Run the scheduler"),
    "alerts": ("alerts", "Check, apply, list, silence and replay alert rules"),
    "web": ("web", "Run the web server"),
    "trader": ("trader", "Make, show and reconcile paper accounts"),
    "mcp": ("assistants", "Answer AI assistants over the Model Context Protocol"),
    "simulator": ("simulator", "Run the exchange simulator"),
}


class LazyGroup(click.Group):
    """A group that imports the module of a command only when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"fademoe.cli.{COMMANDS[cmd_name][0]}")
        commands = [item for item in vars(module).values() if isinstance(item, click.Command)]
        return next(command for command in commands if command.name == cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands for `--help`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name; raise UsageError with the valid names."""
        if args[0] not in COMMANDS:
            raise click.UsageError(f"unknown command {args[0]!r}: valid are {', '.join(COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)


@click.group("fademoe", cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="fademoe %(version)s")
def run_command() -> None:
    """Collect the market data of crypto perpetual futures into your own database, and keep it complete.

    Exit codes: 0 done, 1 failed, 2 bad usage or settings. Results go to stdout, logs and errors to stderr.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 bad usage or settings.

    An expected error is printed to stderr in one line; any other keeps its traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    logs.set_up()
    try:
        return run_command.main(arguments or ["--help"], prog_name="fademoe", standalone_mode=False) or DONE
    except (click.ClickException, ConfigError) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        sys.stderr.write(f"fademoe: {' '.join(message.split())}\n")
        return BAD_USAGE
    except FadeMoeError as error:
        sys.stderr.write(f"fademoe: {error}\n")
        return FAILED
    except _find_redis_error() as error:  # such as of one that is full
        sys.stderr.write(f"fademoe: Redis refuses: {' '.join(str(error).split())}\n")
        return FAILED
    except BrokenPipeError:  # the reader, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (click.Abort, Stopped):
        return FAILED


def _find_redis_error() -> type[Exception] | tuple[()]:
    """Return the base of Redis's errors, none where the command has not imported it: that takes a tenth of a second."""
    return sys.modules["redis"].RedisError if "redis" in sys.modules else ()
