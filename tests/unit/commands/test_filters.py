# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which messages a command is interested in."""

from __future__ import annotations

import re
import tracemalloc
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
def test_selection_by_expressions(exclude: str | None, include: str | None, topic: str, wanted: bool) -> None:
    config = {"exclusive_regexp": exclude, "inclusive_regexp": include}
    assert _filters.Selection(config).matches({"topic": topic}) is wanted


@pytest.mark.parametrize(("key", "flag"), [("exclusive_regexp", "--exclude"), ("inclusive_regexp", "--include")])
@pytest.mark.parametrize("expression", ["(", "*", "[z-a]", "(?P<1>x)", "x{99999999999999999999}"])
def test_what_is_no_regular_expression_is_named(key: str, flag: str, expression: str) -> None:
    with pytest.raises(UsageError) as caught:
        _filters.Selection({key: expression})
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
        ({"not_users": "ralph"}, False),
        ({"not_users": "nobody", "not_packages": "vim"}, True),
        ({"not_packages": "vim, nethack"}, False),
        ({"users": "ralph", "where": ["msg.users=toshio"]}, True),
    ],
)
def test_selection_by_users_and_packages(config: dict[str, Any], wanted: bool) -> None:
    message = envelope("shop.x", {"users": ["ralph", "toshio"], "packages": ["nethack"]})
    assert _filters.Selection(config).matches(message) is wanted


@pytest.mark.parametrize(
    ("config", "prefix", "wanted"),
    [
        ({"topic": ""}, "", [True, True, True]),
        ({"topic": "org.x.dev.git"}, "org.x.dev.git", [True, True, False]),
        ({"topic": "org.*.push"}, "org.", [True, False, False]),
        ({"topic": "org.x", "not_topic": ["org.x.dev.git.tag", "*.bodhi"]}, "org.x", [True, False, False]),
        ({"where": ["msg.n>1", "msg.n<3"]}, "", [False, True, False]),
        ({"where": ["msg.n exists"], "not_where": ["msg.n=1", "msg.n=2"]}, "", [False, False, True]),
    ],
)
def test_selection_by_topics_and_fields(config: dict[str, Any], prefix: str, wanted: list[bool]) -> None:
    selection = _filters.Selection(config)
    topics = ["org.x.dev.git.push", "org.x.dev.git.tag", "org.x.dev.bodhi"]
    found = [selection.matches({"topic": topic, "msg": {"n": n}}) for n, topic in enumerate(topics, 1)]
    assert (selection.prefix, found) == (prefix, wanted)


@pytest.mark.parametrize(("key", "value"), [("where", ["a b"]), ("not_where", [" = x"])])
def test_selection_names_a_term_that_is_none(key: str, value: list[str]) -> None:
    with pytest.raises(UsageError, match=f"^--{key.replace('_', '-')}: "):
        _filters.Selection({key: value})


def test_selection_searches_no_endless_topic() -> None:
    """The default of --include takes 80 bytes for each character that it looks at."""
    selection = _filters.Selection({"inclusive_regexp": DEFAULT_INCLUDE})
    endless, limit = "org." + "x" * 1_000_000, 16 * 2**20
    tracemalloc.start()
    try:
        assert selection.matches({"topic": "org." + "x" * 4092}) is True
        assert selection.matches({"topic": endless}) is False
        assert tracemalloc.get_traced_memory()[1] < limit
        # The search itself would take more.
        assert re.search(DEFAULT_INCLUDE, endless)
        assert tracemalloc.get_traced_memory()[1] > limit
    finally:
        tracemalloc.stop()
