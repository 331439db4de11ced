"""The cards of the alerts page: each rule in force for each contract, with values, history and silences."""

import hashlib
from collections.abc import Sequence

from psycopg2.extensions import cursor as Cursor

from fademoe.alerts import records
from fademoe.alerts.language import compile_condition
from fademoe.alerts.outbox import list_deliveries
from fademoe.alerts.records import StoredRule, StoredSilence
from fademoe.alerts.rules import ALL, Rule
from fademoe.alerts.state_machine import Instance, State
from fademoe.clock import DAY_MS, MINUTE_MS, now_ms
from fademoe.evaluation import Place, Watch, replay
from fademoe.expressions import Expression, ExpressionError
from fademoe.expressions.tree import Comparison, Logic, Node, Number, Sign
from fademoe.web.model.alert_history import DeliveryInfo, describe_deliveries
from fademoe.web.model.alert_rules import name_state
from fademoe.web.model.answer import Answer

SPARK_MINUTES = 60
MAX_CARDS = 48  # with values; more are counted
HISTORY_MS = 31 * DAY_MS
ORDER = (State.FIRING, State.PENDING, State.RESOLVED)


class Reading(Answer):
    """One comparison of a rule: the value at the newest evaluated minute beside what it is compared with."""

    text: str
    value: str | None
    operator: str
    threshold: str


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
    shown = [one for one in shown if not wanted.state or name_state(one[2]) == wanted.state]
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


def find_card(cursor: Cursor, identifier: str) -> Card | None:
    """Return the card of an active instance by its id."""
    for stored in records.list_rules(cursor):
        for place, instance in records.read_states(cursor).get(stored.id, {}).items():
            card = _make_card(stored, place, instance, None)
            if card.id == identifier:
                return card
    return None


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
            watches.append(Watch.of_value(len(watches), expression, (card.code,), symbols))
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
            card.deliveries = describe_deliveries(deliveries.get(stored.transition.id, ()))


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
