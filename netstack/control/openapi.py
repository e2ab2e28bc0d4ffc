"""The control API's description of itself, in OpenAPI 3.1, made of the same tables that route requests."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from netstack import __version__
from netstack.control.answers import Error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netstack.control.routes import Route

__all__ = ["describe"]

TAGS = {
    "netstack": "The instance itself",
    "vpnkit": "Port control as VPNKit's Go client expects it",
    "gvproxy": "Forwards, names and addresses as gvproxy's clients expect them",
}
#: What every route with a body may answer; too long a body is found before the route is.
BODY_ERRORS = {408: "The body has not come in time", 413: "The body is longer than 64 KiB"}
PATH_PARAMETERS = {"id": {"type": "integer"}}  # others are text


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The document for these routes."""
    routes = list(routes)
    types: list[Any] = [Error]
    for route in routes:
        wanted = (route.request, route.answer, route.error, *route.query.values())
        types += [t for t in wanted if t is not None and t not in types]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema = list(zip(types, schemas, strict=True))  # types need not be hashable
    times = Counter((route.tag, route.handler) for route in routes)

    def of(kind: Any) -> dict[str, Any]:
        return next(found for known, found in schema if known == kind)

    def content(kind: Any) -> dict[str, Any]:
        if kind is str:
            return {"text/plain": {"schema": {"type": "string"}}}
        return {"application/json": {"schema": of(kind)}}

    def identity(route: Route) -> str:
        parts = [route.handler] if route.tag == "netstack" else [route.tag, route.handler]
        return "_".join(parts + [route.method.lower()] * (times[route.tag, route.handler] > 1))

    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        answer: dict[str, Any] = {"description": route.summary}
        if route.answer is not None:
            answer["content"] = content(route.answer)
        elif route.media is not None:
            answer["content"] = {route.media: {"schema": {"type": "string"}}}
        responses = {str(route.status): answer}
        for status, why in route.errors.items():
            responses[str(status)] = {"description": why, "content": content(route.error)}
        if route.request is not None:
            for status, why in BODY_ERRORS.items():
                kind = Error if status == 413 else route.error
                responses.setdefault(str(status), {"description": why, "content": content(kind)})
        operation: dict[str, Any] = {
            "operationId": identity(route),
            "tags": [route.tag],
            "summary": route.summary,
            "responses": responses,
        }
        if route.request is not None:
            operation["requestBody"] = {"required": True, "content": content(route.request)}
        parameters = [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": PATH_PARAMETERS.get(name, {"type": "string", "minLength": 1}),
            }
            for name in re.findall(r"{(\w+)}", route.path)
        ]
        parameters += [
            {"name": name, "in": "query", "required": False, "schema": of(kind)}
            for name, kind in route.query.items()
        ]
        if parameters:
            operation["parameters"] = parameters
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "netstack control API", "version": __version__},
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {"schemas": components},
    }
