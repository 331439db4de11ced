"""Makes, removes, resets and switches paper accounts from the pages."""

from flask import flash, redirect, request
from werkzeug.wrappers import Response

from fademoe.backtest.request import RunRequest, list_examples
from fademoe.clock import MINUTE_MS, ceil_to, now_ms
from fademoe.trader.switches import CLOSE, HOLD, RESUME, WAIT, TraderSettings
from fademoe.web.control.backtests import CAPITAL, EXCHANGE, LEVERAGE, PARAMS, STRATEGY, SYMBOLS, read_pairs
from fademoe.web.control.routes import DONE, ON_OFF, answer_done
from fademoe.web.current import get_services
from fademoe.web.http.params import Choice, Params, Text
from fademoe.web.http.routes import Routes
from fademoe.web.model.trader import make_account, remove_account, reset_account, switch_all

routes = Routes("control_trader")

NAME = Text("name", "the name of an account: letters, digits, - and _", is_required=True)
REASON = Text("reason", "why; it stands in the history")
WHEN_OFF = Choice("when_off", "hold by default", (HOLD, CLOSE), HOLD)
AFTER_STALE = Choice("after_stale", "resume by default", (RESUME, WAIT), RESUME)
MADE = (NAME, STRATEGY, SYMBOLS, EXCHANGE, PARAMS, CAPITAL, LEVERAGE, WHEN_OFF, AFTER_STALE)


@routes.post("/control/trader", "Switch all paper accounts on or off", (ON_OFF, REASON), DONE)
def switch_trader(params: Params) -> Response:
    """Switch all accounts."""
    is_on = params[ON_OFF] == "on"
    switch_all(get_services(), is_on=is_on, reason=params[REASON])
    return answer_done(f"the core trader is {'on' if is_on else 'off'} from the next minute on")


@routes.post("/control/trader/reset", "Take back the kill switch of an account", (NAME, REASON), DONE)
def reset_trader(params: Params) -> Response:
    """Reset a kill switch."""
    return answer_done(reset_account(get_services(), params[NAME], params[REASON]))


@routes.post("/control/trader/add", "Make a paper account of a strategy of the checkout", MADE, DONE)
def add_trader_account(params: Params) -> Response:
    """Make an account."""
    files = {path.name: path for path in list_examples()}
    if params[STRATEGY] not in files:
        raise params.refuse(STRATEGY, sorted(files))
    since = ceil_to(now_ms(), MINUTE_MS)
    path = files[params[STRATEGY]]
    requested = RunRequest(
        name=path.name,
        text=path.read_bytes().decode(),
        exchange=params[EXCHANGE],
        symbols=params[SYMBOLS],
        since=since,
        until=since + MINUTE_MS,
        params=read_pairs(params[PARAMS]),
        capital=params[CAPITAL],
        leverage=params[LEVERAGE],
    )
    settings = TraderSettings(when_off=params[WHEN_OFF], after_stale=params[AFTER_STALE], path=str(path))
    return answer_done(make_account(get_services(), params[NAME], requested, settings))


@routes.post("/control/trader/remove", "Delete a paper account with its ledger", (NAME,), DONE)
def remove_trader_account(params: Params) -> Response:
    """Delete an account."""
    done = remove_account(get_services(), params[NAME])
    text = f"{params[NAME]} is removed" if done else f"there was no account {params[NAME]}"
    if request.is_json or request.accept_mimetypes.best == "application/json":
        return answer_done(text)
    flash(text)
    return redirect("/trader", 303)
