"""Addresses of pages and answers: a link keeps every parameter of the request unless it changes it."""

from collections.abc import Collection, Mapping
from urllib.parse import urlencode

from flask import request


def build_address(changed: Mapping[str, object] | None = None, *, path: str = "", dropped: Collection[str] = ()) -> str:
    """Return the address of this request with some parameters changed or dropped; blank ones are left out.

    A parameter that was given more than once becomes one comma list. `path` replaces the path of the request.
    """
    given = {name: ",".join(request.args.getlist(name)) for name in request.args if name not in dropped}
    query = {name: str(value) for name, value in (given | dict(changed or {})).items() if value not in ("", None)}
    return f"{path or request.path}?{urlencode(query)}" if query else path or request.path
