"""A paper account between two minutes, and its state as text."""

import json
import re
from dataclasses import dataclass, replace
from decimal import localcontext
from typing import Any

from psycopg2.extensions import cursor as Cursor

from fademoe.account.numbers import EXACT
from fademoe.account.state import Account
from fademoe.alerts.records import list_channels
from fademoe.backtest.plan import Plan
from fademoe.backtest.request import RunRequest, make_plan
from fademoe.backtest.strategies import RunningStrategy
from fademoe.clock import DAY_MS, floor_to
from fademoe.errors import ConfigError
from fademoe.store import trader as store
from fademoe.store.coverage import Series
from fademoe.store.trader import TraderAccount
from fademoe.trader.attributes import read_attributes, write_attributes
from fademoe.trader.switches import SwitchCounts, TraderSettings

FOREVER_MS = 2**53  # the end of the plan of an account
_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")


@dataclass(kw_only=True)
class PaperAccount:
    """All that a minute changes, and the plan by which it does.

    `reads`: the series that the strategy has asked for beside those of its own exchange; minutes wait for them, too.
    """

    name: str
    plan: Plan
    settings: TraderSettings
    cursor: int
    account: Account
    strategy: RunningStrategy
    counts: SwitchCounts
    is_off: bool = False
    reads: set[tuple[Series, str]]

    def write_state(self) -> str:
        """Return the state as text; raise ConfigError when an attribute of the strategy cannot be stored."""
        return json.dumps(
            {
                "account": self.account.to_json(),
                "attributes": write_attributes(self.strategy.get_state()),
                "watch": self.counts.to_json(),
                "is_off": self.is_off,
                "reads": sorted([*series, metric] for series, metric in self.reads),
            },
            sort_keys=True,
        )


def open_account(name: str, plan: Plan, settings: TraderSettings) -> PaperAccount:
    """Return a new account before its first minute. Raises StrategyFailed."""
    account = Account.open(plan.conditions, plan.capital)
    day = floor_to(plan.since, DAY_MS)
    with localcontext(EXACT):
        strategy = plan.strategy.make(plan.params)
    return PaperAccount(
        name=name,
        plan=plan,
        settings=settings,
        cursor=plan.since,
        account=account,
        strategy=strategy,
        counts=SwitchCounts(day=day, day_equity=plan.capital, peak=plan.capital, last=plan.capital),
        reads=set(),
    )


def load_account(stored: TraderAccount) -> PaperAccount:
    """Return an account as it was stored."""
    plan = Plan.from_json(stored.plan)
    return restore(stored.name, plan, TraderSettings.from_json(stored.settings), stored.cursor, stored.state)


def restore(name: str, plan: Plan, settings: TraderSettings, cursor: int, state: str) -> PaperAccount:
    """Return the account of a state that `write_state` wrote."""
    content: dict[str, Any] = json.loads(state)
    opened = open_account(name, plan, settings)
    opened.cursor = cursor
    opened.account = Account.from_json(content["account"])
    opened.strategy.set_state(read_attributes(content["attributes"]))
    opened.counts = SwitchCounts.from_json(content["watch"])
    opened.is_off = content["is_off"]
    opened.reads = {(Series(source, symbol), metric) for source, symbol, metric in content["reads"]}
    return opened


def describe_switch(cursor: Cursor) -> str:
    """Return words that go behind what is said of an account: "" while the switch of all accounts is on."""
    return "" if store.is_on(cursor) else "; but the switch of all accounts is off"


def check_name(name: str) -> str:
    """Return the name of an account; raise ConfigError that says what is valid."""
    if not _NAME.fullmatch(name) or name in ("on", "off"):
        raise ConfigError(
            f"{name[:100]!r} is no name of an account: valid are 1 to 60 of A-Z, a-z, 0-9, - and _, not on, not off"
        )
    return name


def add_account(cursor: Cursor, name: str, request: RunRequest, settings: TraderSettings) -> TraderAccount:
    """Add an account that begins with the first minute of a request; its end does not count.

    Raises ConfigError for a wrong request, a name that is taken, a channel that is not there, and a strategy whose
    attributes cannot be stored; StrategyFailed when the strategy fails as it is made.
    """
    channels = sorted(list_channels(cursor))
    for channel in settings.channels:
        if channel not in channels:
            valid = ", ".join(channels) or "none yet"
            raise ConfigError(
                f"--channel {channel}: alerts have no such channel. Valid: {valid} (fademoe alerts apply)"
            )
    plan = make_plan(cursor, request)
    # a settlement that is not known is listed and not charged: a paper account cannot be run again
    plan = replace(plan, until=FOREVER_MS, conditions=replace(plan.conditions, allow_holes=True))
    state = open_account(check_name(name), plan, settings).write_state()
    if not store.add(cursor, name, plan.to_json(), settings.to_json(), plan.since, state):
        raise ConfigError(f"there is an account {name!r} already: fademoe trader remove {name}")
    added = store.find_account(cursor, name)
    assert added is not None
    return added
