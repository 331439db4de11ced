"""Addresses of pages: the whole state of a page is in its query."""

from urllib.parse import urlencode

from flask import request


def address(changed: dict[str, str]) -> str:
    """Return the address of this page with some parameters changed; an empty one is left out."""
    given = {name: ",".join(request.args.getlist(name)) for name in request.args}
    query = {name: value for name, value in (given | changed).items() if value}
    return f"{request.path}?{urlencode(query)}" if query else request.path
