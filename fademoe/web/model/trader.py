"""What pages and API change about paper accounts."""

from psycopg2.extensions import cursor as Cursor

from fademoe.backtest.request import RunRequest
from fademoe.errors import ConfigError, FadeMoeError, StoreError
from fademoe.store import trader
from fademoe.trader.accounts import add_account, describe_switch
from fademoe.trader.switches import TraderSettings
from fademoe.web.model.services import Services, run_change
from fademoe.web.problem import Problem


def switch_all(services: Services, *, is_on: bool, reason: str) -> None:
    """Switch all accounts on or off; it holds from the next minute that is stepped on."""
    action = trader.ON if is_on else trader.OFF
    run_change(services, lambda cursor: trader.add_action(cursor, None, action, reason))


def reset_account(services: Services, name: str, reason: str) -> str:
    """Take back the kill switch of an account; return in words what was done.

    Raises the 400 without a reason, the 404 for an unknown account.
    """
    if not reason.strip():
        raise Problem(400, "a reason is required to reset a kill switch: it is kept in the history", parameter="reason")

    def work(cursor: Cursor) -> str:
        if not trader.reset(cursor, name):
            raise Problem(404, f"there is no account {name[:100]!r}")
        trader.add_action(cursor, name, trader.RESET, reason.strip())
        return f"{name} is on from the next minute on{describe_switch(cursor)}"

    return run_change(services, work)


def make_account(services: Services, name: str, request: RunRequest, settings: TraderSettings) -> str:
    """Make an account; return in words what was done. Raises the 400 that says what is wrong."""

    def work(cursor: Cursor) -> str:
        add_account(cursor, name, request, settings)
        return f"{name} trades on paper from the next minute on{describe_switch(cursor)}"

    try:
        return run_change(services, work)
    except StoreError:
        raise
    except (ConfigError, FadeMoeError) as error:
        raise Problem(400, str(error)) from error


def remove_account(services: Services, name: str) -> bool:
    """Delete an account with its ledger; return whether there was one."""
    return run_change(services, lambda cursor: trader.remove(cursor, name))
