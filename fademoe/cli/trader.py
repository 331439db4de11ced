"""`fademoe trader`: paper accounts."""

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click

from fademoe.cli.arguments import TIME
from fademoe.cli.backtest import add_conditions, json_option, read_request
from fademoe.cli.environment import pass_running_settings, pass_settings
from fademoe.cli.main import DONE, FAILED
from fademoe.cli.table import format_table
from fademoe.clock import DAY_MS, MINUTE_MS, ceil_to, floor_to, now_ms, to_iso
from fademoe.errors import ConfigError
from fademoe.runtime.services import Services
from fademoe.runtime.startup import wait_for_schema
from fademoe.settings import Settings
from fademoe.store import trader as store
from fademoe.store.connection import Database
from fademoe.store.trader import TraderAccount
from fademoe.trader.accounts import add_account, check_name, describe_switch
from fademoe.trader.program import TraderProgram
from fademoe.trader.reconciliation import reconcile
from fademoe.trader.switches import CLOSE, HOLD, RESUME, WAIT, TraderSettings


class Fraction(click.ParamType[str]):
    """A decimal number above 0 and up to `most`, kept as text."""

    name = "number"

    def __init__(self, most: str) -> None:
        self._most = Decimal(most)

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text of the number; fail with the valid range."""
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        if not number.is_finite() or not 0 < number <= self._most:
            self.fail(f"{value!r}: valid are numbers above 0 and up to {self._most}", param, ctx)
        return value


SHARE = Fraction("1")


def _check_name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return check_name(value)
    except ConfigError as error:
        raise click.BadParameter(str(error), context, parameter) from error


name_argument = click.argument("name", metavar="NAME", callback=_check_name)


@click.group("trader")
def trader() -> None:
    """Make, show and reconcile paper accounts; switch them on and off.

    A paper account runs a strategy on closed, stored minutes, exactly as a backtest does. It never sends an order to an
    exchange. Exit codes: 0 done, 1 refused or different, 2 an argument is wrong.
    """


@trader.command("run")
@pass_settings
def run(settings: Settings) -> None:
    """Step the accounts until SIGTERM; supervisord runs this."""
    services = wait_for_schema(settings)
    services.stop.install()
    reading = _open_second(settings)
    TraderProgram(services.database, reading, services.stop).run()
    reading.close()
    services.close()


def _add_switches(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option("--when-off", type=click.Choice((HOLD, CLOSE)), default=HOLD, show_default=True),
            click.option(
                "--after-stale",
                type=click.Choice((RESUME, WAIT)),
                default=RESUME,
                show_default=True,
                help="What follows when data are there again.",
            ),
            click.option("--max-daily-loss", type=SHARE, help="Kill switch: a fraction of the day's first equity."),
            click.option("--max-drawdown", type=SHARE, help="Kill switch: a fraction of the highest equity."),
            click.option("--max-exposure", type=Fraction("1000"), help="Kill switch: worth of positions per equity."),
            click.option("--max-stale", type=click.IntRange(1), help="Kill switch: minutes in a row without data."),
            click.option("--max-rejections", type=click.IntRange(0), help="Kill switch: rejected orders of a day."),
            click.option("--channel", "channels", multiple=True, help="Send decisions to this channel of alerts."),
        )
    ):
        command = option(command)
    return command


@trader.command("add")
@name_argument
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE")
@add_conditions
@_add_switches
@json_option
@pass_running_settings
def add(settings: Settings, name: str, file: Path, *, as_json: bool, **options: Any) -> int:
    """Make the account NAME that runs the strategy in FILE, from the next minute on.

    The text of FILE is stored with the account: a change of the file does not change the account.
    """
    switches = TraderSettings(
        when_off=options.pop("when_off"),
        after_stale=options.pop("after_stale"),
        max_daily_loss=options.pop("max_daily_loss"),
        max_drawdown=options.pop("max_drawdown"),
        max_exposure=options.pop("max_exposure"),
        max_stale_minutes=options.pop("max_stale"),
        max_rejections=options.pop("max_rejections"),
        channels=tuple(options.pop("channels")),
        path=str(file.resolve()),
    )
    request = read_request(file, {**options, "since": 0, "until": MINUTE_MS, "as_of": None})
    services = wait_for_schema(settings)  # that may take a while, so the first minute is found afterwards
    since = ceil_to(now_ms(), MINUTE_MS)
    request = replace(request, since=since, until=since + MINUTE_MS)
    services.database.run(lambda cursor: add_account(cursor, name, request, switches))
    found = _find(services, name)
    done = f"{name} trades on paper from {to_iso(since)} on{services.database.run(describe_switch)}"
    click.echo(json.dumps(store.summarise(found)) if as_json else done)
    return DONE


@trader.command("list")
@json_option
@pass_running_settings
def list_accounts(settings: Settings, *, as_json: bool) -> None:
    """List the accounts."""
    services = wait_for_schema(settings)
    accounts = services.database.run(store.list_accounts)
    is_on = services.database.run(store.is_on)
    if as_json:
        click.echo(json.dumps({"on": is_on, "accounts": [store.summarise(each) for each in accounts]}))
        return
    click.echo(f"the trader is {'on' if is_on else 'off'}")
    rows = [
        [
            each["name"],
            each["strategy"],
            ",".join(each["symbols"])[:40],
            each["equity"],
            to_iso(each["cursor"]),
            each["state"],
        ]
        for each in map(store.summarise, accounts)
    ]
    click.echo(format_table(("name", "strategy", "symbols", "equity", "next minute", "state"), rows))


@trader.command("show")
@name_argument
@json_option
@pass_running_settings
def show(settings: Settings, name: str, *, as_json: bool) -> None:
    """Show an account: equity, positions, orders, switches, the last reconciliations."""
    services = wait_for_schema(settings)
    account = _find(services, name)
    found = services.database.run(lambda cursor: store.describe(cursor, account))
    if as_json:
        click.echo(json.dumps(found))
        return
    for key in ("name", "strategy", "exchange", "symbols", "state", "equity", "cash"):
        value = found[key]
        click.echo(f"{key:12} {', '.join(value) if isinstance(value, list) else value}")
    click.echo(f"{'since':12} {to_iso(found['since'])}")
    click.echo(f"{'next minute':12} {to_iso(found['cursor'])}")
    if found["file_differs"]:
        click.echo(f"{'file':12} {found['file']} differs from what the account runs")
    click.echo(
        format_table(("symbol", "quantity", "entry", "price"), [list(each.values()) for each in found["positions"]])
    )
    for each in found["reconciliations"]:
        click.echo(f"{to_iso(each['day'])[:10]} {'equal' if each['equal'] else 'differs'}")


@trader.command("on")
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--reason", default="", help="Why; needed to reset a kill switch.")
@json_option
@pass_running_settings
def switch_on(settings: Settings, name: str | None, reason: str, *, as_json: bool) -> None:
    """Switch all accounts on; with NAME, reset the kill switch of that account, which needs a reason."""
    services = wait_for_schema(settings)
    if name is None:
        services.database.run(lambda cursor: store.add_action(cursor, None, store.ON, reason))
    else:
        if not reason.strip():
            raise ConfigError("--reason is required to reset a kill switch: it is kept in the history")
        _find(services, name)
        services.database.run(lambda cursor: _reset(cursor, name, reason.strip()))
    note = services.database.run(describe_switch)
    click.echo(
        json.dumps({"on": services.database.run(store.is_on)}) if as_json else f"{name or 'the trader'} is on{note}"
    )


@trader.command("off")
@click.option("--reason", default="", help="Why.")
@json_option
@pass_running_settings
def switch_off(settings: Settings, reason: str, *, as_json: bool) -> None:
    """Switch all accounts off: no new orders, from the next minute that is stepped on."""
    services = wait_for_schema(settings)
    services.database.run(lambda cursor: store.add_action(cursor, None, store.OFF, reason))
    click.echo(json.dumps({"on": False}) if as_json else "the trader is off")


@trader.command("remove")
@name_argument
@json_option
@pass_running_settings
def remove(settings: Settings, name: str, *, as_json: bool) -> None:
    """Delete an account with its ledger."""
    services = wait_for_schema(settings)
    if not services.database.run(lambda cursor: store.remove(cursor, name)):
        raise ConfigError(f"there is no account {name!r}: fademoe trader list names them")
    click.echo(json.dumps({"removed": name}) if as_json else f"{name} is removed")


@trader.command("reconcile")
@name_argument
@click.option("--day", type=TIME, help="A day, such as 2026-11-25. Default: today, up to the last minute stepped.")
@json_option
@pass_running_settings
def reconcile_day(settings: Settings, name: str, day: int | None, *, as_json: bool) -> int:
    """Backtest a day of an account over today's rows and compare the ledgers; exit code 1 when they differ."""
    services = wait_for_schema(settings)
    start = floor_to(now_ms() if day is None else day, DAY_MS)
    reading = _open_second(settings)
    found = reconcile(services.database, reading, name, start)
    reading.close()
    if as_json:
        click.echo(
            json.dumps(
                {"account": name, "day": found.day, "until": found.until, "equal": found.is_equal}
                | {"differences": found.differences}
            )
        )
    else:
        for each in found.differences:
            click.echo(json.dumps(each))
        click.echo(f"{'equal' if found.is_equal else 'differs'} {to_iso(found.day)[:10]} up to {to_iso(found.until)}")
    return DONE if found.is_equal else FAILED


def _reset(cursor: Any, name: str, reason: str) -> None:
    store.reset(cursor, name)
    store.add_action(cursor, name, store.RESET, reason)


def _find(services: Services, name: str) -> TraderAccount:
    found = services.database.run(lambda cursor: store.find_account(cursor, name))
    if found is None:
        raise ConfigError(f"there is no account {name!r}: fademoe trader list names them")
    return found


def _open_second(settings: Settings) -> Database:
    return Database(settings.postgres_url, "fademoe trader")
