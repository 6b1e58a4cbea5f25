# SPDX-License-Identifier: LGPL-2.1-or-later
"""The description of all routes by OpenAPI, and the tables of the reference, from the table of arguments."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from fedmsg._web import answers
from fedmsg._web.arguments import Argument
from fedmsg.datagrepper import arguments

__all__ = ["SUMMARIES", "document"]

#: What each route answers, in a line.
SUMMARIES: Mapping[str, str] = {
    "/raw": "Messages, page by page; as a page of HTML, lines of JSON, CSV or a feed where that is wanted",
    "/v2/search": "The same in the form of fedora-messaging",
    "/id": "One message",
    "/v2/id": "One message in the form of fedora-messaging",
    "/messagecount": "How many messages there are",
    "/charts/{kind}": "Counts of messages as a chart, SVG",
    "/histogram": "Counts of messages by time",
    "/facets": "The most frequent topics, categories, users, packages and agents, with their counts",
    "/stream": "Messages as they are stored, as Server-Sent Events or over a WebSocket",
    "/metrics": "What this process has done, for Prometheus",
    "/healthz/live": "That the process works",
    "/healthz/ready": "Whether the database can be read",
    "/openapi.json": "This description",
}

_OTHER_TYPES = {
    "/charts/{kind}": "image/svg+xml",
    "/stream": "text/event-stream",
    "/metrics": "text/plain",
    "/healthz/live": "application/problem+json",
    "/healthz/ready": "application/problem+json",
}
_POSTED = ("/raw", "/v2/search", "/id", "/v2/id")
_ANY: dict[str, Any] = {"type": "object"}
_PAGE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "raw_messages": {"type": "array", "items": _ANY}, "total": {"type": ["integer", "null"]},
        "pages": {"type": ["integer", "null"]}, "count": {"type": "integer"}, "arguments": _ANY,
        "cursor": {"type": ["string", "null"]},
    },
    "required": ["raw_messages", "total", "pages", "count", "arguments", "cursor"],
}  # fmt: skip
_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "argument": {"type": "string"}, "reason": {"type": "string"}},
    "required": ["error"],
}


def document(server: str) -> dict[str, Any]:
    """Return the description as OpenAPI has it.

    Args:
        server: The address of the application.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "datagrepper", "version": importlib.metadata.version("fedmsg"),
            "description": "The history of a message bus.", "license": {"name": "LGPL-2.1-or-later"},
        },
        "servers": [{"url": server or "/"}],
        "paths": {path: _path(path, summary) for path, summary in SUMMARIES.items()},
        "components": {"schemas": {"Page": _PAGE, "Error": _ERROR}},
    }  # fmt: skip


def _path(path: str, summary: str) -> dict[str, Any]:
    rows = arguments.ROUTES.get(path, [])
    answered = {"summary": summary, "responses": _responses(path)}
    get: dict[str, Any] = {
        **answered,
        "operationId": _name("get", path),
        "parameters": [_parameter(row) for row in rows],
    }
    if "{kind}" in path:
        kind = {"type": "string", "enum": list(arguments.CHARTS)}
        get["parameters"].append({"name": "kind", "in": "path", "required": True, "schema": kind, "example": "line"})
    found = {"get": get}
    if path in _POSTED:
        properties = {row.name: _posted(row) for row in rows}
        body = {"schema": {"type": "object", "properties": properties}, "example": _example(path)}
        found["post"] = {
            **answered, "operationId": _name("post", path),
            "requestBody": {"required": True, "content": {"application/json": body}},
        }  # fmt: skip
    return found


def _name(method: str, path: str) -> str:
    return f"{method}_{path.strip('/').replace('/', '_').replace('.', '_').replace('{', '').replace('}', '')}"


def _example(path: str) -> dict[str, Any]:
    return {"id": arguments.TABLE["id"].example} if path.endswith("id") else {"category": ["bodhi"], "delta": 86400}


def _parameter(row: Argument) -> dict[str, Any]:
    schema: dict[str, Any] = {**row.kind.schema}
    if row.default is not None:
        schema["default"] = str(row.default).lower() if isinstance(row.default, bool) else row.default
    found: dict[str, Any] = {"name": row.name, "in": "query", "description": row.help, "schema": schema}
    if row.repeated:
        found |= {"schema": {"type": "array", "items": schema}, "style": "form", "explode": True}
    if row.name == "id":
        found["required"] = True
    if row.example:
        found["example"] = [row.example] if row.repeated else _typed(row, row.example)
    return found


def _typed(row: Argument, text: str) -> Any:
    return {"integer": int, "number": float}.get(str(row.kind.schema["type"]), str)(text)


def _posted(row: Argument) -> dict[str, Any]:
    schema: dict[str, Any] = dict(row.kind.schema)
    if schema.get("enum", [None])[0] == "true":
        schema = {"type": "boolean"}
    return {"type": "array", "items": schema} if row.repeated else schema


def _responses(path: str) -> dict[str, Any]:
    types = [_OTHER_TYPES.get(path, answers.TYPES["json"])]
    if path == "/raw":
        types = list(answers.TYPES.values())
    if path == "/id":
        types.append(answers.TYPES["html"])
    if path == "/metrics":
        types.append("application/openmetrics-text")
    rows = arguments.ROUTES.get(path, [])
    if any(row.name == "callback" for row in rows):
        types.append("application/javascript")
    is_page = path in {"/raw", "/v2/search"}
    content: dict[str, Any] = {kind: {} for kind in types}
    if "application/json" in content:
        content["application/json"] = {"schema": {"$ref": "#/components/schemas/Page"} if is_page else _ANY}
    found: dict[str, Any] = {"200": {"description": "The answer", "content": content}}
    failures = {"503": "The database can't be read now, or the query takes too long"}
    if rows:
        failures["400"] = "An argument makes no sense; the answer names it"
        failures["414"] = "The address is longer than 8190 characters; the same can be sent as JSON"
    if path in {"/id", "/v2/id", "/charts/{kind}"}:
        failures["404"] = "There is no such thing"
    if path in _POSTED:
        failures |= {"413": "The request is too big", "415": "The request is no JSON"}
    error = {
        "application/json": {"schema": {"$ref": "#/components/schemas/Error"}}, "text/html": {},
        "application/javascript": {}, "application/problem+json": {},
    }  # fmt: skip
    return found | {status: {"description": what, "content": error} for status, what in sorted(failures.items())}
