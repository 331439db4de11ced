"""Alert rules and what is wrong with the data, as JSON and as pages: cards, rules, history, the form, the screener."""

from fademoe.alerts import records
from fademoe.alerts.rules import ALL, RULE_KEYS, SEVERITIES, Rule, list_codes, list_default_codes
from fademoe.clock import DAY_MS, MINUTE_MS, now_ms
from fademoe.web.api.parameters import Symbols
from fademoe.web.current import get_services, read_summary
from fademoe.web.http.addresses import build_address
from fademoe.web.http.params import CURSOR, FROM, NEXT_FORM, TO, Choice, Integer, Names, Params, Text, write_cursor
from fademoe.web.http.routes import Page, Routes
from fademoe.web.model import alert_cards, alert_history, alert_preview, alert_rules
from fademoe.web.model import alerts as data_alerts
from fademoe.web.model.alert_cards import Card, CardFilter
from fademoe.web.model.alert_history import TransitionList
from fademoe.web.model.alert_preview import Preview
from fademoe.web.model.alert_rules import Checked, RuleList
from fademoe.web.model.alerts import Alert
from fademoe.web.model.answer import Answer
from fademoe.web.model.rule_form import make_rule
from fademoe.web.model.screen import Screen, evaluate_screen, sort_rows
from fademoe.web.model.services import attempt

routes = Routes("api_alerts")

STATES = ("firing", "pending", "resolved", "unknown", "inactive")
RULE = Text("rule", "the name of a rule", example="oi-surge")
CODE = Text("code", "an exchange's code", example="bin")
COIN = Text("symbol", "a coin", example="BTC")
STATE = Choice("state", "one state", ("", *STATES))
SEVERITY = Choice("severity", "one severity", ("", *SEVERITIES))
EXPR = Text("expr", "an expression: docs/alerts.md", example="chg(close, 5m) > 1%")
CLEAR = Text("clear", "the condition that ends it")
MESSAGE = Text("message", "the template of the message")
FOR = Text("for", "such as 5m")
KEEP = Text("keep_firing_for", "such as 5m")
COOLDOWN = Text("cooldown", "such as 30m")
DAYS = Integer("days", "days of history, 30 by default", 30, minimum=1, maximum=90)
PART = Text("part", "`next` of the part before")
LIMIT = Integer("limit", "transitions of a page, 100 by default", 100, minimum=1, maximum=1_000)
CODES = Names("codes", "a comma list of exchange codes", example="bin,byb")
SYMBOLS = Symbols("symbols", "a comma list of coins; all that are followed when left out", example="BTC,ETH")
SORT = Choice("sort", "value by default", ("value", "symbol", "code"), "value")
ORDER = Choice("order", "desc by default", ("desc", "asc"), "desc")
SCREENS = (
    ("Change of open interest in an hour", "chg(oi, 1h)"),
    ("Funding per year", "annual(fr)"),
    ("Price change in 15 minutes", "chg(close, 15m)"),
    ("Volume against four hours", "zscore(volume, 4h)"),
    ("RSI of 14 minutes", "rsi(close, 14m)"),
)


class AlertPage(Answer):
    """`alerts`: what is wrong with the data now. `cards`: of the rules; `reason` says why there are none to read."""

    alerts: list[Alert]
    cards: list[Card]
    more: int
    rules: int
    evaluated_minute: int | None
    evaluated_ms: int | None
    next_ms: int | None
    cards_reason: str | None


@routes.get(
    "/api/alerts",
    "Cards of the alert rules, and what is wrong with the data now",
    (RULE, CODE, COIN, STATE, SEVERITY),
    page=Page("/alerts", "alerts.html"),
)
def list_alerts(params: Params) -> AlertPage:
    """Answer the cards, most urgent first, and the alerts about the data."""
    wanted = CardFilter(
        rule=params[RULE], code=params[CODE], symbol=params[COIN], state=params[STATE], severity=params[SEVERITY]
    )

    def read() -> alert_cards.Cards:
        with get_services().reader.read() as cursor:
            return alert_cards.list_cards(cursor, wanted)

    found, reason = attempt(read)
    cards = found.cards if found else []
    known, _ = attempt(lambda: data_alerts.find_acknowledged(get_services().redis, [card.id for card in cards]))
    for card in cards:
        card.acknowledged = card.id in (known or ())
    return AlertPage(
        alerts=data_alerts.list_alerts(get_services(), read_summary()).alerts,
        cards=cards,
        more=found.more if found else 0,
        rules=found.rules if found else 0,
        evaluated_minute=found.evaluated_minute if found else None,
        evaluated_ms=found.evaluated_ms if found else None,
        next_ms=found.next_ms if found else None,
        cards_reason=reason,
    )


@routes.get("/api/alerts/rules", "Rules, channels, silences", page=Page("/alerts/rules", "alert_rules.html"))
def list_rules(params: Params) -> RuleList:
    """Answer the rules in force, the channels and the silences."""
    with get_services().reader.read() as cursor:
        return alert_rules.list_rule_infos(cursor)


