"""`fademoe up`, `down`, `demo`, `status`."""

from collections import Counter
from collections.abc import Collection

import click

from fademoe.cli.environment import pass_settings
from fademoe.cli.main import DONE, FAILED
from fademoe.cli.table import format_table
from fademoe.deploy import up as deployment
from fademoe.settings import Settings
from fademoe.supervisord.client import Program


@click.command("up")
@click.option("--only", multiple=True, metavar="PROGRAM", help="Start only this program or group, such as worker.")
@click.argument("more", nargs=-1, metavar="[PROGRAM]...")
@pass_settings
def start_system(settings: Settings, only: tuple[str, ...], more: tuple[str, ...]) -> int:
    """Start everything, or with --only a part, and wait until it works. Safe to repeat: starts what is stopped."""
    if more and not only:
        raise click.UsageError(f"unexpected argument {more[0]!r}: fademoe up --only {' '.join(more)} starts a part")
    return deployment.start_system(settings, only=(*only, *more))


@click.command("down")
@pass_settings
def stop_system(settings: Settings) -> int:
    """Stop everything, the demo included."""
    return deployment.stop_system(settings)


@click.command("demo")
@pass_settings
def run_demo(settings: Settings) -> int:
    """Start everything against the built-in exchange simulator, in a home of its own, and wait for data."""
    return deployment.run_demo(settings)


@click.command("status")
@pass_settings
def show_status(settings: Settings) -> int:
    """Show what runs; exit code 1 when something that was started does not run."""
    homes = deployment.list_homes(settings)
    if not homes:
        click.echo("FadeMoe is not running: make up starts it, make demo shows it without the internet")
    for shown in homes:
        click.echo(f"{shown.title} ({shown.home}): {'all programs run' if shown.is_fine else 'not everything runs'}")
        for problem in shown.problems:
            click.echo(f"  {problem}")
        groups = dict.fromkeys(program.group for program in shown.programs)
        rows = [_describe_group([row for row in shown.programs if row.group == group]) for group in groups]
        click.echo("\n".join(f"  {line}" for line in format_table(("", "", ""), rows).splitlines()))
    return DONE if homes and all(shown.is_fine for shown in homes) else FAILED


def _describe_group(programs: Collection[Program]) -> tuple[str, str, str]:
    """Return (name, states, uptime of the youngest) of a program, or of a group of them in one line."""
    counts = Counter(map(_describe_state, programs))
    states = ", ".join(state if len(programs) == 1 else f"{count} {state}" for state, count in counts.items())
    uptimes = [program.uptime_s for program in programs if program.pid]
    return next(iter(programs)).group, states, f"for {_format_duration(min(uptimes))}" if uptimes else ""


def _describe_state(program: Program) -> str:
    if program.is_unneeded:
        return "not needed"
    if not program.was_started:
        return "not started"
    if program.state == "EXITED":
        return f"ended with exit code {program.exit_code}"
    if program.state == "BACKOFF":
        return f"failing, see {program.log_path}"
    return program.state.lower()


def _format_duration(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
