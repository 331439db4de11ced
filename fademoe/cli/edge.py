"""The process edge: the only place that reads the environment, sets up logging and turns errors into exit codes."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from fademoe import logs
from fademoe.clock import set_pace
from fademoe.errors import ConfigError, FadeMoeError
from fademoe.feeds import registry
from fademoe.settings import Settings
from fademoe.signals import Stopped

DONE, FAILED, BAD_USAGE = 0, 1, 2

Run = Callable[[Settings, argparse.Namespace], int]
Complete = Callable[[Mapping[str, str]], Mapping[str, str]]


class Commands:
    """The commands of one module: `fademoe NAME …`."""

    def __init__(self, complete: Complete = dict) -> None:
        """Begin without a command; `complete` adds to the environment that the settings are read from."""
        self._complete = complete
        self._parser = argparse.ArgumentParser(prog="fademoe")
        self._commands = self._parser.add_subparsers(required=True)

    def add(self, name: str, run: Run, text: str) -> argparse.ArgumentParser:
        """Add a command; return its parser for its own arguments."""
        parser = self._commands.add_parser(name, help=text, description=text)
        parser.set_defaults(run=run)
        return parser

    def call(self, argv: Sequence[str]) -> int:
        """Parse the command line, name first, and run its command; return the exit code."""
        args = self._parser.parse_args(argv)
        run: Run = args.run
        return guarded(lambda settings: run(settings, args), self._complete)


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings and set the clock's pace; raise ConfigError that names a wrong one and the valid values."""
    settings = Settings.from_env(environ, registry.names())
    if settings.clock:
        set_pace(settings.clock)
    return settings


def guarded(command: Callable[[Settings], int], complete: Complete = dict) -> int:
    """Run a command with logging and settings; print what went wrong in one line and return the exit code.

    0 done, 1 failed, 2 bad usage or settings. A bug keeps its traceback. `complete` adds to the environment.
    """
    logs.set_up()
    try:
        return command(load_settings(complete(os.environ)))
    except ConfigError as error:
        sys.stderr.write(f"fademoe: {error}\n")
        return BAD_USAGE
    except FadeMoeError as error:
        sys.stderr.write(f"fademoe: {error}\n")
        return FAILED
    except BrokenPipeError:  # the reader, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (KeyboardInterrupt, Stopped):
        return FAILED
