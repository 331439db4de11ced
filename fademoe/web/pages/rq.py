"""rq-dashboard under /rq, read-only; the actions are on the queues page."""

import re
import secrets
from collections.abc import Callable
from functools import wraps
from typing import Any

import redis
import rq_dashboard
import rq_dashboard.web
from flask import Flask, Response, make_response, render_template, request
from rq import Worker
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from fademoe.settings import mask_url
from fademoe.web.current import NAME, get_services
from fademoe.web.http.auth import SAFE_METHODS
from fademoe.web.model.services import convert_redis_errors
from fademoe.web.problem import Problem

PREFIX = "/rq"
BLUEPRINT = "rq_dashboard"
# Its pages use inline scripts, which get the answer's nonce, and templates compiled in the browser. A script in
# a job's text has no nonce and does not run.
POLICY = (
    "default-src 'self'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
# Its other endpoints change something; its requeue route does so even on GET.
READING = (
    "queues_overview",
    "workers_overview",
    "jobs_overview",
    "job_view",
    "list_queues",
    "list_jobs",
    "list_workers",
    "job_info",
    "favicon",
    "static",
)
# Values that it would answer with an exception, or with all jobs at once.
VALID: dict[str, Callable[[Any], object]] = {
    "job_id": lambda value: re.fullmatch(r"[A-Za-z0-9_-]{1,200}", value),
    "queue_name": lambda value: value is None or re.fullmatch(r"[\w-]{1,100}", value),
    "instance_number": lambda value: int(value) == 0,
    "registry_name": lambda value: (
        value in (None, "queued", "failed", "deferred", "started", "finished", "scheduled", "canceled")
    ),
    "order": lambda value: value in ("asc", "dsc"),
    "per_page": lambda value: re.fullmatch(r"[1-9][0-9]?|100", str(value)),
    "page": lambda value: re.fullmatch(r"[1-9][0-9]{0,4}", str(value)),
}


class _JsonJob(Job):
    """A job stored as JSON: rq-dashboard does not always pass its serializer on."""

    @classmethod
    def fetch(cls, id: str, connection: redis.Redis | None = None, serializer: Any = None) -> Job:
        return super().fetch(id, connection=connection, serializer=serializer or JSONSerializer)


class _JsonWorker(Worker):
    """A worker whose jobs are stored as JSON."""

    @classmethod
    def all(cls, **given: Any) -> list[Worker]:
        workers: list[Worker] = Worker.all(**({"serializer": JSONSerializer} | given))
        return workers


def mount(app: Flask) -> None:
    """Register rq-dashboard under /rq, on the connection to Redis of the services."""
    rq_dashboard.web.config.serializer = JSONSerializer
    rq_dashboard.web.Job = _JsonJob
    rq_dashboard.web.Worker = _JsonWorker
    # It would open a connection for each request, to an address that it also shows.
    rq_dashboard.web.from_url = lambda url, **options: (None, get_services().redis)
    app.config["RQ_DASHBOARD_REDIS_URL"] = (mask_url(app.extensions[NAME].settings.queue_url),)
    app.config["RQ_DASHBOARD_DISABLE_DELETE"] = True
    app.config["RQ_DASHBOARD_POLL_INTERVAL"] = 5_000
    app.redis_conn = app.extensions[NAME].redis  # type: ignore[attr-defined]
    app.before_request(_refuse_changes)
    app.register_blueprint(rq_dashboard.blueprint, url_prefix=PREFIX)
    for endpoint, view in app.view_functions.items():
        if endpoint.startswith(f"{BLUEPRINT}.") and endpoint != f"{BLUEPRINT}.static":
            app.view_functions[endpoint] = _framed(view)


def _refuse_changes() -> None:
    if request.blueprint != BLUEPRINT:
        return
    if request.method not in SAFE_METHODS or str(request.endpoint).partition(".")[2] not in READING:
        raise Problem(403, "rq-dashboard is read-only here; use the queues page for actions")
    for name, is_valid in VALID.items():
        if name in (request.view_args or {}) and not is_valid((request.view_args or {})[name]):
            raise Problem(404, f"not found: {request.path}")


def _framed(view: Callable[..., Any]) -> Callable[..., Response]:
    """Return a view that raises Problem for errors, and whose pages get FadeMoe's banner and navigation."""

    @wraps(view)
    def framed(**given: Any) -> Response:
        with convert_redis_errors(get_services().redis):
            get_services().redis.ping()  # without Redis it would answer 200 with a short text
            try:
                response = make_response(view(**given))
            except NoSuchJobError:
                raise Problem(404, "no such job: it has ended, or it was removed") from None
        nonce = secrets.token_urlsafe(16)
        response.headers["Content-Security-Policy"] = POLICY.format(nonce=nonce)
        if response.mimetype == "text/html":
            text = response.get_data(as_text=True).replace("<script", f'<script nonce="{nonce}"')
            head, _, body = text.partition("<body>")
            # Its template requests its icon from FadeMoe's static folder.
            head = head.replace("/static/favicon.ico", "/static/icon.svg")
            head = head.replace("</head>", f"{render_template('rq_head.html')}</head>")
            response.set_data(f"{head}<body>{render_template('rq_bar.html')}{body}")
        return response

    return framed
