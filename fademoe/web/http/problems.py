"""Responses of errors: a problem body (RFC 9457) for programs, a page with the same words for people."""

import msgspec
from flask import Response, request

from fademoe.web.http.formats import encode_json
from fademoe.web.problem import Problem

TITLES = {
    400: "Bad request",
    401: "Not signed in",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
}
PROGRAM_PATHS = ("/api/", "/health", "/metric", "/metrics")


class ProblemBody(msgspec.Struct, frozen=True, kw_only=True, rename={"kind": "type"}):
    """The members that every problem body has; others, such as `parameter` and `allowed`, may follow."""

    kind: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str


def make_problem_response(problem: Problem) -> Response:
    """Return the problem body."""
    title = TITLES.get(problem.status, "Error")
    body = ProblemBody(title=title, status=problem.status, detail=problem.detail, instance=request.path)
    content = encode_json(msgspec.to_builtins(body) | problem.members)
    response = Response(content, problem.status, mimetype="application/problem+json")
    return add_problem_headers(response, problem)


def add_problem_headers(response: Response, problem: Problem) -> Response:
    """Add the headers that the status of a problem requires; return the same response."""
    if problem.retry_after_s is not None:
        response.headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status == 405:
        response.headers["Allow"] = ", ".join(problem.members["allowed"])  # type: ignore[arg-type]
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="FadeMoe"'
    return response


def is_problem_body_wanted() -> bool:
    """Return whether an error of this request is answered with the problem body, not with the page."""
    if request.path.startswith(PROGRAM_PATHS) or request.is_json or request.authorization is not None:
        return True
    best = request.accept_mimetypes.best_match(["text/html", "application/json"], default="text/html")
    return best == "application/json"
