"""Alert rules, channels and silences in force, and the check of a rule while it is written."""

from collections.abc import Mapping

from psycopg2.extensions import cursor as Cursor

from fademoe.alerts import records
from fademoe.alerts.language import compile_condition, compile_text
from fademoe.alerts.records import StoredRule
from fademoe.alerts.rules import ALL, mask_channel_url, mask_secret
from fademoe.alerts.state_machine import Instance
from fademoe.clock import now_ms
from fademoe.evaluation import Place
from fademoe.expressions import Expression, ExpressionError
from fademoe.web.model.answer import Answer
from fademoe.web.problem import Problem


class RuleInfo(Answer):
    """A rule in force; durations in minutes. A rule with `data` has no expression."""

    name: str
    file: str
    version: str
    expr: str
    clear: str
    data: str
    codes: list[str]
    symbols: list[str]
    pending: int
    keep_firing_for: int
    cooldown: int
    severity: str
    message: str
    channels: list[str]
    since: int
    states: dict[str, int]


class ChannelInfo(Answer):
    """A channel; what may be secret is shown as ***."""

    name: str
    file: str
    url: str
    secret: str
    group_wait_ms: int
    max_age_ms: int


class SilenceInfo(Answer):
    """A silence that has not ended."""

    id: int
    file: str
    match: dict[str, str]
    until: int


class RuleList(Answer):
    """Rules, channels, silences."""

    rules: list[RuleInfo]
    channels: list[ChannelInfo]
    silences: list[SilenceInfo]


class FaultInfo(Answer):
    """One mistake; `position` counts the characters of the text from 1."""

    key: str
    message: str
    position: int
    valid: list[str]


class Checked(Answer):
    """Whether texts of a rule are correct; `canonical` is the expression as it is printed again."""

    faults: list[FaultInfo]
    canonical: str


def list_rule_infos(cursor: Cursor) -> RuleList:
    """Return the rules in force, the channels and the silences."""
    states = records.read_states(cursor)
    return RuleList(
        rules=[_describe_rule(stored, states.get(stored.id, {})) for stored in records.list_rules(cursor)],
        channels=[
            ChannelInfo(
                name=channel.name,
                file=file,
                url=mask_channel_url(channel.url),
                secret=mask_secret(channel.secret),
                group_wait_ms=channel.group_wait_ms,
                max_age_ms=channel.max_age_ms,
            )
            for channel, file in records.list_channels(cursor).values()
        ],
        silences=[
            SilenceInfo(id=one.id, file=one.file, match=dict(one.silence.match), until=one.silence.until_ms)
            for one in records.list_silences(cursor, now_ms())
        ],
    )


def check_texts(expr: str, clear: str, message: str) -> Checked:
    """Check the texts of a rule; an empty one is left out."""
    faults: list[FaultInfo] = []
    canonical = ""
    for key, text, compile_one in (
        ("expr", expr, compile_condition),
        ("clear", clear, compile_condition),
        ("message", message, compile_text),
    ):
        if not text:
            continue
        try:
            compiled = compile_one(text)
        except ExpressionError as error:
            fault = FaultInfo(key=key, message=error.problem, position=error.position, valid=list(error.valid))
            faults.append(fault)
        else:
            canonical = compiled.text if key == "expr" and isinstance(compiled, Expression) else canonical
    return Checked(faults=faults, canonical=canonical)


def find_rule(cursor: Cursor, name: str) -> StoredRule:
    """Return a rule in force; raise the 404 with the names for any other."""
    rules = {stored.rule.name: stored for stored in records.list_rules(cursor)}
    if name not in rules:
        raise Problem(404, f"no rule {name[:100]!r}; allowed: {', '.join(rules) or 'none yet'}", allowed=list(rules))
    return rules[name]


def _describe_rule(stored: StoredRule, held: Mapping[Place, Instance]) -> RuleInfo:
    rule = stored.rule
    states: dict[str, int] = {}
    for instance in held.values():
        states[name_state(instance)] = states.get(name_state(instance), 0) + 1
    return RuleInfo(
        name=rule.name,
        file=stored.file,
        version=rule.version,
        expr=rule.expr,
        clear=rule.clear,
        data=rule.data,
        codes=list(rule.codes),
        symbols=["all"] if rule.symbols == ALL else list(rule.symbols),
        pending=rule.timing.pending,
        keep_firing_for=rule.timing.keep,
        cooldown=rule.timing.cooldown,
        severity=rule.severity,
        message=rule.message,
        channels=list(rule.channels),
        since=stored.first_minute,
        states=states,
    )


def name_state(instance: Instance) -> str:
    """Return the state of an instance as pages show it: `unknown` where its result has been so for long."""
    return "unknown" if instance.unknown_since is not None else str(instance.state)
