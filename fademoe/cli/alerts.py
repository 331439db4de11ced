"""`fademoe alerts`: check, apply, list, silence and replay alert rules."""

import json
import sys
from pathlib import Path

import click

from fademoe.alerts import records
from fademoe.alerts.files import apply_once, apply_rules, list_unset_variables, read_rule_file
from fademoe.alerts.program import AlertsProgram
from fademoe.alerts.records import Changes, StoredRule
from fademoe.alerts.replay import AFTER_MINUTES, describe_replay, replay_rule
from fademoe.alerts.rules import ALL, MATCH_KEYS, Fault, mask_channel_url, mask_secret
from fademoe.cli.arguments import DAYS, HOURS, TIME, make_window
from fademoe.cli.environment import pass_running_settings, pass_settings
from fademoe.cli.main import BAD_USAGE, DONE, FAILED
from fademoe.cli.table import format_table
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, ceil_to, floor_to, now_ms, to_iso
from fademoe.errors import ConfigError
from fademoe.runtime.startup import wait_until_ready
from fademoe.settings import Settings

FILE = click.Path(path_type=Path, dir_okay=False)


@click.group("alerts")
def alerts() -> None:
    """Check, apply, list, silence and replay alert rules."""


@alerts.command("run")
@pass_settings
def run(settings: Settings) -> None:
    """Evaluate the rules for every closed minute until SIGTERM; supervisord runs this."""
    services = wait_until_ready(settings)
    services.stop.install()
    apply_once(services.database, "data.toml")
    program = AlertsProgram(settings, services.database, services.redis, services.stop)
    program.run()
    services.close()


@alerts.command("check")
@click.argument("file", type=FILE)
def check(file: Path) -> int:
    """Check a rule file and list all of its faults; needs no database."""
    owner, content = read_rule_file(file)
    if content.faults:
        _print_faults(owner, content.faults)
        return BAD_USAGE
    for note in list_unset_variables(content):
        sys.stderr.write(f"fademoe: warning: {note}\n")
    click.echo(f"{owner}: {len(content.rules)} rules, {len(content.channels)} channels: correct")
    return DONE


@alerts.command("apply")
@click.argument("file", type=FILE)
@pass_running_settings
def apply(settings: Settings, file: Path) -> int:
    """Make the rules, channels and silences of FILE what it says; the base name of the file owns them.

    Exit codes: 0 done, 1 a name belongs to another file, 2 the file has faults; nothing is changed then.
    """
    owner, content = read_rule_file(file)
    if content.faults:
        _print_faults(owner, content.faults)
        return BAD_USAGE
    services = wait_until_ready(settings)
    applied = apply_rules(services.database, owner, content)
    services.close()
    click.echo(describe_changes(owner, applied.changes))
    for note in (*applied.notes, *list_unset_variables(content)):
        click.echo(f"note: {note}")
    return DONE


@alerts.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_running_settings
def list_rules(settings: Settings, *, as_json: bool) -> None:
    """Print the rules in force with the states of their instances, the channels and the silences."""
    services = wait_until_ready(settings)
    with services.database.open_transaction() as cursor:
        rules, states = records.list_rules(cursor), records.read_states(cursor)
        channels = records.list_channels(cursor)
        silences = records.list_silences(cursor, now_ms())
    services.close()
    described = [_describe_rule(stored, [one.state for one in states.get(stored.id, {}).values()]) for stored in rules]
    shown = [
        {
            "name": channel.name,
            "file": file,
            "url": mask_channel_url(channel.url),
            "secret": mask_secret(channel.secret),
            "max_age_s": channel.max_age_ms // 1000,
        }
        for channel, file in channels.values()
    ]
    quiet = [
        {"id": one.id, "file": one.file, "match": dict(one.silence.match), "until": to_iso(one.silence.until_ms)}
        for one in silences
    ]
    if as_json:
        click.echo(json.dumps({"rules": described, "channels": shown, "silences": quiet}))
        return
    for title, rows in (("rule", described), ("channel", shown), ("silence", quiet)):
        if rows:
            headings = [title if heading in ("name", "id") else heading for heading in rows[0]]
            click.echo(format_table(headings, [[_to_cell(value) for value in row.values()] for row in rows]))
    if not rules:
        click.echo("no rule is in force: fademoe alerts apply FILE, such as rules/presets.toml")


