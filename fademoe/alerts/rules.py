"""Rule files: TOML read and checked as a whole. `fademoe alerts check` needs nothing but this and the language."""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fademoe.alerts.ids import make_rule_version
from fademoe.alerts.language import compile_condition, compile_text
from fademoe.alerts.state_machine import Timing
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, parse_time
from fademoe.errors import ConfigError
from fademoe.expressions import ExpressionError
from fademoe.feeds import registry
from fademoe.settings import PREFIX, check_symbol

SEVERITIES = ("info", "warning", "critical")
ALL = ("all",)
NO_DELAYS = Timing()
MATCH_KEYS = ("rule", "code", "symbol", "severity")
SECRET_KEYS = ("url", "secret")  # what they hold is in no message
DURATIONS = ("durations such as 30s, 5m, 4h, 2d",)
DATA_KINDS = ("server", "disk", "stream", "program", "gap", "drift", "ban", "outage", "workers", "failed")
WEBHOOK_SCHEMES = ("http", "https")
TELEGRAM = "tgram"
UNITS_MS = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
MAX_DURATION_MS = 31 * DAY_MS
MAX_RULES = 2_000  # of one file
MAX_FILE_BYTES = 2_000_000
ENVIRONMENT = "env:"
NUL = "\0"  # PostgreSQL stores none
NUL_FAULT = "has the character NUL, which cannot be stored"
DECISIONS = "trader-"  # begin of the rule that decisions of a paper account are alerts of, before its name

_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_TELEGRAM = re.compile(r"[^/]+://[^/\s]+/[^/\s]+/?")  # token and chat
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HEADER = re.compile(r"\s*\[\[?\s*([\w-]+)\s*\]?\]\s*(#.*)?$")
_KEY = re.compile(r"\s*[\"']?([\w-]+)[\"']?\s*=")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule. Either `expr` or `data` (a kind of data alert) says what it watches.

    `expr` and `clear` are as written; `canonical` are both as they are printed again, which blanks do not change.
    """

    name: str
    expr: str = ""
    clear: str = ""
    canonical: tuple[str, str] = ("", "")
    data: str = ""
    codes: tuple[str, ...] = ()  # sorted; empty for a data rule, whose instances are what is found
    symbols: tuple[str, ...] = ALL  # sorted, or ALL
    timing: Timing = NO_DELAYS
    severity: str = "warning"
    message: str = ""
    channels: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """What decides the states: message, severity and channels do not."""
        content: dict[str, object] = {
            "expr": self.canonical[0],
            "clear": self.canonical[1] or None,
            "codes": list(self.codes),
            "symbols": "all" if self.symbols == ALL else list(self.symbols),
            "for": self.timing.pending,
            "keep_firing_for": self.timing.keep,
            "cooldown": self.timing.cooldown,
        }
        return make_rule_version(content | ({"data": self.data} if self.data else {}))


@dataclass(frozen=True, kw_only=True)
class Channel:
    """Where messages go. `secret` is `env:NAME` or empty; `url` may be `env:NAME` too."""

    name: str
    url: str
    secret: str = ""
    group_wait_ms: int = 0
    max_age_ms: int = 15 * MINUTE_MS


@dataclass(frozen=True, kw_only=True)
class Silence:
    """Nothing is sent of the transitions that match in minutes that end before `until_ms`."""

    match: Mapping[str, str]
    until_ms: int

    def covers(self, minute: int, labels: Mapping[str, str]) -> bool:
        """Return whether it silences a transition of `minute`; `labels` has a value for each of MATCH_KEYS."""
        return minute + MINUTE_MS < self.until_ms and all(labels[key] == value for key, value in self.match.items())


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One mistake in a file: `column` counts from 1 inside an expression, 0 where it is none; `line` 0: unknown."""

    owner: str  # such as "rule oi-surge" or "channel 2"
    key: str
    message: str
    line: int = 0
    column: int = 0
    valid: tuple[str, ...] = ()

    def describe(self, file: str) -> str:
        """Write the fault in one line."""
        where = f"{file}:{self.line}" if self.line else file
        subject = ", ".join(part for part in (self.owner, self.key) if part)
        column = f" at character {self.column}" if self.column else ""
        valid = f"; valid are {', '.join(self.valid)}" if self.valid else ""
        return f"{where}: {subject + column + ': ' if subject else ''}{self.message}{valid}"


