"""Signing in and out."""

from flask import Blueprint, Response, redirect, render_template, request, session
from werkzeug.wrappers import Response as BaseResponse

from fademoe.clock import monotonic_s
from fademoe.web.http import auth
from fademoe.web.problem import Problem

blueprint = Blueprint("session", __name__)

ATTEMPTS = 10  # wrong tokens per PERIOD_S and process, of all clients together
PERIOD_S = 60

_wrong: list[float] = []


@blueprint.get("/login")
def show_form() -> str:
    """Show the form that asks for the admin token."""
    return render_template("login.html", wrong=False, goal=keep_own_path(request.args.get("next", "/")))


@blueprint.post("/login")
def sign_in() -> BaseResponse:
    """Begin a session."""
    now = monotonic_s()
    _wrong[:] = [at for at in _wrong if at > now - PERIOD_S]
    if len(_wrong) >= ATTEMPTS:
        raise Problem(429, f"more than {ATTEMPTS} wrong tokens in a minute; try again later", retry_after_s=PERIOD_S)
    goal = keep_own_path(request.form.get("next", "/"))
    if auth.sign_in(request.form.get("token", "").strip()):
        return redirect(goal, 303)
    _wrong.append(now)
    return Response(render_template("login.html", wrong=True, goal=goal), 401)


@blueprint.post("/logout")
def sign_out() -> BaseResponse:
    """End the session."""
    session.clear()
    return redirect("/", 303)


def keep_own_path(given: str) -> str:
    """Return a path of this site as it is, `/` for anything else: no redirect leads to another site."""
    is_ours = given.startswith("/") and not given.startswith("//") and "\\" not in given and given.isprintable()
    return given if is_ours else "/"