@routes.get(
    "/api/alerts/transitions",
    "What the rules did, newest first; of the last week by default",
    (FROM, TO, RULE, CODE, COIN, LIMIT, CURSOR),
    page=Page("/alerts/history", "alert_history.html"),
)
def list_transitions(params: Params) -> TransitionList:
    """Answer transitions whose minute lies in a range."""
    start_ms, end_ms = params.read_span()
    end_ms = now_ms() if end_ms is None else end_ms
    limit = params[LIMIT]
    with get_services().reader.read() as cursor:
        found = records.list_transitions(
            cursor,
            start_ms=end_ms - 7 * DAY_MS if start_ms is None else start_ms,
            end_ms=end_ms,
            limit=limit + 1,
            rule=params[RULE],
            code=params[CODE],
            symbol=params[COIN],
            before=_read_position(params),
        )
        shown = alert_history.describe_transitions(cursor, found[:limit])
    following = write_cursor("transition", str(shown[-1].minute), shown[-1].id) if len(found) > limit else None
    return TransitionList(transitions=shown, next=following)


@routes.get("/api/alerts/check", "Faults of the texts of a rule", (EXPR, CLEAR, MESSAGE))
def check_rule(params: Params) -> Checked:
    """Answer every fault with its position and the valid words."""
    return alert_rules.check_texts(params[EXPR], params[CLEAR], params[MESSAGE])


@routes.get(
    "/api/alerts/preview",
    "What a rule would have done for one contract",
    (EXPR, CLEAR, FOR, KEEP, COOLDOWN, MESSAGE, CODE, COIN, DAYS, PART),
)
def preview_rule(params: Params) -> Preview:
    """Answer what a rule would have done in the last days."""
    rule = make_rule(
        {
            "name": "preview",
            "expr": params[EXPR],
            "clear": params[CLEAR],
            "for": params[FOR],
            "keep_firing_for": params[KEEP],
            "cooldown": params[COOLDOWN],
            "message": params[MESSAGE],
            "codes": params[CODE] or list_default_codes()[0],
            "symbols": params[COIN] or "BTC",
        }
    )
    position = tuple(params[PART].split("_")) if params[PART] else None
    if position is not None and not is_position(position):
        raise params.refuse(PART, NEXT_FORM)
    with get_services().reader.read() as cursor:
        return alert_preview.preview(cursor, rule, params[DAYS], position)


@routes.get(
    "/api/screen",
    "An expression over all contracts now",
    (EXPR, CODES, SYMBOLS, SORT, ORDER),
)
def screen(params: Params) -> Screen:
    """Answer the value of an expression for every contract."""
    codes = params.check_names(CODES, list_codes()) or list_default_codes()
    if not params[EXPR]:
        raise params.refuse(EXPR, "an expression such as chg(close, 5m)")
    with get_services().reader.read() as cursor:
        found = evaluate_screen(cursor, params[EXPR], codes, params[SYMBOLS])
    found.rows = sort_rows(found.rows, params[SORT], descending=params[ORDER] == "desc")
    return found


@routes.show("/screen", "screen.html", (EXPR, CODES, SYMBOLS, SORT, ORDER))
def show_screen(params: Params) -> dict[str, object]:
    """Show an expression over all contracts, and some to begin with."""
    found = screen(params) if params[EXPR] else None
    flipped = "asc" if params[ORDER] == "desc" else "desc"
    headings = {
        name: build_address({"sort": name, "order": flipped if params[SORT] == name else "desc"}, path="/screen")
        for name in ("code", "symbol", "value")
    }
    return {
        "screen": found,
        "examples": SCREENS,
        "headings": headings,
        "sort": params[SORT],
        "order": params[ORDER],
        "twin": build_address(path="/api/screen") if found else None,
    }


@routes.show("/alerts/new", "alert_form.html", (RULE,))
def show_form(params: Params) -> dict[str, object]:
    """Show the form that writes a rule, filled with one that exists if it is named."""
    with get_services().reader.read() as cursor:
        rule = alert_rules.find_rule(cursor, params[RULE]).rule if params[RULE] else _suggest_rule()
        channels = list(records.list_channels(cursor))
    return {
        "rule": rule,
        "is_new": not params[RULE],
        "symbols": "all" if rule.symbols == ALL else ", ".join(rule.symbols),
        "durations": {
            "for": rule.timing.pending,
            "keep_firing_for": rule.timing.keep,
            "cooldown": rule.timing.cooldown,
        },
        "codes": list_codes(),
        "channels": channels,
        "severities": SEVERITIES,
        "keys": RULE_KEYS,
    }


def is_position(parts: tuple[str, ...]) -> bool:
    """Return whether texts are the position of a preview: two times, a state, and four numbers or blanks."""
    if len(parts) != alert_preview.POSITION_PARTS or parts[2] not in STATES:
        return False
    times, numbers = parts[:2], parts[3:]
    return all(text.isdecimal() and len(text) == 13 for text in times) and all(
        not text or (text.isdecimal() and len(text) <= 13) for text in numbers
    )


def _suggest_rule() -> Rule:
    return Rule(name="", codes=list_default_codes(), severity="warning")


def _read_position(params: Params) -> tuple[int, str] | None:
    parts = params.read_cursor("transition", 2)
    if parts is None:
        return None
    minute, identifier = parts
    if not minute.isdecimal() or len(minute) > 15 or int(minute) % MINUTE_MS:
        raise params.refuse(CURSOR, NEXT_FORM)
    return int(minute), identifier
