"""The pages of paper accounts: all of them, and one with its equity beside that of its backtest."""

from flask import after_this_request
from werkzeug.wrappers import Response

from fademoe.backtest.plan import list_exchanges
from fademoe.backtest.request import list_examples, read_declared_params
from fademoe.store import trader
from fademoe.store.backtests import LEDGER_COLUMNS
from fademoe.web.api.trader import NAME, find_account
from fademoe.web.current import get_services
from fademoe.web.http.params import Params, Text
from fademoe.web.http.routes import Routes
from fademoe.web.pages.charts import CHARTS_POLICY

routes = Routes("pages_trader")

STRATEGY = Text("strategy", "a strategy file")
LEDGER_MOST = 100
ACTIONS_MOST = 20


@routes.show("/trader", "trader.html", (STRATEGY,))
def show_trader(params: Params) -> dict[str, object]:
    """Show the accounts, the history of the switch, and the form that makes an account."""
    files = list_examples()
    chosen = next((path for path in files if path.name == params[STRATEGY]), files[0] if files else None)
    with get_services().reader.read() as cursor:
        accounts = [trader.summarise(account) for account in trader.list_accounts(cursor)]
        actions = trader.list_actions(cursor, None, ACTIONS_MOST)
        is_on = trader.is_on(cursor)
    return {
        "accounts": accounts,
        "actions": actions,
        "is_on": is_on,
        "files": [path.name for path in files],
        "chosen": chosen.name if chosen else "",
        "declared": read_declared_params(chosen) if chosen else {},
        "exchanges": list_exchanges(),
        "twin": "/api/trader",
    }


@routes.show("/trader/account", "account.html", (NAME,))
def show_account_page(params: Params) -> dict[str, object]:
    """Show an account."""
    found = find_account(params[NAME])
    after_this_request(_allow_styles)
    with get_services().reader.read() as cursor:
        account = trader.describe(cursor, found)
        rows = trader.read_newest_ledger(cursor, found.name, LEDGER_MOST)
        decisions = trader.list_decisions(cursor, found.name, ACTIONS_MOST)
        reconciled = trader.list_reconciliations(cursor, found.name, 1)
        actions = trader.list_actions(cursor, found.name, ACTIONS_MOST)
    return {
        "account": account,
        "ledger": [dict(zip(LEDGER_COLUMNS, row, strict=True)) for row in rows],
        "decisions": [
            {"minute": minute, "symbol": symbol, "orders": "; ".join(" ".join(map(str, order)) for order in orders)}
            for minute, symbol, orders in decisions
        ],
        "newest": reconciled[0] if reconciled else None,
        "curve": reconciled[0].curve if reconciled else [],
        "actions": actions,
        "twin": f"/api/trader/{found.name}",
    }


def _allow_styles(response: Response) -> Response:
    """Let plotly write styles into the page."""
    response.headers["Content-Security-Policy"] = CHARTS_POLICY
    return response
