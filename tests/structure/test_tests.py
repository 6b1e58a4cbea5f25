# SPDX-License-Identifier: LGPL-2.1-or-later
"""The habits of the test suite: it waits for events, runs the real thing and skips nothing."""

from __future__ import annotations

import ast
import os
from functools import cache

import pytest

from tests.structure import source

# One worker parses the files, once.
pytestmark = pytest.mark.xdist_group("source")

# Where a test sleeps for another reason than to wait for something: file and function, and why.
ALLOWED_SLEEPS: dict[tuple[str, str], str] = {
    (
        "fedmsg/testing/processes.py",
        "wait_until",
    ): "it is the wait between two looks at a condition",
    ("tests/integration/test_hub_durable.py", "dawdle"): "it is a consumer that is slow",
}

# The helpers for users' tests are held to the same.
FILES = [*source.python_files("tests/"), *source.python_files("fedmsg/testing/")]

# The one place where a test is skipped: locally, where a program of others is missing.
SKIPS = "tests/requirements.py"


@cache
def sleeps() -> dict[tuple[str, str], int]:
    """Return where the tests sleep: file and function, and the line."""
    return {
        (source.relative(path), getattr(outer, "name", "")): node.lineno
        for path in FILES
        for outer in source.tree(path).body
        for node in ast.walk(outer)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "sleep"
    }


def test_no_test_sleeps_to_wait() -> None:
    found = [f"{path}:{line} in {function}" for (path, function), line in sleeps().items()
             if (path, function) not in ALLOWED_SLEEPS]  # fmt: skip
    assert found == [], "wait for an event, with a time limit; or give the reason in ALLOWED_SLEEPS"


def test_every_allowed_sleep_is_there() -> None:
    assert set(ALLOWED_SLEEPS) - set(sleeps()) == set()
    assert all(ALLOWED_SLEEPS.values())


def test_nothing_is_skipped() -> None:
    ways_out = {
        "pytest.skip", "pytest.mark.skip", "pytest.mark.skipif", "pytest.importorskip",
        "pytest.xfail", "pytest.mark.xfail", "unittest.skip", "unittest.skipIf",
    }  # fmt: skip
    last_names = {name.rpartition(".")[2] for name in ways_out}
    found = [
        f"{source.relative(path)}:{node.lineno}"
        for path in FILES
        if source.relative(path) != SKIPS
        for node in source.nodes(path)
        if isinstance(node, ast.Attribute) and node.attr in last_names and ast.unparse(node) in ways_out
    ]
    assert found == []


def test_nothing_is_mocked() -> None:
    found = [
        f"{source.relative(path)}:{node.lineno}"
        for path in FILES
        for node in source.nodes(path)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
        if "mock" in name.lower()
    ]
    assert found == []


def test_unit_tests_need_no_server() -> None:
    # They run everywhere, in "make check".
    needed = {"psycopg", "tests.postgres", "tests.ircd", "tests.irc_services"}
    found = [
        f"{source.relative(path)}:{node.lineno}"
        for path in source.python_files("tests/unit/")
        for node in source.nodes(path)
        if (isinstance(node, ast.ImportFrom) and node.module in needed)
        or (isinstance(node, ast.Import) and any(alias.name in needed for alias in node.names))
        or (isinstance(node, ast.arg) and node.arg in {"postgresql", "postgresql_url", "database_url"})
    ]
    assert found == []


def test_groups_are_kept_together(request: pytest.FixtureRequest) -> None:
    """The runner of several workers has to know the groups, by the ends of the ids."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith("@source")
