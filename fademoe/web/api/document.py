"""The description of the API (OpenAPI 3.1), and the page to try it."""

from flask import Blueprint, Response, current_app, render_template, request

import fademoe
from fademoe.web.http.formats import make_json_response
from fademoe.web.http.openapi import describe_api
from fademoe.web.http.params import Json, Params
from fademoe.web.http.routes import OPERATIONS

blueprint = Blueprint("openapi", __name__)

DESCRIPTION = (
    "Market data of crypto perpetual futures. Times are accepted as ISO 8601 (UTC unless they name another zone) or as"
    " an epoch in seconds or milliseconds; ranges are [from, to); a candle's ts is its open time, a sample's ts the"
    " instant it stands for. Integers are numbers; decimals are strings, exactly as the exchange sent them; null: the"
    " exchange sends none. Pages are found by an opaque cursor. Every error is a problem body (RFC 9457)."
)


@blueprint.get("/api/openapi.json")
def show_document() -> Response:
    """Answer the OpenAPI document."""
    return make_json_response(_describe())


@blueprint.get("/api")
def show_api() -> str:
    """Show every operation with a form to try it."""
    Params(request.args.to_dict(flat=False), ())
    return render_template("api.html", document=_describe())


def _describe() -> Json:
    info = {"title": "FadeMoe", "version": fademoe.__version__, "description": DESCRIPTION}
    return describe_api(info, current_app.extensions[OPERATIONS])
