"""The control API's description of itself, in OpenAPI 3.1, made of the same table that routes requests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from netstack import __version__
from netstack.control.answers import Error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netstack.control.api import Route

__all__ = ["describe"]


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The document for these routes."""
    routes = list(routes)
    types: list[Any] = [Error]
    for route in routes:
        types += [t for t in (route.request, route.answer) if t is not None and t not in types]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema = dict(zip(types, schemas, strict=True))

    def content(kind: Any) -> dict[str, Any]:
        return {"application/json": {"schema": schema[kind]}}

    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        answer: dict[str, Any] = {"description": route.summary}
        if route.answer is not None:
            answer["content"] = content(route.answer)
        elif route.media is not None:
            answer["content"] = {route.media: {"schema": {"type": "string"}}}
        responses = {str(route.status): answer}
        for status, why in route.errors.items():
            responses[str(status)] = {"description": why, "content": content(Error)}
        operation: dict[str, Any] = {
            "operationId": route.handler,
            "summary": route.summary,
            "responses": responses,
        }
        if route.request is not None:
            operation["requestBody"] = {"required": True, "content": content(route.request)}
        names = re.findall(r"{(\w+)}", route.path)
        if names:
            operation["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "integer"}}
                for name in names
            ]
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "netstack control API", "version": __version__},
        "paths": paths,
        "components": {"schemas": components},
    }