@dataclass(frozen=True, kw_only=True)
class RuleFile:
    """A file that was read: what it declares and every fault of it."""

    rules: tuple[Rule, ...] = ()
    channels: tuple[Channel, ...] = ()
    silences: tuple[Silence, ...] = ()
    faults: tuple[Fault, ...] = ()


class MatchError(ConfigError):
    """A label of a silence that no transition has: its key, and the valid values where they are few."""

    def __init__(self, key: str, problem: str, valid: Sequence[str] = ()) -> None:
        """Describe the problem."""
        super().__init__(f"{problem}; valid are {', '.join(valid)}" if valid else problem)
        self.key = key
        self.problem = problem
        self.valid = tuple(valid)


def check_match(match: Mapping[str, str], rules: Iterable[Rule], *, are_all: bool = True) -> dict[str, str]:
    """Return what a silence matches, a coin in upper case; raise MatchError for what no transition has.

    `rules` are those in force; unless `are_all`, others may be, and are not judged. Decisions of a paper account are
    alerts of a rule of its own, whose name begins with DECISIONS. What rules with `data` find is
    named by more than codes and coins: with such a rule these are taken as they are. An aggregator has several codes,
    and is named itself by what is wrong with it.
    """
    known = {rule.name: rule for rule in rules}
    name, severity = match.get("rule"), match.get("severity")
    is_known = name is None or name in known or name.startswith(DECISIONS)
    if not is_known and are_all:
        valid_names = [*sorted(known), f"{DECISIONS}<paper account>"]
        raise MatchError("rule", f"no rule {name!r} is in force", valid_names)
    if severity is not None and severity not in SEVERITIES:
        raise MatchError("severity", f"{severity!r} is no severity", SEVERITIES)
    rule = known.get(name or "")
    if not is_known or (rule is not None and rule.data):
        return dict(match)
    code, symbol = match.get("code"), match.get("symbol")
    aggregators = [name for name, exchange in registry.load_exchanges().items() if len(exchange.codes) > 1]
    if code is not None and code not in (valid := (*list_codes(), *sorted(aggregators))):
        raise MatchError("code", f"unknown code {code!r}", valid)
    try:
        return dict(match) if symbol is None else {**match, "symbol": check_symbol(symbol)}
    except ConfigError as error:
        raise MatchError("symbol", str(error)) from error


def parse_rule_file(text: str) -> RuleFile:
    """Read a rule file; nothing is raised: all faults are in the result, in the order of their lines."""
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of its syntax, a number or a nesting without end
        match = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line = int(match[1]) if match else len(text.splitlines())
        return RuleFile(faults=(Fault(owner="", key="", message=f"not TOML: {error}", line=line),))
    reader = _Reader(text, tables)
    reader.read()
    faults = sorted(reader.faults, key=lambda fault: fault.line)
    return RuleFile(
        rules=tuple(reader.rules),
        channels=tuple(reader.channels),
        silences=tuple(reader.silences),
        faults=tuple(faults),
    )


def parse_duration_ms(text: str) -> int:
    """Return the milliseconds of a duration such as `30s`, `5m`, `4h`, `2d`; raise ValueError for any other text."""
    match = _DURATION.fullmatch(text)
    if not match or int(match[1]) * UNITS_MS[match[2]] > MAX_DURATION_MS:
        raise ValueError(f"{text!r} is not a duration up to 31d")
    return int(match[1]) * UNITS_MS[match[2]]


