"""Starts and cancels runs of the backtester; a worker of the queue `research` runs them."""

from flask import flash, redirect, request
from werkzeug.wrappers import Response

from fademoe.backtest.request import RunRequest, check_request, list_examples
from fademoe.backtest.strategies import StrategyFile
from fademoe.errors import ConfigError
from fademoe.queue.enqueue import cancel_waiting, enqueue_backtest, make_backtest_id
from fademoe.queue.ids import RESEARCH
from fademoe.store import backtests
from fademoe.web.current import get_services
from fademoe.web.http.addresses import build_address
from fademoe.web.http.formats import make_json_response
from fademoe.web.http.params import Choice, Params, Text, Time
from fademoe.web.http.routes import Bodies, Routes
from fademoe.web.model.answer import Answer
from fademoe.web.model.services import Services, convert_redis_errors, run_change
from fademoe.web.problem import Problem

routes = Routes("control_backtests")
RULES_NAME = "rules.toml"

RUN_ID = Text("id", "the id of a run", is_required=True)
STRATEGY = Text("strategy", "the name of a strategy file of the checkout")
RULES = Text("rules", "rules in TOML, in place of a strategy file")
SYMBOLS = Text("symbols", "a comma list of symbols, or all", is_required=True)
EXCHANGE = Text("exchange", "the name of an exchange", is_required=True)
SINCE = Time("since", "start of the range, required")
UNTIL = Time("until", "end of the range, not included, required")
PARAMS = Text("params", "params of the strategy that are not their defaults: k=v with commas between")
CAPITAL = Text("capital", "USDT", "10000")
LEVERAGE = Text("leverage", "the most that positions may be worth, as a multiple of the equity", "1")
MARGIN = Choice("margin", "cross by default", ("cross", "isolated"), "cross")
SLIPPAGE = Text("slippage", "a fraction of the price", "0.0001")
ASKED = (STRATEGY, RULES, SYMBOLS, EXCHANGE, SINCE, UNTIL, PARAMS, CAPITAL, LEVERAGE, MARGIN, SLIPPAGE)


class Started(Answer):
    """What was done, and the id of the run."""

    done: str
    id: str


@routes.post("/control/backtest", "Queue a run of a strategy file, or of rules in TOML", ASKED, Bodies(json=Started))
def start_backtest(params: Params) -> Response:
    """Queue a run."""
    name, text = _read_strategy(params)
    since, until = params[SINCE], params[UNTIL]
    if since is None or until is None:
        raise Problem(400, "since and until are required: the range of the run")
    requested = RunRequest(
        name=name,
        text=text,
        exchange=params[EXCHANGE],
        symbols=params[SYMBOLS],
        since=since,
        until=until,
        params=read_pairs(params[PARAMS]),
        capital=params[CAPITAL],
        leverage=params[LEVERAGE],
        margin=params[MARGIN],
        slippage=params[SLIPPAGE],
    )
    return _answer("the run is queued", queue_run(get_services(), requested))


def _read_strategy(params: Params) -> tuple[str, str]:
    """Return the name and the text of what is to run: of rules if they are given, else of the file."""
    if RULES in params:
        try:
            StrategyFile(RULES_NAME, params[RULES])
        except ConfigError as error:
            raise Problem(400, str(error), parameter=RULES.name) from error
        return RULES_NAME, params[RULES]
    files = {path.name: path for path in list_examples()}
    if params[STRATEGY] not in files:
        raise params.refuse(STRATEGY, sorted(files))
    return params[STRATEGY], files[params[STRATEGY]].read_bytes().decode()


@routes.post("/control/backtest/cancel", "End a run that is queued or running", (RUN_ID,), Bodies(json=Started))
def cancel_backtest(params: Params) -> Response:
    """Cancel a run."""
    services, run_id = get_services(), params[RUN_ID]
    cancelled = run_change(services, lambda cursor: backtests.cancel(cursor, run_id))
    with convert_redis_errors(services.redis):
        cancel_waiting(services.redis, RESEARCH, make_backtest_id(run_id))
    return _answer("the run is cancelled" if cancelled else "the run had ended", run_id)


def queue_run(services: Services, requested: RunRequest) -> str:
    """Add a run and enqueue it; return its id. Raises the 400 that names what is wrong."""
    try:
        check_request(requested)
    except ConfigError as error:
        raise Problem(400, str(error)) from error
    run_id = run_change(
        services, lambda cursor: backtests.add(cursor, backtests.RUN, requested.name, requested.to_json())
    )
    with convert_redis_errors(services.redis):
        enqueue_backtest(services.redis, run_id, requested.name)
    return run_id


def _answer(done: str, run_id: str) -> Response:
    """Answer a program with the id, a browser with the page of the run."""
    if request.is_json or request.accept_mimetypes.best == "application/json":
        return make_json_response(Started(done=done, id=run_id))
    flash(done)
    return redirect(build_address({"id": run_id}, path="/backtester/run"), 303)


def read_pairs(text: str) -> dict[str, str]:
    """Return the pairs of a comma list of k=v; raise the 400 for anything else."""
    pairs = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            raise Problem(400, f"params is {text[:100]!r}: valid is k=v with commas between", parameter="params")
        pairs[name.strip()] = value.strip()
    return pairs
