# SPDX-License-Identifier: LGPL-2.1-or-later
"""The description of all routes by OpenAPI, and the tables of the reference, from the table of arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmsg._web import answers, openapi
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


def document(server: str) -> dict[str, Any]:
    """Return the description as OpenAPI has it.

    Args:
        server: The address of the application.
    """
    paths = {path: _path(path, summary) for path, summary in SUMMARIES.items()}
    return openapi.document("datagrepper", "The history of a message bus.", server, paths, {"Page": _PAGE})


def _path(path: str, summary: str) -> dict[str, Any]:
    rows = arguments.ROUTES.get(path, [])
    answered = {"summary": summary, "responses": _responses(path)}
    get: dict[str, Any] = {
        **answered,
        "operationId": openapi.name_of("get", path),
        "parameters": [openapi.parameter(row) for row in rows],
    }
    if "{kind}" in path:
        kind = {"type": "string", "enum": list(arguments.CHARTS)}
        get["parameters"].append({"name": "kind", "in": "path", "required": True, "schema": kind, "example": "line"})
    found = {"get": get}
    if path in _POSTED:
        properties = {row.name: _posted(row) for row in rows}
        body = {"schema": {"type": "object", "properties": properties}, "example": _example(path)}
        found["post"] = {
            **answered, "operationId": openapi.name_of("post", path),
            "requestBody": {"required": True, "content": {"application/json": body}},
        }  # fmt: skip
    return found


def _example(path: str) -> dict[str, Any]:
    return {"id": arguments.TABLE["id"].example} if path.endswith("id") else {"category": ["bodhi"], "delta": 86400}


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
    return found | openapi.failures(failures)
