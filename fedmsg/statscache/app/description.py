# SPDX-License-Identifier: LGPL-2.1-or-later
"""The description of all routes by OpenAPI."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fedmsg._web import answers, openapi
from fedmsg.statscache.app.arguments import ROUTES, SUMMARIES

__all__ = ["document"]

_PROBLEM = answers.PROBLEM
_ROW: dict[str, Any] = {
    "type": "object", "properties": {"timestamp": {"type": "number"}}, "required": ["timestamp"],
}  # fmt: skip
_SCHEMAS: dict[str, dict[str, Any]] = {
    "/api/": {"type": "array", "items": {"type": "string"}},
    "/api/{ident}": {"type": "array", "items": {"$ref": "#/components/schemas/Row"}},
    "/api/{ident}/layout": {},
    "/openapi.json": {"type": "object"},
}
_TYPES = {
    "/api/{ident}": ["application/json", "application/javascript", "text/csv"],
    "/metrics": ["text/plain", "application/openmetrics-text"],
    "/healthz/live": [_PROBLEM],
    "/healthz/ready": [_PROBLEM],
    "/openapi.json": ["application/json"],
}


def document(server: str, idents: Iterable[str]) -> dict[str, Any]:
    """Return the description as OpenAPI has it.

    Args:
        server: The address of the application.
        idents: The names of the statistics.
    """
    names = sorted(idents)
    paths = {path: {"get": _get(path, summary, names)} for path, summary in SUMMARIES.items()}
    return openapi.document("statscache", "Statistics of a message bus.", server, paths, {"Row": _ROW})


def _get(path: str, summary: str, names: list[str]) -> dict[str, Any]:
    rows = ROUTES.get(path, [])
    parameters = [openapi.parameter(row) for row in rows]
    if "{ident}" in path:
        schema: dict[str, Any] = {"type": "string"}
        ident: dict[str, Any] = {"name": "ident", "in": "path", "required": True, "schema": schema}
        if names:
            schema["examples"], ident["example"] = names, names[0]
        parameters.append(ident)
    failures = {"503": "The database can't be read now, or the query takes too long"}
    if rows:
        failures["400"] = "An argument makes no sense, or there is no such page; the answer names it"
        failures["414"] = "The address is longer than 8190 characters"
        failures["406"] = "The client takes no form that there is"
    if "{ident}" in path:
        failures["404"] = "There is no such thing"
    types = _TYPES.get(path, ["application/json", "application/javascript"])
    content = {kind: {"schema": _SCHEMAS[path]} if kind == "application/json" else {} for kind in types}
    answered = {"200": {"description": "The answer", "content": content}}
    return {
        "summary": summary, "operationId": openapi.name_of("get", path), "parameters": parameters,
        "responses": {**answered, **openapi.failures(failures)},
    }  # fmt: skip
