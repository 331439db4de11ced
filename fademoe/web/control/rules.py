"""What the pages change about alerts: rules of their own, and silences."""

from collections.abc import Callable
from functools import partial

from psycopg2.extensions import cursor as Cursor
from werkzeug.wrappers import Response

from fademoe.alerts import records
from fademoe.alerts.records import RuleConflict
from fademoe.alerts.rules import MATCH_KEYS, Channel, MatchError, RuleFile
from fademoe.clock import HOUR_MS, MINUTE_MS, floor_to, now_ms, to_iso
from fademoe.store.status import record_action
from fademoe.web.api.alerts import CLEAR, CODE, COIN, COOLDOWN, EXPR, FOR, KEEP, MESSAGE, RULE
from fademoe.web.control.routes import DONE, answer_done
from fademoe.web.current import get_services
from fademoe.web.http.params import Integer, Params, Text
from fademoe.web.http.routes import Routes
from fademoe.web.model.rule_form import FILE, make_rule
from fademoe.web.model.services import run_change
from fademoe.web.problem import BadParameter, Problem

routes = Routes("control_rules")

NAME = Text("name", "a name of a-z, 0-9 and -", is_required=True)
CODES = Text("codes", "a comma list of exchange codes")
SYMBOLS = Text("symbols", "all, or a comma list of coins")
SEVERITY = Text("severity", "info, warning or critical")
CHANNELS = Text("channels", "a comma list of channels")
HOURS = Integer("hours", "how long, in hours", 2, minimum=1, maximum=8_760)
SILENCE = Text("silence", "id of a silence", is_required=True)
WRITTEN = (EXPR, CLEAR, FOR, KEEP, COOLDOWN, SEVERITY, MESSAGE, CODES, SYMBOLS)


@routes.post("/control/rule", "Write a rule of the pages, or change it", (NAME, *WRITTEN, CHANNELS), DONE)
def write_rule(params: Params) -> Response:
    """Apply the rules of the pages with one of them new or changed."""
    rule = make_rule({"name": params[NAME], **{parameter.name: params[parameter] for parameter in WRITTEN}})
    channels = tuple(part.strip() for part in params[CHANNELS].split(",") if part.strip())

    def work(cursor: Cursor) -> str:
        records.lock_rules(cursor)
        known = records.list_channels(cursor)
        if unknown := [name for name in channels if name not in known]:
            raise params.refuse(CHANNELS, list(known) or f"none exists yet; {', '.join(unknown)} does not")
        others = [one.rule for one in _list_own(cursor) if one.rule.name != rule.name]
        new = records.replace_rule(rule, channels=channels)
        content = RuleFile(rules=(*others, new), channels=_list_own_channels(cursor))
        changes = records.apply_file(cursor, FILE, content, floor_to(now_ms(), MINUTE_MS), keeps_silences=True)
        word = "added" if rule.name in changes.added else "unchanged" if rule.name in changes.unchanged else "changed"
        record_action(cursor, "web rule", f"rule {rule.name} {word}")
        return f"rule {rule.name} {word}"

    return answer_done(_change(work))


@routes.post("/control/rule-remove", "Remove a rule of the pages", (RULE,), DONE)
def remove_rule(params: Params) -> Response:
    """Apply the rules of the pages without one of them."""

    def work(cursor: Cursor) -> str:
        records.lock_rules(cursor)
        own = _list_own(cursor)
        if params[RULE] not in [one.rule.name for one in own]:
            raise Problem(409, f"{params[RULE][:60]!r} is no rule of the pages: change the file that owns it")
        rules = tuple(one.rule for one in own if one.rule.name != params[RULE])
        content = RuleFile(rules=rules, channels=_list_own_channels(cursor))
        records.apply_file(cursor, FILE, content, floor_to(now_ms(), MINUTE_MS), keeps_silences=True)
        record_action(cursor, "web rule", f"rule {params[RULE]} removed")
        return f"rule {params[RULE]} removed"

    return answer_done(_change(work))


@routes.post("/control/silence", "Send nothing of what matches for some hours", (RULE, CODE, COIN, HOURS), DONE)
def add_silence(params: Params) -> Response:
    """Silence a rule, a code, a symbol, or what is all of these."""
    given = {"rule": params[RULE], "code": params[CODE], "symbol": params[COIN]}
    match = {key: given[key] for key in MATCH_KEYS if given.get(key)}
    if not match:
        raise params.refuse(RULE, "at least one of rule, code and symbol")
    until_ms = now_ms() + params[HOURS] * HOUR_MS

    def work(cursor: Cursor) -> str:
        try:
            silence = records.make_silence(cursor, match, until_ms)
        except MatchError as error:
            raise BadParameter(error.key, match[error.key], error.valid or str(error)) from error
        records.add_silence(cursor, silence)
        done = f"{' '.join(silence.match.values())} is silent until {to_iso(floor_to(until_ms, 1000))}"
        record_action(cursor, "web silence", done)
        return done

    return answer_done(_change(work))


@routes.post("/control/silence-end", "End a silence", (SILENCE,), DONE)
def end_silence(params: Params) -> Response:
    """End a silence now."""
    if not params[SILENCE].isdecimal() or len(params[SILENCE]) > 15:
        raise params.refuse(SILENCE, "the id of a silence")
    ended = _change(partial(_end_silence, int(params[SILENCE])))
    if not ended:
        raise Problem(409, "there is no such silence")
    return answer_done(ended)


def _end_silence(silence: int, cursor: Cursor) -> str:
    if not records.end_silence(cursor, silence, now_ms()):
        return ""
    record_action(cursor, "web silence", f"silence {silence} ended")
    return f"silence {silence} has ended"


def _list_own(cursor: Cursor) -> list[records.StoredRule]:
    return [stored for stored in records.list_rules(cursor) if stored.file == FILE]


def _list_own_channels(cursor: Cursor) -> tuple[Channel, ...]:
    return tuple(channel for channel, file in records.list_channels(cursor).values() if file == FILE)


def _change(work: Callable[[Cursor], str]) -> str:
    """Run a transaction; return what was done, in words."""
    try:
        return run_change(get_services(), work)
    except RuleConflict as error:
        raise Problem(409, str(error)) from error
