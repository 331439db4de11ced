"""The OpenAPI 3.1 document of the routes: schemas come from the types of the answers and from the parameters."""

from collections.abc import Sequence
from typing import Any

import msgspec

from fademoe.web.http.params import Json, Parameter
from fademoe.web.http.problems import ProblemBody
from fademoe.web.http.routes import Operation

JSON_TYPE = "application/json"
TOKEN_SCHEME = "token"
REFERENCE = "#/components/schemas/{name}"


def describe_api(info: Json, operations: Sequence[Operation]) -> Json:
    """Return the OpenAPI document of some operations; `info` is its title, version and description."""
    types = {operation.bodies.json for operation in operations} | {operation.bodies.unready for operation in operations}
    named = [ProblemBody, *sorted((kind for kind in types if kind is not None), key=lambda kind: kind.__name__)]
    schemas, components = msgspec.json.schema_components(named, ref_template=REFERENCE)
    references = dict(zip(named, schemas, strict=True))
    paths: dict[str, Json] = {}
    for operation in operations:
        path = operation.path.replace("<", "{").replace(">", "}")
        paths.setdefault(path, {})[operation.method] = _describe_operation(operation, references)
    scheme = {"type": "http", "scheme": "bearer", "description": "the admin token"}
    return {
        "openapi": "3.1.0",
        "info": info,
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {TOKEN_SCHEME: scheme}},
    }


def _describe_operation(operation: Operation, references: dict[Any, Json]) -> Json:
    problem = {"application/problem+json": {"schema": references[ProblemBody]}}
    bodies = operation.bodies
    content: Json = {JSON_TYPE: {"schema": references[bodies.json]}} if bodies.json else {}
    content |= {media: {"schema": schema} for media, schema in bodies.media.items()}
    responses: Json = {"200": {"description": "the answer", "content": content}}
    responses |= {
        str(status): {"description": "what is wrong, in words", "content": problem} for status in operation.statuses
    }
    if bodies.unready:
        unready = {JSON_TYPE: {"schema": references[bodies.unready]}}
        responses["503"] = {"description": "not ready", "content": unready}
    described: Json = {"operationId": operation.name, "summary": operation.summary, "responses": responses}
    if operation.method == "get":
        return described | {"parameters": [_describe_parameter(one, operation.path) for one in operation.parameters]}
    members = {one.name: one.schema | {"description": one.description} for one in operation.parameters}
    required = [one.name for one in operation.parameters if one.is_required]
    schema = {"type": "object", "properties": members, "required": required, "additionalProperties": False}
    body = {"required": bool(required), "content": {JSON_TYPE: {"schema": schema}}}
    return described | {"parameters": [], "security": [{TOKEN_SCHEME: []}], "requestBody": body}


def _describe_parameter(parameter: Parameter[Any], path: str) -> Json:
    described: Json = {"name": parameter.name, "in": "query", "description": parameter.description}
    described["schema"] = parameter.schema
    if parameter.example:
        described["example"] = parameter.example
    if f"<{parameter.name}>" in path:
        return described | {"in": "path", "required": True, "schema": {"minLength": 1} | parameter.schema}
    return described | ({"required": True} if parameter.is_required else {})
