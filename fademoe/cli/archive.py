"""`fademoe archive status|check`: what came from files of archives, and what has changed there since."""

import json

import click

from fademoe.cli.environment import pass_running_settings
from fademoe.cli.main import DONE, FAILED
from fademoe.cli.table import format_table
from fademoe.clock import to_iso
from fademoe.errors import ConfigError
from fademoe.feeds import registry
from fademoe.jobs.archive_check import check_archive
from fademoe.queue.ids import ARCHIVES
from fademoe.queue.states import read_job_states
from fademoe.runtime.startup import wait_until_ready
from fademoe.settings import Settings
from fademoe.store import files

SHOWN = 50  # files that are short or in quarantine


@click.group("archive")
def archive() -> None:
    """Show what came from files of archives, or compare it with what they list now."""


@archive.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_running_settings
def show_status(settings: Settings, *, as_json: bool) -> int:
    """Print files by dataset and state, what is in quarantine and why, and what waits."""
    services = wait_until_ready(settings)
    with services.database.open_transaction() as cursor:
        counts = files.count_by_state(cursor)
        odd = files.list_in_state(cursor, (files.FileState.QUARANTINED, files.FileState.SHORT), SHOWN)
    waiting = len(read_job_states(services.redis, ARCHIVES))
    if as_json:
        click.echo(json.dumps({"files": counts, "odd": odd, "waiting": waiting}, indent=1))
        return DONE
    allowed = registry.select_archives(settings)
    click.echo(f"allowed: {', '.join(f'{name} ({item.terms})' for name, item in allowed.items()) or 'none'}")
    click.echo(f"waiting or running: {waiting} periods")
    columns = ("exchange", "dataset", "state", "files", "rows", "megabytes", "since", "until")
    rows = [
        (
            each["exchange"],
            each["dataset"],
            each["state"],
            each["files"],
            each["rows"],
            f"{each['bytes'] / 1e6:.1f}",
            to_iso(each["start_ms"])[:10],
            to_iso(each["end_ms"])[:10],
        )
        for each in counts
    ]
    click.echo(format_table(columns, rows))
    for each in odd:
        click.echo(f"{each['state']}: {each['exchange']} {each['path']}: {each['reason']}")
    return DONE


@archive.command("check")
@click.option("--exchange", "name", help="Only this exchange.")
@pass_running_settings
def check(settings: Settings, name: str | None) -> int:
    """List the archives' files again; import new and rewritten files.

    A file that was rewritten is imported again as an audit. Exit code 1 when an archive cannot be listed.
    """
    allowed = registry.select_archives(settings)
    if name is not None and name not in allowed:
        raise ConfigError(f"--exchange is {name!r}: valid are {', '.join(allowed) or 'none, see FADEMOE_ARCHIVES'}")
    if not allowed:
        raise ConfigError("FADEMOE_ARCHIVES allows no archive")
    services = wait_until_ready(settings)
    failed = False
    for each in allowed.values():
        if name not in (None, each.exchange):
            continue
        result = check_archive(services, registry.load_exchanges()[each.exchange], each)
        click.echo(result.describe())
        failed = failed or bool(result.errors)
    return FAILED if failed else DONE
