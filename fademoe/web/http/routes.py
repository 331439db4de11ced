"""Routes from one declaration: parameters, JSON answer, HTML page, and the entry of the OpenAPI document."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, NamedTuple, TypeVar, get_type_hints
from urllib.parse import quote

import msgspec
from flask import Blueprint, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from fademoe.errors import StoreError
from fademoe.web.http.addresses import build_address
from fademoe.web.http.formats import make_json_response
from fademoe.web.http.params import Json, Parameter, Params
from fademoe.web.problem import BadParameter, Problem

Declared = tuple[Parameter[Any], ...]
Values = Mapping[str, list[str]]
View = TypeVar("View", bound=Callable[[Params], Any])
OPERATIONS = "fademoe operations"  # of the list among the extensions of the application
FORM_MEMBERS = ("csrf", "back")  # of FadeMoe's own forms, beside the parameters
CHANGE_STATUSES = (400, 401, 403, 404, 409, 413, 415, 503)

_PATH_VALUE = re.compile(r"<(?:\w+:)?(\w+)>")  # a converter of Flask may stand before the name


class Page(NamedTuple):
    """The HTML page of a JSON route: its template gets the members of the answer.

    What the JSON route reads from its path, the page reads from its query. `parameters` are of the page alone.
    """

    path: str
    template: str
    parameters: Declared = ()


class Bodies(NamedTuple):
    """What a route answers beside JSON of the type that its view returns."""

    json: type | None = None  # of a view that returns a Response
    media: Mapping[str, Json] = {}  # schemas by media type
    statuses: tuple[int, ...] = ()  # of further problems
    unready: type | None = None  # JSON of a 503 that is not a problem


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of the API, as the OpenAPI document describes it."""

    method: str
    path: str  # in Flask's notation
    name: str
    summary: str
    parameters: Declared
    statuses: tuple[int, ...]
    bodies: Bodies


class Routes:
    """The routes of one module: a blueprint, and the operations that it adds to the API."""

    def __init__(self, name: str) -> None:
        """Begin without routes; `name` is that of the blueprint."""
        self.blueprint = Blueprint(name, name)
        self.operations: list[Operation] = []

    def get(
        self,
        path: str,
        summary: str,
        parameters: Declared = (),
        *,
        page: Page | None = None,
        bodies: Bodies | None = None,
    ) -> Callable[[View], View]:
        """Register a view that reads. It takes Params and returns a msgspec.Struct, or a Response of its own."""

        def register(view: View) -> View:
            described = bodies or Bodies()
            missing = (404,) if _PATH_VALUE.search(path) else ()
            self.operations.append(
                Operation(
                    method="get",
                    path=_PATH_VALUE.sub(r"<\1>", path),
                    name=_name_operation(view),
                    summary=summary,
                    parameters=parameters,
                    statuses=(400, 401, *missing, *described.statuses, 503),
                    bodies=described._replace(json=described.json or _answer_type(view)),
                )
            )

            @wraps(view)
            def respond(**path_values: str) -> BaseResponse:
                return _to_response(view(Params(request.args.to_dict(flat=False), parameters, path_values)))

            self.blueprint.get(path)(respond)
            if page is not None:
                self._add_page(page._replace(parameters=(*parameters, *page.parameters)), view, path, page.parameters)
            return view

        return register

    def post(
        self, path: str, summary: str, parameters: Declared, bodies: Bodies | None = None
    ) -> Callable[[View], View]:
        """Register a view that changes something; its parameters are the members of a form or of a JSON object."""

        def register(view: View) -> View:
            self.operations.append(
                Operation(
                    method="post",
                    path=path,
                    name=_name_operation(view),
                    summary=summary,
                    parameters=parameters,
                    statuses=CHANGE_STATUSES,
                    bodies=bodies or Bodies(json=_answer_type(view)),
                )
            )

            @wraps(view)
            def respond() -> BaseResponse:
                return _to_response(view(Params(_read_body(), parameters)))

            self.blueprint.post(path)(respond)
            return view

        return register

    def show(self, path: str, template: str, parameters: Declared = ()) -> Callable[[View], View]:
        """Register a page that is no JSON route; its view returns the variables of the template."""

        def register(view: View) -> View:
            self._add_page(Page(path, template, parameters), view)
            return view

        return register

    def _add_page(self, page: Page, view: Callable[[Params], Any], twin: str = "", own: Declared = ()) -> None:
        """Register the page of a view. It is shown also when a server is unavailable, and then gives the `reason`.

        `twin` is the path of the same answer as JSON, which does not know the parameters `own`.
        """

        def respond() -> str:
            params = Params(request.args.to_dict(flat=False), page.parameters)
            variables: dict[str, Any] = {"params": params, "given": request.args}
            if twin:
                variables["twin"] = _twin_address(twin, params, own)
            try:
                answer = view(params)
            except StoreError as error:
                variables |= {"answer": None, "reason": str(error)}
            else:
                common = {"answer": answer, "reason": None}
                is_struct = isinstance(answer, msgspec.Struct)
                variables |= msgspec.structs.asdict(answer) | common if is_struct else common | answer
            return render_template(page.template, **variables)

        self.blueprint.add_url_rule(page.path, f"{view.__name__}_page", respond)


def _twin_address(path: str, params: Params, own: Declared) -> str:
    """Return the address of the JSON answer to the request of a page."""
    names = _PATH_VALUE.findall(path)
    filled = _PATH_VALUE.sub(lambda match: quote(params.get_text_of(match[1]), safe=""), path)
    return build_address(path=filled, dropped=(*names, *(parameter.name for parameter in own)))


def _read_body() -> Values:
    """Return the members of the body, a form or a JSON object of texts."""
    if not request.is_json:
        return {name: texts for name, texts in request.form.to_dict(flat=False).items() if name not in FORM_MEMBERS}
    try:
        body = request.get_json()
    except RecursionError:
        raise Problem(400, "the body is nested too deeply") from None
    if not isinstance(body, dict):
        raise Problem(400, "the body must be a JSON object")
    for name, value in body.items():
        if not isinstance(value, str):
            readable = name[:100].encode("utf-8", "backslashreplace").decode()  # half a surrogate pair is no text
            raise BadParameter(readable, str(value), "a text")
    return {name: [value] for name, value in body.items() if name not in FORM_MEMBERS}


def _to_response(answer: object) -> BaseResponse:
    return answer if isinstance(answer, BaseResponse) else make_json_response(answer)


def _answer_type(view: Callable[[Params], Any]) -> type | None:
    """Return the declared type of a view's answer, None when it is a Response of any kind."""
    declared = get_type_hints(view)["return"]
    return declared if isinstance(declared, type) and issubclass(declared, msgspec.Struct) else None


def _name_operation(view: Callable[[Params], Any]) -> str:
    """Return a view's name as operations are named: `list_rows` is `listRows`."""
    first, *others = view.__name__.split("_")
    return first + "".join(map(str.capitalize, others))
