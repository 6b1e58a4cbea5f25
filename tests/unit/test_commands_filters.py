# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which messages a command is interested in."""

from __future__ import annotations

from typing import Any

import pytest

import fedmsg.meta
from fedmsg.commands import _filters
from fedmsg.exceptions import UsageError
from tests.unit.plugins import envelope, make

DEFAULT_INCLUDE = "^((?!_heartbeat).)*$"


@pytest.mark.parametrize(
    ("exclude", "include", "topic", "wanted"),
    [
        ("_heartbeat", DEFAULT_INCLUDE, "org.x.dev.git.push", True),
        ("_heartbeat", DEFAULT_INCLUDE, "org.x.dev._heartbeat", False),
        ("nothing", DEFAULT_INCLUDE, "org.x.dev._heartbeat", False),
        ("nothing", "heart", "org.x.dev._heartbeat", True),
        ("git", None, "org.x.dev.git.push", False),
        ("git", None, "org.x.dev.bodhi", True),
        (None, "git", "org.x.dev.git.push", True),
        (None, "git", "org.x.dev.bodhi", False),
        ("push", "git", "org.x.dev.git.push", False),
        (None, None, "anything", True),
        ("", None, "an empty expression is found anywhere", False),
        (None, "", "an empty expression is found anywhere", True),
        ("^git$|push$", None, "org.x.dev.git.push", False),
    ],
)
def test_by_topic(exclude: str | None, include: str | None, topic: str, wanted: bool) -> None:
    config = {"exclusive_regexp": exclude, "inclusive_regexp": include}
    assert _filters.by_topic(config)(topic) is wanted


@pytest.mark.parametrize(("key", "flag"), [("exclusive_regexp", "--exclude"), ("inclusive_regexp", "--include")])
@pytest.mark.parametrize("expression", ["(", "*", "[z-a]", "(?P<1>x)", "x{99999999999999999999}"])
def test_what_is_no_regular_expression_is_named(key: str, flag: str, expression: str) -> None:
    with pytest.raises(UsageError) as caught:
        _filters.by_topic({key: expression})
    assert str(caught.value).startswith(f"{flag}: {expression!r} is not a regular expression: ")


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor for which the message itself says what it is about."""
    plugin = make(
        "shop",
        usernames=lambda self, msg, **config: set(msg["msg"]["users"]),
        packages=lambda self, msg, **config: set(msg["msg"]["packages"]),
    )
    monkeypatch.setattr(fedmsg.meta, "processors", [plugin])


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({}, True),
        ({"users": None, "packages": ""}, True),
        ({"users": " , "}, True),
        ({"users": "ralph"}, True),
        ({"users": "nobody, ralph"}, True),
        ({"users": "nobody"}, False),
        ({"packages": "nethack,vim"}, True),
        ({"users": "ralph", "packages": "nethack"}, True),
        ({"users": "ralph", "packages": "vim"}, False),
        ({"users": "nobody", "packages": "nethack"}, False),
    ],
)
def test_about(config: dict[str, Any], wanted: bool) -> None:
    message = envelope("shop.x", {"users": ["ralph", "toshio"], "packages": ["nethack"]})
    assert _filters.about(config)(message) is wanted