@alerts.command("silence")
@click.option("--rule", help="Only this rule.")
@click.option("--code", help="Only this exchange code, such as bin.")
@click.option("--symbol", help="Only this coin, such as BTC.")
@click.option("--severity", help="Only info, warning or critical.")
@click.option("--until", type=TIME, help="Its end, such as 2026-12-01T00:00.")
@click.option("--hours", type=HOURS, help="Its length in hours, instead of --until.")
@click.option("--end", "ended", type=int, help="End the silence of this id instead.")
@pass_running_settings
def silence(settings: Settings, until: int | None, hours: float | None, ended: int | None, **match: str | None) -> int:
    """Send nothing of what matches all the given options until a time; states and history go on."""
    if ended is not None:
        services = wait_until_ready(settings)
        found = services.database.run(lambda cursor: records.end_silence(cursor, ended, now_ms()))
        click.echo(f"silence {ended} has ended" if found else f"there is no silence {ended}")
        return DONE if found else FAILED
    wanted = {key: value for key in MATCH_KEYS if (value := match.get(key))}
    if not wanted:
        raise ConfigError(f"a silence needs at least one of {', '.join('--' + key for key in MATCH_KEYS)}")
    if (until is None) == (hours is None):
        raise ConfigError("a silence needs either --until or --hours")
    until_ms = until if until is not None else now_ms() + round((hours or 0) * HOUR_MS)
    if until_ms <= now_ms():
        raise ConfigError("the end of a silence must lie in the future")
    services = wait_until_ready(settings)
    with services.database.open_transaction() as cursor:
        new = records.make_silence(cursor, wanted, until_ms)
        identifier = records.add_silence(cursor, new)
    services.close()
    click.echo(f"silence {identifier} until {to_iso(until_ms)}: {json.dumps(dict(new.match))}")
    return DONE


@alerts.command("replay")
@click.argument("name", metavar="RULE")
@click.option("--days", type=DAYS, help="The last so many days.")
@click.option("--since", type=TIME, help="The first minute, instead of --days.")
@click.option("--until", type=TIME, help="The end, not included; with --since.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_running_settings
def replay(
    settings: Settings, name: str, days: float | None, since: int | None, until: int | None, *, as_json: bool
) -> None:
    """Evaluate a rule on history as live evaluation would have: when it fired, and what the price did afterwards."""
    window = _read_window(days, since, until)
    services = wait_until_ready(settings)
    with services.database.open_transaction() as cursor:
        rules = {stored.rule.name: stored.rule for stored in records.list_rules(cursor) if not stored.rule.data}
        if name not in rules:
            raise ConfigError(f"no rule {name!r} with an expression is in force: valid are {', '.join(sorted(rules))}")
        replayed = replay_rule(cursor, rules[name], window)
    services.close()
    if as_json:
        click.echo(json.dumps(describe_replay(replayed)))
        return
    rows = [
        (
            to_iso(one.minute + MINUTE_MS),
            one.code,
            one.symbol,
            one.state,
            *(None if change is None else f"{change:+.2%}" for change in after.values()),
        )
        for one, after in replayed.transitions
    ]
    headings = ("at", "code", "symbol", "state", *(f"after {minutes}m" for minutes in AFTER_MINUTES))
    click.echo(format_table(headings, rows) if rows else "nothing happened")
    for change in replayed.late:
        one, word = change.transition, "added" if change.is_added else "left out"
        click.echo(f"rows that came late would have {word}: {to_iso(one.minute)} {one.code} {one.symbol} {one.state}")


def _read_window(days: float | None, since: int | None, until: int | None) -> Window:
    """Return the whole minutes of --days, or of --since and --until."""
    now = floor_to(now_ms(), MINUTE_MS)
    if days is not None and since is None and until is None:
        return Window(floor_to(now - round(days * DAY_MS), MINUTE_MS), now)
    if days is None and since is not None and until is not None:
        return make_window(ceil_to(since, MINUTE_MS), min(ceil_to(until, MINUTE_MS), now))
    raise ConfigError("a replay needs either --days or --since and --until")


def describe_changes(owner: str, changes: Changes) -> str:
    """Return what an apply did, a line for each kind of change."""
    kinds = ("added", "changed", "altered", "removed")
    lines = [f"{kind:<9} {', '.join(names)}" for kind in kinds if (names := getattr(changes, kind))]
    if changes.channels:
        lines.append(f"channels  {', '.join(changes.channels)}")
    if changes.silences:
        lines.append(f"silences  {changes.silences}")
    counts = ", ".join(f"{len(getattr(changes, kind))} {kind}" for kind in (*kinds, "unchanged"))
    return "\n".join([*lines, f"{owner}: {counts}"])


def _print_faults(owner: str, faults: tuple[Fault, ...]) -> None:
    for fault in faults:
        sys.stderr.write(f"fademoe: {fault.describe(owner)}\n")


def _describe_rule(stored: StoredRule, states: list[str]) -> dict[str, object]:
    rule = stored.rule
    return {
        "name": rule.name,
        "file": stored.file,
        "version": rule.version,
        "severity": rule.severity,
        "codes": list(rule.codes),
        "symbols": "all" if rule.symbols == ALL else list(rule.symbols),
        "firing": states.count("firing"),
        "pending": states.count("pending"),
        "channels": list(rule.channels),
        "since": to_iso(stored.first_minute),
    }


def _to_cell(value: object) -> object:
    if isinstance(value, list):
        return ",".join(map(str, value)) or None
    return json.dumps(value) if isinstance(value, dict) else value
