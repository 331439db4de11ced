"""Authorization: reads are open on loopback, everything else needs the admin token.

A program sends `Authorization: Bearer <token>`; a browser signs in once and holds a session cookie, whose changes also
need the CSRF token of that session.
"""

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from flask import Flask, current_app, request, session

from fademoe.settings import LOOPBACK, Settings
from fademoe.tokens import load_admin_token
from fademoe.web.problem import Problem

SIGNED_IN = "signed_in"
CSRF = "csrf"
CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# Open without signing in, on every address: health, the form to sign in, styles and scripts.
OPEN_ENDPOINTS = ("api_system.show_health", "session.show_form", "session.sign_in", "static")
TOKEN = "FADEMOE_TOKEN"


def set_up(app: Flask, settings: Settings) -> None:
    """Give the application its token and the key of its cookies, which each process derives from the token."""
    token = load_admin_token(settings.admin_token, settings.home)
    app.config[TOKEN] = token
    app.secret_key = hmac.new(token.encode(), b"fademoe session", hashlib.sha256).digest()
    app.config.update(
        SESSION_COOKIE_NAME="fademoe",
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_HTTPONLY=True,
    )
    app.before_request(_guard)


def is_signed_in() -> bool:
    """Return whether this request has the token or the cookie of a session."""
    return _has_token() or session.get(SIGNED_IN) is True


def sign_in(given: str) -> bool:
    """Begin a session and return True if the token is correct."""
    if not _equal(given, current_app.config[TOKEN]):
        return False
    session.clear()
    session[SIGNED_IN] = True
    session[CSRF] = secrets.token_urlsafe(24)
    return True


def get_csrf_token() -> str:
    """Return the CSRF token of this session, empty without a session."""
    token: str = session.get(CSRF, "")
    return token


def is_open() -> bool:
    """Return whether reads need no token: the server is bound to loopback, and the request names loopback as its host.

    A foreign page whose host name resolves to this server (DNS rebinding) names another host.
    """
    settings: Settings = current_app.extensions["fademoe"].settings
    return settings.web_host in LOOPBACK and urlsplit(f"//{request.host}").hostname in LOOPBACK


def _guard() -> None:
    if request.endpoint in OPEN_ENDPOINTS:
        return
    if request.method in SAFE_METHODS:
        if not is_open() and not is_signed_in():
            raise Problem(401, "reads need the admin token: sign in, or send it as a Bearer token")
        return
    if not is_signed_in():
        raise Problem(401, "changes need the admin token: sign in, or send it as a Bearer token")
    if not _has_token():
        given = request.headers.get(CSRF_HEADER) or request.form.get(CSRF, "")
        if not _equal(given, get_csrf_token()):
            raise Problem(403, "CSRF token expired, reload the page")


def _has_token() -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and _equal(given.strip(), current_app.config[TOKEN])


def _equal(given: str, right: str) -> bool:
    return bool(right) and hmac.compare_digest(given.encode(), right.encode())
