"""Rule files on disk and in the package, and the one way in which they are applied."""

from importlib import resources
from pathlib import Path
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor

from fademoe.alerts import records
from fademoe.alerts.channels import find_unset_variables
from fademoe.alerts.records import Changes
from fademoe.alerts.rules import ALL, DECISIONS, MAX_FILE_BYTES, RuleFile, parse_rule_file
from fademoe.clock import MINUTE_MS, floor_to, now_ms
from fademoe.errors import ConfigError
from fademoe.evaluation.reading import read_contracts
from fademoe.store.connection import Database


class Applied(NamedTuple):
    """What an apply did, and what the user should know about it."""

    changes: Changes
    notes: tuple[str, ...]


def read_rule_file(path: Path) -> tuple[str, RuleFile]:
    """Return the owner's name of a file, its base name, and what is in it; raise ConfigError when it cannot be read."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text") from error
    return path.name, parse_rule_file(text)


def read_shipped(name: str) -> RuleFile:
    """Return what is in a file that comes with FadeMoe."""
    return parse_rule_file(resources.files("fademoe").joinpath("rules", name).read_text(encoding="utf-8"))


def list_unset_variables(content: RuleFile) -> list[str]:
    """Return a sentence for each variable of the environment that a channel needs and that is not set here."""
    return [
        f"channel {channel.name}: {name} is not set here; worker-notify needs it in its environment"
        for channel in content.channels
        for name in find_unset_variables(channel.url, channel.secret)
    ]


def apply_rules(database: Database, file: str, content: RuleFile) -> Applied:
    """Make the rules of a file what `content` says, from this minute on, in one transaction.

    Raises RuleConflict when a name belongs to another file; nothing is changed then.
    """

    def work(cursor: Cursor) -> Applied:
        records.lock_rules(cursor)  # first: the minute that is evaluated meanwhile is over
        minute = floor_to(now_ms(), MINUTE_MS)
        changes = records.apply_file(cursor, file, content, minute)
        return Applied(changes, (*_list_unlisted(cursor, content, minute), *_list_idle_silences(cursor, content)))

    return database.run(work)


def apply_once(database: Database, file: str) -> bool:
    """Apply a file that comes with FadeMoe unless a file of its name was ever applied; return whether it was."""
    content = read_shipped(file)

    def work(cursor: Cursor) -> bool:
        records.lock_rules(cursor)
        if records.was_applied(cursor, file):
            return False
        records.apply_file(cursor, file, content, floor_to(now_ms(), MINUTE_MS))
        return True

    return database.run(work)


def _list_unlisted(cursor: Cursor, content: RuleFile, minute: int) -> list[str]:
    """Return a sentence for each rule that names coins which have no contract on a code: they have no instance."""
    codes = sorted({code for rule in content.rules for code in rule.codes})
    listed = {(one.code, one.symbol) for one in read_contracts(cursor, codes) if one.is_listed(minute)}
    notes = []
    for rule in content.rules:
        named = [] if rule.symbols == ALL else [(code, symbol) for code in rule.codes for symbol in rule.symbols]
        missing = [f"{symbol} on {code}" for code, symbol in named if (code, symbol) not in listed]
        if missing:
            notes.append(f"rule {rule.name}: not listed, so not evaluated: {', '.join(missing)}")
    return notes


def _list_idle_silences(cursor: Cursor, content: RuleFile) -> list[str]:
    """Return a sentence for each silence of a rule that is not in force."""
    in_force = {stored.rule.name for stored in records.list_rules(cursor)}
    named = [silence.match["rule"] for silence in content.silences if "rule" in silence.match]
    return [
        f"a silence names the rule {name}, which is not in force"
        for name in named
        if not name.startswith(DECISIONS) and name not in in_force
    ]
