"""Paper accounts: their list, states, ledgers and equity, and the switch of all."""

from typing import Any

from flask import Response
from werkzeug.routing import BaseConverter

from fademoe.store import trader
from fademoe.store.backtests import EQUITY_COLUMNS, LEDGER_COLUMNS
from fademoe.store.trader import TraderAccount
from fademoe.web.api.ledger_pages import LIMIT, RowsPage, answer_page, read_after
from fademoe.web.current import get_services
from fademoe.web.http.params import CURSOR, Params, Text
from fademoe.web.http.routes import Bodies, Routes
from fademoe.web.model.answer import Answer
from fademoe.web.model.trader import switch_all
from fademoe.web.problem import Problem

routes = Routes("api_trader")

NAME = Text("name", "the name of an account", example="paper")
REASON = Text("reason", "why; it stands in the history")


class AccountName(BaseConverter):
    """The name of an account in a path: never the words that switch all accounts."""

    regex = r"(?!(?:on|off)$)[^/]+"
    part_isolating = True


class Accounts(Answer):
    """Whether the switch of all accounts is on, and the accounts by name."""

    on: bool
    accounts: list[dict[str, Any]]


class AccountInfo(Answer):
    """An account: positions, orders, switches, reconciliations."""

    account: dict[str, Any]


class Reconciliations(Answer):
    """Days of an account that were compared with a backtest of them, the newest first."""

    reconciliations: list[dict[str, Any]]


class Switched(Answer):
    """Whether the switch of all accounts is on now."""

    on: bool


@routes.get("/api/trader", "The paper accounts, and whether they are on")
def list_accounts(params: Params) -> Accounts:
    """Answer the accounts."""
    with get_services().reader.read() as cursor:
        accounts = [trader.summarise(account) for account in trader.list_accounts(cursor)]
        return Accounts(on=trader.is_on(cursor), accounts=accounts)


@routes.get("/api/trader/<account:name>", "A paper account", (NAME,))
def show_account(params: Params) -> AccountInfo:
    """Answer an account."""
    found = find_account(params[NAME])
    with get_services().reader.read() as cursor:
        return AccountInfo(account=trader.describe(cursor, found))


@routes.get(
    "/api/trader/<account:name>/ledger",
    "The ledger of a paper account, in order",
    (NAME, CURSOR, LIMIT),
    bodies=Bodies(json=RowsPage),
)
def list_account_ledger(params: Params) -> Response:
    """Answer a page of the ledger."""
    found = find_account(params[NAME])
    with get_services().reader.read() as cursor:
        rows = trader.read_ledger(cursor, found.name, read_after(params, 0), params[LIMIT] + 1)
    return answer_page(params, LEDGER_COLUMNS, rows)


@routes.get(
    "/api/trader/<account:name>/equity",
    "Equity and cash of a paper account at the end of each minute",
    (NAME, CURSOR, LIMIT),
    bodies=Bodies(json=RowsPage),
)
def list_account_equity(params: Params) -> Response:
    """Answer a page of the equity."""
    found = find_account(params[NAME])
    with get_services().reader.read() as cursor:
        rows = trader.read_equity(cursor, found.name, read_after(params, -1), params[LIMIT] + 1)
    return answer_page(params, EQUITY_COLUMNS, rows)


@routes.get(
    "/api/trader/<account:name>/reconciliation",
    "The days of a paper account compared with a backtest of them, the newest first",
    (NAME, LIMIT),
)
def list_account_reconciliations(params: Params) -> Reconciliations:
    """Answer the reconciliations of an account, with all differences that are stored."""
    found = find_account(params[NAME])
    with get_services().reader.read() as cursor:
        stored = trader.list_reconciliations(cursor, found.name, params[LIMIT])
    return Reconciliations(reconciliations=[trader.describe_reconciliation(each) for each in stored])


@routes.post("/api/trader/on", "Switch all paper accounts on", (REASON,))
def switch_trader_on(params: Params) -> Switched:
    """Switch all accounts on."""
    switch_all(get_services(), is_on=True, reason=params[REASON])
    return Switched(on=True)


@routes.post("/api/trader/off", "Switch all paper accounts off: no new orders", (REASON,))
def switch_trader_off(params: Params) -> Switched:
    """Switch all accounts off."""
    switch_all(get_services(), is_on=False, reason=params[REASON])
    return Switched(on=False)


def find_account(name: str) -> TraderAccount:
    """Return an account; raise the 404 for an unknown one."""
    with get_services().reader.read() as cursor:
        found = trader.find_account(cursor, name)
    if found is None:
        raise Problem(404, f"there is no account {name[:100]!r}: /api/trader lists them")
    return found
