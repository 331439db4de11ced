"""What an alert rule would have done in the last days, for one contract, part by part."""

from psycopg2.extensions import cursor as Cursor

from fademoe.alerts.replay import try_rule
from fademoe.alerts.rules import Rule
from fademoe.alerts.state_machine import Instance, State
from fademoe.clock import DAY_MS, MINUTE_MS, Window, floor_to, now_ms
from fademoe.expressions import print_value
from fademoe.web.model.answer import Answer

PREVIEW_S = 3.0  # of computing: then the preview ends earlier
POSITION_PARTS = 7


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


def write_position(*parts: object) -> str:
    """Write what `preview` reads as its position."""
    return "_".join(map(str, parts))
