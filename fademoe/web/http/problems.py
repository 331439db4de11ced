"""Errors of the web: each is a problem body (RFC 9457) for programs and a page with the same words for people."""

from flask import Response, request

from fademoe.web.http.formats import json_bytes
from fademoe.web.problem import Problem

TITLES = {
    400: "Bad request",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Not now",
    413: "Too large",
    415: "Unsupported media type",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available",
}
PROGRAM_PATHS = ("/api/", "/health", "/metric", "/metrics")


def problem_response(problem: Problem) -> Response:
    """Return the problem body."""
    body = {
        "type": "about:blank",
        "title": TITLES.get(problem.status, "Error"),
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.path,
        **problem.members,
    }
    response = Response(json_bytes(body), problem.status, mimetype="application/problem+json")
    return add_problem_headers(response, problem)


def add_problem_headers(response: Response, problem: Problem) -> Response:
    """Add what the status asks for beside its body."""
    if problem.retry_after_s is not None:
        response.headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status == 405:
        response.headers["Allow"] = ", ".join(problem.members["allowed"])  # type: ignore[arg-type]
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="FadeMoe"'
    return response


def is_for_programs() -> bool:
    """Return whether the request wants the problem body, not the page."""
    if request.path.startswith(PROGRAM_PATHS) or request.is_json or request.authorization is not None:
        return True
    best = request.accept_mimetypes.best_match(["text/html", "application/json"], default="text/html")
    return best == "application/json"
