"""What pages and API change about paper accounts."""

from collections.abc import Callable
from typing import TypeVar

from psycopg2.extensions import cursor as Cursor

from fademoe.backtest.request import RunRequest
from fademoe.errors import ConfigError, FadeMoeError, StoreError
from fademoe.store import trader
from fademoe.store.connection import Database
from fademoe.trader.accounts import add_account
from fademoe.trader.switches import TraderSettings
from fademoe.web.model.services import Services
from fademoe.web.problem import Problem

T = TypeVar("T")


def switch_all(services: Services, *, is_on: bool, reason: str) -> None:
    """Switch all accounts on or off; it holds from the next minute that is stepped on."""
    action = trader.ON if is_on else trader.OFF
    _write(services, lambda cursor: trader.add_action(cursor, None, action, reason))


def reset_account(services: Services, name: str, reason: str) -> None:
    """Take back the kill switch of an account. Raises the 400 without a reason, the 404 for an unknown account."""
    if not reason.strip():
        raise Problem(400, "a kill switch is reset with a reason, which stands in the history", parameter="reason")

    def work(cursor: Cursor) -> bool:
        found = trader.reset(cursor, name)
        if found:
            trader.add_action(cursor, name, trader.RESET, reason.strip())
        return found

    if not _write(services, work):
        raise Problem(404, f"there is no account {name[:100]!r}")


def make_account(services: Services, name: str, request: RunRequest, settings: TraderSettings) -> None:
    """Make an account. Raises the 400 that says what is wrong."""
    try:
        _write(services, lambda cursor: add_account(cursor, name, request, settings))
    except StoreError:
        raise
    except (ConfigError, FadeMoeError) as error:
        raise Problem(400, str(error)) from error


def remove_account(services: Services, name: str) -> bool:
    """Delete an account with its ledger; return whether there was one."""
    return _write(services, lambda cursor: trader.remove(cursor, name))


def _write(services: Services, work: Callable[[Cursor], T]) -> T:
    database = Database(services.settings.postgres_url, "fademoe web change")
    try:
        return database.run(work)
    finally:
        database.close()
