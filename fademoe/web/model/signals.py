"""Alert rules as pages and API show them: cards, rules, transitions, checks, previews and screens."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from psycopg2.extensions import cursor as Cursor

from fademoe.alerts import records
from fademoe.alerts.language import compile_any, compile_condition, compile_text
from fademoe.alerts.machine import Instance, State
from fademoe.alerts.outbox import Delivery, list_deliveries
from fademoe.alerts.records import StoredRule, StoredSilence, StoredTransition
from fademoe.alerts.replay import try_rule
from fademoe.alerts.rules import ALL, Rule, mask_channel_url, mask_secret
from fademoe.clock import DAY_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.evaluation import Place, Watch, replay
from fademoe.expressions import Expression, ExpressionError, print_number, print_value
from fademoe.expressions.tree import Comparison, Logic, Node, Number, Sign
from fademoe.web.model.answer import Answer
from fademoe.web.problem import BadParameter, Problem

SPARK_MINUTES = 60
MAX_CARDS = 48  # with values; more are counted
MAX_SCREEN_ROWS = 2_000
HISTORY_MS = 31 * DAY_MS
PREVIEW_S = 3.0  # of computing: then the preview ends earlier
ORDER = (State.FIRING, State.PENDING, State.RESOLVED)


class Reading(Answer):
    """One comparison of a rule: the value at the newest evaluated minute beside what it is compared with."""

    text: str
    value: str | None
    operator: str
    threshold: str


class DeliveryInfo(Answer):
    """What became of a transition on a channel; `error` of the newest attempt, empty when it was delivered."""

    channel: str
    state: str
    attempts: int
    last_ms: int | None
    error: str


class Card(Answer):
    """A rule for one contract, or (`idle` above 0: one more than are active) for all contracts that are not."""

    id: str
    rule: str
    file: str
    severity: str
    code: str
    symbol: str
    state: str
    unknown: bool
    idle: int
    message: str
    expr: str
    readings: list[Reading]
    spark: list[str | None]
    spark_of: str
    since_ms: int | None
    next_ms: int | None
    deliveries: list[DeliveryInfo]
    silenced_until_ms: int | None
    acknowledged: bool


class Cards(Answer):
    """The cards of the rules, most urgent first; `more` of them are left out."""

    cards: list[Card]
    more: int
    rules: int
    evaluated_minute: int | None
    evaluated_ms: int | None
    next_ms: int | None


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


class TransitionInfo(Answer):
    """One transition; `minute` is the start of its minute, `since` of the one that it ends."""

    id: str
    rule: str
    version: str
    code: str
    symbol: str
    minute: int
    state: str
    since: int | None
    reason: str
    severity: str
    message: str
    values: dict[str, str | None]
    at_ms: int
    deliveries: list[DeliveryInfo]


class TransitionList(Answer):
    """Transitions, newest first."""

    transitions: list[TransitionInfo]
    next: str | None


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


class PreviewRow(Answer):
    """One transition of a preview; `after` are relative changes of the price in the minutes after it."""

    minute: int
    code: str
    symbol: str
    state: str
    message: str
    after: dict[str, str | None]


class Preview(Answer):
    """What a rule would have done for one contract, oldest first, in the minutes of [since, reached).

    While `next` is not null more is to be computed: ask again with it.
    """

    since: int
    until: int
    reached: int
    firings: int
    transitions: list[PreviewRow]
    next: str | None


class ScreenRow(Answer):
    """The value of an expression for one contract: a number or true or false as text, null when unknown."""

    code: str
    symbol: str
    value: str | None


class Screen(Answer):
    """An expression over all contracts at the end of `minute`."""

    expr: str
    is_truth: bool
    minute: int
    rows: list[ScreenRow]
    unknown: int


class CardFilter(Answer):
    """Which cards are wanted; empty members do not count. A coin may be in lower case."""

    rule: str = ""
    code: str = ""
    symbol: str = ""
    state: str = ""
    severity: str = ""


def list_cards(cursor: Cursor, wanted: CardFilter) -> Cards:
    """Return the cards of the rules in force. `acknowledged` is left False: Redis knows it."""
    rules = [stored for stored in records.list_rules(cursor) if _is_wanted_rule(stored.rule, wanted)]
    states = records.read_states(cursor)
    newest, upcoming = records.find_newest_minute(cursor), records.read_cursor(cursor)
    silences = records.list_silences(cursor, now_ms())
    next_ms = upcoming + MINUTE_MS if upcoming is not None else None
    shown: list[tuple[StoredRule, Place | None, Instance, int]] = []
    for stored in rules:
        held = states.get(stored.id, {})
        shown += [(stored, place, instance, 0) for place, instance in held.items() if _is_wanted_place(place, wanted)]
        if not (wanted.code or wanted.symbol or (stored.rule.data and held)):
            shown.append((stored, None, Instance(), len(held)))
    shown = [one for one in shown if not wanted.state or _name_state(one[2]) == wanted.state]
    shown.sort(key=lambda one: (_rank_card(one[1], one[2]), one[0].rule.name, one[1] or ("", "")))
    cards = [_make_card(*one[:3], next_ms, one[3]) for one in shown[:MAX_CARDS]]
    _add_values(cursor, cards, [one[0].rule for one in shown], newest.minute if newest else None)
    _add_history(cursor, cards, silences)
    return Cards(
        cards=cards,
        more=max(0, len(shown) - MAX_CARDS),
        rules=len(rules),
        evaluated_minute=newest.minute if newest else None,
        evaluated_ms=newest.evaluated_ms if newest else None,
        next_ms=next_ms,
    )


def _rank_card(place: Place | None, instance: Instance) -> int:
    """Return where a card comes: what is active, one of each rule, and what is inactive with an unknown result."""
    if place is None:
        return len(ORDER)
    return ORDER.index(instance.state) if instance.state in ORDER else len(ORDER) + 1


def count_firing(cursor: Cursor) -> int:
    """Return how many instances fire now."""
    return sum(
        one.state is State.FIRING for of_rule in records.read_states(cursor).values() for one in of_rule.values()
    )


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


def describe_transitions(cursor: Cursor, found: Sequence[StoredTransition]) -> list[TransitionInfo]:
    """Return transitions with what became of them on their channels."""
    deliveries = list_deliveries(cursor, [stored.transition.id for stored in found])
    return [
        TransitionInfo(
            id=one.id,
            rule=one.rule,
            version=one.version,
            code=one.code,
            symbol=one.symbol,
            minute=one.minute,
            state=one.state,
            since=one.since,
            reason=one.reason,
            severity=one.severity,
            message=one.message,
            values=dict(one.values),
            at_ms=at_ms,
            deliveries=_describe_deliveries(deliveries.get(one.id, ())),
        )
        for one, at_ms in found
    ]


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


def preview(cursor: Cursor, rule: Rule, days: int, position: tuple[str, ...] | None) -> Preview:
    """Return a part of what a rule would have done in the last days; `position`: `next` of the part before."""
    now = floor_to(now_ms(), MINUTE_MS)
    instance, window = Instance(), Window(now - days * DAY_MS, now)
    if position is not None:
        start, end, state, *numbers = position
        since, counted, unknown, unknown_since = (None if text == "" else int(text) for text in numbers)
        instance = Instance(State(state), since, counted or 0, unknown or 0, unknown_since)
        window = Window(int(start), int(end))
    trial = try_rule(cursor, rule, (rule.codes[0], rule.symbols[0]), window, instance, PREVIEW_S)
    after = trial.instance
    counts = (after.since, after.counted, after.unknown, after.unknown_since)
    texts = ["" if number is None else str(number) for number in counts]
    following = write_position(trial.reached, window.end_ms, str(after.state), *texts)
    return Preview(
        since=window.start_ms,
        until=window.end_ms,
        reached=trial.reached,
        firings=sum(one.state == State.FIRING for one, _ in trial.transitions),
        transitions=[
            PreviewRow(
                minute=one.minute,
                code=one.code,
                symbol=one.symbol,
                state=one.state,
                message=one.message,
                after={name: print_value(change) for name, change in changes.items()},
            )
            for one, changes in trial.transitions
        ],
        next=following if trial.reached < window.end_ms else None,
    )


POSITION_PARTS = 7


def write_position(*parts: object) -> str:
    """Write what `preview` reads as its position."""
    return "_".join(map(str, parts))


def screen(cursor: Cursor, text: str, codes: Sequence[str], symbols: Sequence[str]) -> Screen:
    """Evaluate an expression for every contract now: at the end of the newest minute that is over for a while."""
    try:
        expression = compile_any(text)
    except ExpressionError as error:
        raise BadParameter("expr", text, str(error)) from error
    newest = records.find_newest_minute(cursor)
    minute = floor_to(now_ms() - MINUTE_MS - 5_000, MINUTE_MS)
    if newest is not None and minute - newest.minute <= 2 * MINUTE_MS:
        minute = newest.minute
    watch = _watch_value("screen", expression, tuple(codes), tuple(symbols) or None)
    rows = []
    for evaluated in replay(cursor, [watch], minute, minute + MINUTE_MS, {}):
        (result,) = evaluated.results
        rows = [
            ScreenRow(code=code, symbol=symbol, value=result.read_value(expression, (code, symbol)))
            for code, symbol in result.places
        ]
    unknown = sum(row.value is None for row in rows)
    return Screen(expr=expression.text, is_truth=expression.is_truth, minute=minute, rows=rows, unknown=unknown)


def sort_rows(rows: Iterable[ScreenRow], by: str, *, descending: bool) -> list[ScreenRow]:
    """Return the first MAX_SCREEN_ROWS rows by value, symbol or code; unknown values come last."""
    if by != "value":
        ordered = sorted(rows, key=lambda row: (getattr(row, by), row.code, row.symbol), reverse=descending)
        return ordered[:MAX_SCREEN_ROWS]
    listed = list(rows)
    known = [row for row in listed if row.value is not None]
    words = {"false": Decimal(0), "true": Decimal(1)}
    known.sort(key=lambda row: words.get(row.value or "") or _to_number(row.value), reverse=descending)
    return (known + [row for row in listed if row.value is None])[:MAX_SCREEN_ROWS]


def find_card(cursor: Cursor, identifier: str) -> Card | None:
    """Return the card of an active instance by its id."""
    for stored in records.list_rules(cursor):
        for place, instance in records.read_states(cursor).get(stored.id, {}).items():
            card = _make_card(stored, place, instance, None)
            if card.id == identifier:
                return card
    return None


def find_rule(cursor: Cursor, name: str) -> StoredRule:
    """Return a rule in force; raise the 404 with the names for any other."""
    rules = {stored.rule.name: stored for stored in records.list_rules(cursor)}
    if name not in rules:
        raise Problem(404, f"no rule {name[:100]!r}; allowed: {', '.join(rules) or 'none yet'}", allowed=list(rules))
    return rules[name]


def list_comparisons(root: Node) -> list[tuple[Node, str, Node]]:
    """Return (left, operator, right) of the comparisons of a condition, a constant always on the right."""
    found: list[tuple[Node, str, Node]] = []
    flipped = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}

    def collect(node: Node) -> None:
        if isinstance(node, Comparison):
            for left, operator, right in zip(node.children, node.operators, node.children[1:], strict=False):
                if _is_constant(left) and not _is_constant(right):
                    found.append((right, flipped[operator], left))
                else:
                    found.append((left, operator, right))
        elif isinstance(node, Logic):
            for child in node.children:
                collect(child)

    collect(root)
    return found


def _is_constant(node: Node) -> bool:
    return isinstance(node, Number) or (isinstance(node, Sign) and isinstance(node.children[0], Number))


def _is_wanted_rule(rule: Rule, wanted: CardFilter) -> bool:
    return wanted.rule in ("", rule.name) and wanted.severity in ("", rule.severity)


def _is_wanted_place(place: Place, wanted: CardFilter) -> bool:
    code, symbol = place
    return wanted.code in ("", code) and (not wanted.symbol or symbol in (wanted.symbol, wanted.symbol.upper()))


def _name_state(instance: Instance) -> str:
    return "unknown" if instance.unknown_since is not None else str(instance.state)


def _make_card(
    stored: StoredRule, place: Place | None, instance: Instance, next_ms: int | None, active: int = 0
) -> Card:
    rule, (code, symbol) = stored.rule, place or ("", "")
    subject = "\n".join((rule.name, rule.version, code, symbol, str(instance.state), str(instance.since)))
    return Card(
        id=hashlib.sha256(subject.encode()).hexdigest()[:16],
        rule=rule.name,
        file=stored.file,
        severity=rule.severity,
        code=code,
        symbol=symbol,
        state=str(instance.state),
        unknown=instance.unknown > 0,
        idle=0 if place else 1 + active,
        message="",
        expr=rule.expr or f"data: {rule.data}",
        readings=[],
        spark=[],
        spark_of="",
        since_ms=None if instance.since is None else instance.since + MINUTE_MS,
        next_ms=next_ms,
        deliveries=[],
        silenced_until_ms=None,
        acknowledged=False,
    )


def _add_values(cursor: Cursor, cards: Sequence[Card], rules: Sequence[Rule], minute: int | None) -> None:
    """Add to each card of a contract the values of its comparisons, and the last hour of the first one."""
    if minute is None:
        return
    by_card = [(card, rule) for card, rule in zip(cards, rules, strict=False) if card.code and rule.expr]
    watches: list[Watch] = []
    targets: list[tuple[Expression, Card, Node, str, Node, bool]] = []
    for card, rule in by_card:
        try:
            condition = compile_condition(rule.expr)
        except ExpressionError:  # it has words that left the language: the status of the program `alerts` tells of it
            continue
        for number, (left, operator, right) in enumerate(list_comparisons(condition.root)):
            expression = condition.take_part(left)
            symbols: tuple[str, ...] | None = (card.symbol,)
            if expression.needs.ranks:  # among all symbols of the rule
                symbols = None if rule.symbols == ALL else rule.symbols
            watches.append(_watch_value(len(watches), expression, (card.code,), symbols))
            targets.append((expression, card, left, operator, right, number == 0))
    if not watches:
        return
    begin = minute - (SPARK_MINUTES - 1) * MINUTE_MS
    for evaluated in replay(cursor, watches, begin, minute + MINUTE_MS, {}):
        for result, (expression, card, left, operator, right, is_first) in zip(evaluated.results, targets, strict=True):
            if not is_first and evaluated.minute != minute:
                continue
            place = (card.code, card.symbol)
            value = result.read_value(expression, place) if place in result.places else None
            if is_first:
                card.spark.append(value)
                card.spark_of = left.source
            if evaluated.minute == minute:
                reading = Reading(text=left.source, value=value, operator=operator, threshold=right.source)
                card.readings.append(reading)


def _watch_value(
    key: str | int, expression: Expression, codes: tuple[str, ...], symbols: tuple[str, ...] | None
) -> Watch:
    """Return a watch whose results have the value of an expression of any kind: watches take conditions."""
    return Watch(key, expression.make_condition(), None, codes, symbols)


def _add_history(cursor: Cursor, cards: Sequence[Card], silences: Sequence[StoredSilence]) -> None:
    """Add to each card of a contract its newest message, what was delivered of it, and the silence that covers it."""
    newest = records.find_last_transitions(cursor, now_ms() - HISTORY_MS)
    of_card = {card.id: newest.get((card.rule, card.code, card.symbol)) for card in cards}
    deliveries = list_deliveries(cursor, [one.transition.id for one in of_card.values() if one])
    for card in cards:
        labels = {"rule": card.rule, "code": card.code, "symbol": card.symbol, "severity": card.severity}
        ends = [
            one.silence.until_ms
            for one in silences
            if all(labels[key] == value for key, value in one.silence.match.items())
        ]
        card.silenced_until_ms = max(ends, default=None)
        if stored := of_card[card.id]:
            card.message = stored.transition.message
            card.deliveries = _describe_deliveries(deliveries.get(stored.transition.id, ()))


def _describe_deliveries(deliveries: Iterable[Delivery]) -> list[DeliveryInfo]:
    return [
        DeliveryInfo(channel=one.channel, state=one.state, attempts=one.attempts, last_ms=one.last_ms, error=one.error)
        for one in deliveries
    ]


def _describe_rule(stored: StoredRule, held: Mapping[Place, Instance]) -> RuleInfo:
    rule = stored.rule
    states: dict[str, int] = {}
    for instance in held.values():
        states[_name_state(instance)] = states.get(_name_state(instance), 0) + 1
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


def _to_number(text: str | None) -> Decimal:
    try:
        return Decimal(text or "0")
    except ArithmeticError:
        return Decimal(0)


def make_spark_path(values: Sequence[str | None], width: int, height: int) -> str:
    """Return the path of a sparkline for SVG; unknown values break the line."""
    known = [float(value) for value in values if value not in (None, "true", "false")]
    if not known:
        return ""
    low, high = min(known), max(known)
    span, parts, is_down = (high - low) or 1.0, [], False
    for number, value in enumerate(values):
        if value in (None, "true", "false"):
            is_down = False
            continue
        x = number * width / max(1, len(values) - 1)
        y = height - (float(value or 0) - low) / span * height if high > low else height / 2
        parts.append(f"{'L' if is_down else 'M'}{x:.1f} {y:.1f}")
        is_down = True
    return " ".join(parts)


def shorten_number(text: str | None) -> str:
    """Write a decimal with at most six significant digits, for people; the exact one stands beside."""
    if text is None:
        return "unknown"
    if text in ("true", "false"):
        return text
    number = Decimal(text)
    return print_number(number) if len(text) <= 10 else f"{number:.6g}"
