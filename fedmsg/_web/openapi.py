# SPDX-License-Identifier: LGPL-2.1-or-later
"""The description of routes by OpenAPI, from a table of arguments."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from fedmsg._web.arguments import Argument

__all__ = ["document", "failures", "name_of", "parameter"]

_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "argument": {"type": "string"}, "reason": {"type": "string"}},
    "required": ["error"],
}


def document(
    title: str, description: str, server: str, paths: Mapping[str, Any], schemas: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a description as OpenAPI has it.

    Args:
        title: The name of the application.
        description: What it is for.
        server: Its address.
        paths: Its routes.
        schemas: The schemas that they name, beside that of an error.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title, "version": importlib.metadata.version("fedmsg"), "description": description,
            "license": {"name": "LGPL-2.1-or-later"},
        },
        "servers": [{"url": server or "/"}],
        "paths": dict(paths),
        "components": {"schemas": {**schemas, "Error": _ERROR}},
    }  # fmt: skip


def name_of(method: str, path: str) -> str:
    """Return the name of an operation."""
    return f"{method}_{path.strip('/').replace('/', '_').replace('.', '_').replace('{', '').replace('}', '')}"


def parameter(row: Argument) -> dict[str, Any]:
    """Return an argument as a parameter."""
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


def failures(reasons: Mapping[str, str]) -> dict[str, Any]:
    """Return the answers to what fails.

    Args:
        reasons: Why, by the status.
    """
    error = {
        "application/json": {"schema": {"$ref": "#/components/schemas/Error"}}, "text/html": {},
        "application/javascript": {}, "application/problem+json": {},
    }  # fmt: skip
    return {status: {"description": what, "content": error} for status, what in sorted(reasons.items())}
