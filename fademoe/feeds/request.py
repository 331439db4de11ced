"""What is sent to a REST endpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

import orjson

from fademoe.feeds.instrument import Json

Params = Mapping[str, str | int]  # query parameters


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request to an exchange: a path behind its REST address, query parameters, and where it has one a JSON body.

    str() gives it as messages and logs show it: path, query and body.
    """

    path: str
    params: Params = field(default_factory=dict)
    json: Json = None
    method: str = "GET"

    def __str__(self) -> str:
        """Return the path with its query, and the body after a blank."""
        query = f"?{urlencode(self.params)}" if self.params else ""
        body = f" {orjson.dumps(self.json).decode()}" if self.json is not None else ""
        return f"{self.path}{query}{body}"


def to_request(path: str, params: Params, body: Json = None) -> Request:
    """Return the request of a feed: a POST where it has a JSON body, otherwise a GET."""
    return Request(path=path, params=params, json=body, method="GET" if body is None else "POST")