def list_codes() -> tuple[str, ...]:
    """Return the codes of all exchanges, sorted."""
    return tuple(sorted(code for exchange in registry.load_exchanges().values() for code in exchange.codes))


def list_default_codes() -> tuple[str, ...]:
    """Return the codes that a rule without `codes` is evaluated for: of each exchange that is no aggregator."""
    exchanges = registry.load_exchanges().values()
    return tuple(sorted(exchange.codes[0] for exchange in exchanges if len(exchange.codes) == 1))


def check_variable(text: str) -> str:
    """Return the name of `env:NAME`; raise ValueError when it is none, or one of FadeMoe's own."""
    name = text.removeprefix(ENVIRONMENT)
    if not text.startswith(ENVIRONMENT) or not _VARIABLE.fullmatch(name):
        raise ValueError(f"{mask_secret(text)!r} is not env:NAME, the name of an environment variable")
    if name.upper().startswith(PREFIX):
        raise ValueError(f"{name} belongs to FadeMoe: choose a name that does not begin with {PREFIX}")
    return name


def mask_secret(text: str) -> str:
    """Return the text of a secret that may be shown."""
    return "***" if text else ""


def mask_channel_url(url: str) -> str:
    """Return the address of a channel without what may be a secret: user, password, path of a webhook and query."""
    if url.startswith(ENVIRONMENT):
        return "***"
    try:
        parts = urlsplit(url)
    except ValueError:  # no host that one could read, as of http://[::1
        return f"{url.partition('://')[0]}://***" if _SCHEME.fullmatch(url.partition("://")[0]) else "***"
    if parts.scheme in (*WEBHOOK_SCHEMES, "ntfy", "ntfys"):
        host = parts.netloc.rpartition("@")[2]
        hidden = f"?{mask_secret(parts.query)}" if parts.query else ""
        user = "***@" if "@" in parts.netloc else ""
        is_secret = parts.scheme in WEBHOOK_SCHEMES and parts.path.strip("/")
        path = f"/{mask_secret(parts.path)}" if is_secret else parts.path
        return f"{parts.scheme}://{user}{host}{path}{hidden}"
    return f"{parts.scheme}://***"


def describe_rule(rule: Rule) -> dict[str, Any]:
    """Return a rule as plain JSON values; `restore_rule` reads it back."""
    return {
        "name": rule.name,
        "expr": rule.expr,
        "clear": rule.clear,
        "canonical": list(rule.canonical),
        "data": rule.data,
        "codes": list(rule.codes),
        "symbols": list(rule.symbols),
        "for": rule.timing.pending,
        "keep_firing_for": rule.timing.keep,
        "cooldown": rule.timing.cooldown,
        "severity": rule.severity,
        "message": rule.message,
        "channels": list(rule.channels),
    }


def restore_rule(values: Mapping[str, Any]) -> Rule:
    """Return the rule of `describe_rule`."""
    return Rule(
        name=values["name"],
        expr=values["expr"],
        clear=values["clear"],
        canonical=(values["canonical"][0], values["canonical"][1]),
        data=values["data"],
        codes=tuple(values["codes"]),
        symbols=tuple(values["symbols"]),
        timing=Timing(values["for"], values["keep_firing_for"], values["cooldown"]),
        severity=values["severity"],
        message=values["message"],
        channels=tuple(values["channels"]),
    )


@dataclass
class _Lines:
    """Where the tables of a file and their keys stand: (kind, number) -> key -> line; the key "" is the header."""

    places: dict[tuple[str, int], dict[str, int]] = field(default_factory=dict)

    @classmethod
    def scan(cls, text: str) -> "_Lines":
        lines, counts = cls(), dict[str, int]()
        table: tuple[str, int] = ("", 0)
        for number, line in enumerate(text.splitlines(), 1):
            if header := _HEADER.match(line):
                counts[header[1]] = counts.get(header[1], -1) + 1
                table = (header[1], counts[header[1]])
                lines.places[table] = {"": number}
            elif key := _KEY.match(line):
                lines.places.setdefault(table, {"": 1}).setdefault(key[1], number)
        return lines

    def find(self, kind: str, index: int, key: str) -> int:
        keys = self.places.get((kind, index)) or self.places.get(("", 0), {})
        return keys.get(key) or keys.get(kind) or keys.get("", 0)


