"""The web application: its routes, the headers of every answer, and one handler for all errors."""

import logging
import os
from pathlib import Path

from flask import Flask, Response, render_template, request
from werkzeug.exceptions import HTTPException

from fademoe.errors import StoreError
from fademoe.feeds import registry
from fademoe.settings import Settings
from fademoe.store.read.pool import Busy, TooSlow
from fademoe.web.api import (
    alerts,
    archives,
    backtests,
    chart,
    comparison,
    data,
    document,
    exports,
    prometheus,
    series_coverage,
    system,
    trader,
    universe,
)
from fademoe.web.control import backtests as control_backtests
from fademoe.web.control import routes as control
from fademoe.web.control import rules as control_rules
from fademoe.web.control import trader as control_trader
from fademoe.web.current import NAME
from fademoe.web.http import auth, session
from fademoe.web.http.caching import finish
from fademoe.web.http.headers import add_headers
from fademoe.web.http.problems import add_problem_headers, is_problem_body_wanted, make_problem_response
from fademoe.web.http.routes import OPERATIONS
from fademoe.web.model.services import make_services
from fademoe.web.pages import backtests as backtest_page
from fademoe.web.pages import charts, coverage_page, frame, rq, status
from fademoe.web.pages import data as data_page
from fademoe.web.pages import trader as trader_page
from fademoe.web.problem import Problem

log = logging.getLogger(__name__)

API = (
    alerts,
    backtests,
    control_backtests,
    data,
    exports,
    chart,
    comparison,
    series_coverage,
    system,
    control,
    control_rules,
    universe,
    archives,
    trader,
    control_trader,
)
PAGES = (backtest_page, trader_page, status, data_page, coverage_page)
BLUEPRINTS = (document, prometheus, session, frame, charts)
MAX_BODY_BYTES = 64 * 1024


def create_app(settings: Settings | None = None) -> Flask:
    """Return the application; without `settings` they are read from the environment."""
    if settings is None:
        settings = Settings.read_env(os.environ, registry.list_names())
    app = Flask(NAME, root_path=str(Path(__file__).parent))
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.url_map.merge_slashes = False  # no redirect to another spelling
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.url_map.converters["account"] = trader.AccountName
    app.extensions[NAME] = make_services(settings)
    auth.set_up(app, settings)
    app.extensions[OPERATIONS] = [operation for module in API for operation in module.routes.operations]
    for blueprint in (*(module.routes.blueprint for module in (*API, *PAGES)), *(one.blueprint for one in BLUEPRINTS)):
        app.register_blueprint(blueprint)
    rq.mount(app)
    app.register_error_handler(Exception, _answer_error)
    app.after_request(add_headers)
    app.after_request(finish)  # runs first, as it is registered last
    return app


def _answer_error(error: Exception) -> Response:
    """Answer an error with a problem body or a page; a bug is logged, and its text is not sent."""
    problem = _problem(error)
    if is_problem_body_wanted():
        return make_problem_response(problem)
    page = Response(render_template("error.html", problem=problem), problem.status, mimetype="text/html")
    return add_problem_headers(page, problem)


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, Busy):
        return Problem(503, str(error), retry_after_s=1)
    if isinstance(error, TooSlow):
        return Problem(503, f"{error}: request fewer rows, fewer symbols or a shorter range", retry_after_s=5)
    if isinstance(error, StoreError):
        return Problem(503, str(error), retry_after_s=5)
    if isinstance(error, HTTPException) and error.code is not None:
        return _http_problem(error)
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return Problem(500, "internal error; see the log of the web server")


def _http_problem(error: HTTPException) -> Problem:
    if error.code == 404:
        return Problem(404, f"not found: {request.path}")
    if error.code == 405:
        methods = sorted(getattr(error, "valid_methods", None) or [])
        return Problem(405, f"{request.method} is not allowed; allowed: {', '.join(methods)}", allowed=methods)
    if error.code == 413:
        return Problem(
            413, f"the request is larger than {MAX_BODY_BYTES} bytes", allowed=f"at most {MAX_BODY_BYTES} bytes"
        )
    return Problem(error.code or 500, error.description or error.name)
