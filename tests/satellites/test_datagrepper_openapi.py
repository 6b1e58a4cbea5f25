# SPDX-License-Identifier: LGPL-2.1-or-later
"""``/openapi.json``: it describes the routes that there are, and requests made from it are answered as it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from fedmsg.datagrepper import arguments
from fedmsg.datagrepper.app import create_app
from fedmsg.datanommer import models
from fedmsg.datanommer.models.testing import empty
from tests.satellites.grepping import Grepper
from tests.satellites.messages import message
from tests.satellites.served import check_by_description

# Streams do not end, and pages for people are not described.
ENDLESS = "/stream"


@pytest.fixture(scope="module")
def app(history_engine: sa.Engine) -> Iterator[Flask]:
    models.add_many(message(f"org.fedoraproject.dev.bodhi.{number}", msg_id=f"2026-{number}") for number in range(5))
    yield create_app({})
    models.session.remove()
    empty(history_engine)


def test_every_route_of_programs_is_described(app: Flask) -> None:
    described = app.test_client().get("/openapi.json").json
    assert described is not None
    routes = {
        re.sub(r"<(\w+)>", r"{\1}", rule.rule) for rule in app.url_map.iter_rules()
        if rule.endpoint.split(".")[0] in {"datagrepper", "counting", "stream", "operating", "description"}
    }  # fmt: skip
    assert set(described["paths"]) == routes
    for path, rows in arguments.ROUTES.items():
        names = {one["name"] for one in described["paths"][path]["get"]["parameters"]}
        assert names == {row.name for row in rows} | ({"kind"} if "{kind}" in path else set())


def test_its_examples_are_answered(app: Flask) -> None:
    client = app.test_client()
    described = client.get("/openapi.json").json
    assert described is not None
    for path, methods in described["paths"].items():
        if path == ENDLESS:
            continue
        together = {"cursor", "callback", "contains", "not_contains", "format"}
        given = {
            one["name"]: one["example"] for one in methods["get"].get("parameters", ())
            if "example" in one and one["name"] not in together
        }  # fmt: skip
        address = path.replace("{kind}", str(given.pop("kind", "")))
        response = client.get(address, query_string=given)
        assert response.status_code == (404 if path.endswith("id") else 200), (path, response.text)
        if "post" in methods:
            example = methods["post"]["requestBody"]["content"]["application/json"]["example"]
            assert client.post(address, json=example).status_code in {200, 404}


@pytest.mark.soak
def test_requests_made_from_it_are_answered_as_it_says(
    history_url: str, history_engine: sa.Engine, tmp_path: Path, full_size: bool
) -> None:
    with Grepper(tmp_path, history_url) as server:
        check_by_description(server.address, tmp_path, "--exclude-path", ENDLESS, full_size=full_size)