class _Table:
    """One table of a file, with the faults that reading it finds."""

    def __init__(self, kind: str, index: int, values: Mapping[str, Any], lines: _Lines) -> None:
        name = values.get("name")
        self.owner = f"{kind} {name if isinstance(name, str) and name and name.isprintable() else index + 1}"
        self.faults: list[Fault] = []
        self._kind, self._index, self._values, self._lines = kind, index, values, lines
        self._read: set[str] = set()

    def fault(self, key: str, message: str, valid: Sequence[str] = (), column: int = 0) -> None:
        line = self._lines.find(self._kind, self._index, key)
        self.faults.append(
            Fault(owner=self.owner, key=key, message=message, line=line, column=column, valid=tuple(valid))
        )

    def has(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str, valid: Sequence[str] = (), *, is_required: bool = False) -> str:
        """Return a text, "" where it is absent or none."""
        self._read.add(key)
        value = self._values.get(key)
        if value is None or (is_required and value == ""):
            if is_required:
                self.fault(key, "is required")
            return ""
        if not isinstance(value, str):
            self.fault(key, "is not a text" if key in SECRET_KEYS else f"{value!r} is not a text", valid)
            return ""
        if NUL in value:
            self.fault(key, NUL_FAULT)
            return ""
        return value

    def texts(self, key: str, valid: Sequence[str]) -> list[str] | None:
        """Return a list of texts, None where it is absent or none."""
        self._read.add(key)
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fault(key, f"{value!r} is not a list of texts", valid)
            return None
        return list(dict.fromkeys(value))

    def raw(self, key: str) -> Any:
        self._read.add(key)
        return self._values.get(key)

    def parsed(self, key: str, parse: Callable[[str], T], default: T, valid: Sequence[str] = ()) -> T:
        """Return what `parse` makes of a text; a ValueError of it is a fault."""
        text = self.text(key, valid)
        if not text:
            if self.has(key) and self._values[key] == "":
                self.fault(key, "is empty", valid)
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.fault(key, str(error), valid)
            return default

    def minutes(self, key: str) -> int:
        """Return a duration in whole minutes, 0 where it is absent."""

        def parse(text: str) -> int:
            duration_ms = parse_duration_ms(text)
            if duration_ms % MINUTE_MS:
                raise ValueError(f"{text!r} is not a whole number of minutes")
            return duration_ms // MINUTE_MS

        return self.parsed(key, parse, 0, DURATIONS)

    def end(self, valid: Sequence[str]) -> None:
        """Refuse the keys that were not read."""
        for key in self._values:
            if key not in self._read:
                self.fault(key, "unknown key", valid)


RULE_KEYS = (
    "name",
    "expr",
    "data",
    "codes",
    "symbols",
    "for",
    "clear",
    "keep_firing_for",
    "cooldown",
    "severity",
    "message",
    "channels",
)
CHANNEL_KEYS = ("name", "url", "secret", "group_wait", "max_age")
SILENCE_KEYS = ("match", "until")


