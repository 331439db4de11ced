"""The web application: the routes put together, headers of every answer, the one handler of all errors."""

import logging
import os
from pathlib import Path

from flask import Flask, Response, render_template, request
from werkzeug.exceptions import HTTPException

from fademoe.errors import StoreError
from fademoe.feeds import registry
from fademoe.settings import Settings
from fademoe.store.read.pool import Busy, TooSlow
from fademoe.web.api import chart, data, exports, fill, openapi, prometheus, state, system
from fademoe.web.control import routes
from fademoe.web.current import NAME
from fademoe.web.http import auth, session
from fademoe.web.http.caching import finish
from fademoe.web.http.headers import add_headers
from fademoe.web.http.problems import add_problem_headers, is_for_programs, problem_response
from fademoe.web.model.services import make_services
from fademoe.web.pages import base, rq
from fademoe.web.pages import charts as pages_charts
from fademoe.web.pages import coverage as pages_coverage
from fademoe.web.pages import system as pages_system
from fademoe.web.problem import Problem

log = logging.getLogger(__name__)

PARTS = (
    data,
    chart,
    fill,
    state,
    system,
    exports,
    openapi,
    prometheus,
    session,
    base,
    pages_coverage,
    pages_system,
    pages_charts,
    routes,
)
BODY_MOST = 64 * 1024


def create_app(settings: Settings | None = None) -> Flask:
    """Build the application; without `settings` they are read from the environment."""
    if settings is None:
        settings = Settings.from_env(os.environ, registry.names())
    app = Flask(NAME, root_path=str(Path(__file__).parent))
    app.config["MAX_CONTENT_LENGTH"] = BODY_MOST
    app.url_map.merge_slashes = False  # an address is right or it is 404
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.extensions[NAME] = make_services(settings)
    auth.set_up(app, settings)
    for part in PARTS:
        app.register_blueprint(part.blueprint)
    rq.mount(app)
    app.register_error_handler(Exception, _answer_error)
    app.after_request(add_headers)
    app.after_request(finish)  # runs first: the last one that is registered does
    return app


def _answer_error(error: Exception) -> Response:
    """Turn whatever went wrong into a problem body or a page; a bug is logged, its text stays here."""
    problem = _problem(error)
    if is_for_programs():
        return problem_response(problem)
    page = Response(render_template("error.html", problem=problem), problem.status, mimetype="text/html")
    return add_problem_headers(page, problem)


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, Busy):
        return Problem(503, str(error), retry_after_s=1)
    if isinstance(error, TooSlow):
        return Problem(503, f"{error}: ask for fewer rows, fewer symbols or a shorter range", retry_after_s=5)
    if isinstance(error, StoreError):
        return Problem(503, str(error), retry_after_s=5)
    if isinstance(error, HTTPException) and error.code is not None:
        return _http_problem(error)
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return Problem(500, "something in FadeMoe went wrong; its log says what")


def _http_problem(error: HTTPException) -> Problem:
    if error.code == 404:
        return Problem(404, f"nothing is at {request.path}")
    if error.code == 405:
        allowed = sorted(getattr(error, "valid_methods", None) or [])
        return Problem(405, f"{request.method} is not possible here: valid is {', '.join(allowed)}", allowed=allowed)
    if error.code == 413:
        return Problem(413, f"the request is larger than {BODY_MOST} bytes", allowed=f"at most {BODY_MOST} bytes")
    return Problem(error.code or 500, error.description or error.name)