class _Reader:
    def __init__(self, text: str, tables: Mapping[str, Any]) -> None:
        self.rules: list[Rule] = []
        self.channels: list[Channel] = []
        self.silences: list[Silence] = []
        self.faults: list[Fault] = []
        self._tables = tables
        self._lines = _Lines.scan(text)

    def read(self) -> None:
        kinds = {"channel": self._read_channel, "rule": self._read_rule, "silence": self._read_silence}
        for key in self._tables:
            if key not in kinds:
                line = self._lines.find(key, 0, "") or self._lines.find("", 0, key)
                valid = ("[[rule]]", "[[channel]]", "[[silence]]")
                self.faults.append(Fault(owner="", key=key, message="unknown table", line=line, valid=valid))
        for kind, read in kinds.items():
            for table in self._list_tables(kind):
                read(table)
                self.faults += table.faults

    def _list_tables(self, kind: str) -> Iterator[_Table]:
        tables = self._tables.get(kind, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            line = self._lines.find(kind, 0, "")
            self.faults.append(Fault(owner="", key=kind, message=f"write [[{kind}]], a table for each", line=line))
            return
        if len(tables) > MAX_RULES:
            self.faults.append(Fault(owner="", key=kind, message=f"{len(tables)} tables, at most {MAX_RULES}"))
            return
        yield from (_Table(kind, index, values, self._lines) for index, values in enumerate(tables))

    def _read_name(self, table: _Table, taken: Sequence[str]) -> str:
        name = table.text("name", is_required=True)
        if name and not _NAME.fullmatch(name):
            table.fault("name", f"{name!r}: valid are up to 60 of a-z, 0-9 and -, not beginning with -")
        if name and name in taken:
            table.fault("name", f"{name!r} is used twice")
        return name

    def _read_channel(self, table: _Table) -> None:
        name = self._read_name(table, [channel.name for channel in self.channels])
        url = table.text("url", is_required=True)
        if url:
            _check_url(table, url)
        secret = table.text("secret")
        if secret:
            try:
                check_variable(secret)
            except ValueError as error:
                table.fault("secret", str(error))
        group_wait_ms = table.parsed("group_wait", parse_duration_ms, 0, DURATIONS)
        max_age_ms = table.parsed("max_age", parse_duration_ms, 15 * MINUTE_MS, DURATIONS)
        if group_wait_ms and group_wait_ms >= max_age_ms:
            table.fault("group_wait", "is not below max_age (15m by default): all messages would be too old to be sent")
        self.channels.append(
            Channel(name=name, url=url, secret=secret, group_wait_ms=group_wait_ms, max_age_ms=max_age_ms)
        )
        table.end(CHANNEL_KEYS)

    def _read_silence(self, table: _Table) -> None:
        match = table.raw("match")
        if not isinstance(match, dict) or not match or not all(isinstance(value, str) for value in match.values()):
            table.fault("match", 'is required: a table of texts such as { symbol = "BTC" }', MATCH_KEYS)
            match = {}
        for key in match:
            if key not in MATCH_KEYS:
                table.fault("match", f"unknown key {key!r}", MATCH_KEYS)
        if any(NUL in value for value in match.values()):
            table.fault("match", NUL_FAULT)
        try:
            match = check_match(match, self.rules, are_all=False)
        except MatchError as error:
            table.fault("match", error.problem, error.valid)
        until_ms = 0
        until = table.raw("until")
        try:
            if isinstance(until, datetime) and not until.tzinfo:
                until = until.replace(tzinfo=UTC)
            if isinstance(until, date):
                until = until.isoformat()
            until_ms = parse_time(until) if isinstance(until, str) else 0
        except ValueError:
            until_ms = 0
        if not until_ms:
            problem = "is required" if until is None else f"{until!r} is not a time"
            table.fault("until", problem, ("ISO 8601 times such as 2026-12-01T00:00:00Z",))
        self.silences.append(Silence(match=match, until_ms=until_ms))
        table.end(SILENCE_KEYS)

    def _read_rule(self, table: _Table) -> None:
        name = self._read_name(table, [rule.name for rule in self.rules])
        data = table.text("data", DATA_KINDS)
        codes, symbols = self._read_codes(table), self._read_symbols(table)
        (expr, canonical), (clear, canonical_clear) = ("", ""), ("", "")
        if table.has("data"):
            if data not in DATA_KINDS:
                table.fault("data", f"{data!r} is no kind of data alert", DATA_KINDS)
            for key in ("expr", "clear", "codes", "symbols", "message"):
                if table.has(key):
                    table.fault(key, "a rule with `data` has none: it is for everything that is found")
            for key in ("expr", "clear", "message"):
                table.text(key)
            codes, symbols = (), ALL
        else:
            expr, canonical = self._read_expression(table, "expr", is_required=True)
            clear, canonical_clear = self._read_expression(table, "clear")
        known = [channel.name for channel in self.channels] or ["none: this file has no [[channel]]"]
        channels = table.texts("channels", known) or []
        for channel in channels:
            if channel not in known:
                table.fault("channels", f"unknown channel {channel!r}", known)
        self.rules.append(
            Rule(
                name=name,
                expr=expr,
                clear=clear,
                canonical=(canonical, canonical_clear),
                data=data,
                codes=codes,
                symbols=symbols,
                timing=Timing(table.minutes("for"), table.minutes("keep_firing_for"), table.minutes("cooldown")),
                severity=table.parsed("severity", _check_severity, "warning", SEVERITIES),
                message="" if table.has("data") else self._read_message(table),
                channels=tuple(channels),
            )
        )
        table.end(RULE_KEYS)

    def _read_expression(self, table: _Table, key: str, *, is_required: bool = False) -> tuple[str, str]:
        """Return an expression as written and as it is printed again."""
        text = table.text(key, is_required=is_required)
        if not text:
            if table.has(key) and not is_required:
                table.fault(key, "is empty: leave it out")
            return "", ""
        try:
            return text, compile_condition(text).text
        except ExpressionError as error:
            table.fault(key, error.problem, error.valid, error.position)
            return text, ""

    def _read_message(self, table: _Table) -> str:
        text = table.text("message")
        try:
            compile_text(text)
        except ExpressionError as error:
            table.fault("message", error.problem, error.valid, error.position)
        return text

    def _read_codes(self, table: _Table) -> tuple[str, ...]:
        valid = list_codes()
        codes = table.texts("codes", valid)
        if codes is None:
            return list_default_codes()
        if not codes:
            table.fault("codes", "is empty", valid)
        for code in codes:
            if code not in valid:
                table.fault("codes", f"unknown code {code!r}", valid)
        return tuple(sorted(codes))

    def _read_symbols(self, table: _Table) -> tuple[str, ...]:
        if table.raw("symbols") in (None, "all"):
            return ALL
        symbols = table.texts("symbols", ('"all" and lists of coins such as ["BTC", "ETH"]',))
        if symbols is None:
            return ALL
        checked = []
        for symbol in symbols:
            try:
                checked.append(check_symbol(symbol))
            except ConfigError as error:
                table.fault("symbols", str(error))
        if not symbols or "ALL" in checked:
            table.fault("symbols", 'valid are the text "all" or a list of coins such as ["BTC", "ETH"]')
        return tuple(sorted(set(checked)))


def _check_severity(text: str) -> str:
    if text not in SEVERITIES:
        raise ValueError(f"{text!r} is no severity")
    return text


def _check_url(table: _Table, url: str) -> None:
    if url.startswith(ENVIRONMENT):
        try:
            check_variable(url)
        except ValueError as error:
            table.fault("url", str(error))
        return
    valid = ("https://…", "http://…", "ntfy://topic", "tgram://token/chat", "env:NAME", "addresses of apprise")
    try:
        parts = urlsplit(url)
        is_complete = bool(_SCHEME.fullmatch(parts.scheme)) and "://" in url and bool(parts.netloc)
        is_complete = is_complete and parts.port != 0
    except ValueError:
        is_complete = False
    if url.lower().startswith(f"{TELEGRAM}://"):  # a token such as 123:abc looks like a host with a wrong port
        is_complete = bool(_TELEGRAM.fullmatch(url))
    if not is_complete:
        table.fault("url", f"{mask_channel_url(url)!r} is not an address", valid)
