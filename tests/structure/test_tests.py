# SPDX-License-Identifier: LGPL-2.1-or-later
"""The habits of the test suite: it waits for events, runs the real thing and skips nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.structure import source

# Where a test sleeps for another reason than to wait for something: file and function, and why.
ALLOWED_SLEEPS: dict[tuple[str, str], str] = {}

# The helpers for users' tests are held to the same.
FILES = [*source.python_files("tests/"), *source.python_files("fedmsg/testing/")]

every_test_file = pytest.mark.parametrize("path", FILES, ids=source.relative)


def calls(path: Path) -> Iterator[tuple[str, str, int]]:
    """Give the calls of a file: enclosing function, name called (``time.sleep``), line."""
    for outer in source.tree(path).body:
        enclosing = getattr(outer, "name", "")
        for node in ast.walk(outer):
            if isinstance(node, ast.Call):
                yield enclosing, ast.unparse(node.func), node.lineno


@every_test_file
def test_no_test_sleeps_to_wait(path: Path) -> None:
    sleeps = [
        f"{source.relative(path)}:{line} in {function}"
        for function, name, line in calls(path)
        if name.split(".")[-1] == "sleep" and (source.relative(path), function) not in ALLOWED_SLEEPS
    ]
    assert sleeps == [], "wait for an event, with a time limit; or give the reason in ALLOWED_SLEEPS"


def test_every_allowed_sleep_is_there() -> None:
    there = {
        (source.relative(path), function)
        for path in FILES
        for function, name, _ in calls(path)
        if name.split(".")[-1] == "sleep"
    }
    assert set(ALLOWED_SLEEPS) - there == set()
    assert all(ALLOWED_SLEEPS.values())


@every_test_file
def test_nothing_is_skipped(path: Path) -> None:
    ways_out = {
        "pytest.skip", "pytest.mark.skip", "pytest.mark.skipif", "pytest.importorskip",
        "pytest.xfail", "pytest.mark.xfail", "unittest.skip", "unittest.skipIf",
    }  # fmt: skip
    used = {ast.unparse(node) for node in ast.walk(source.tree(path)) if isinstance(node, ast.Attribute)}
    assert used & ways_out == set()


@every_test_file
def test_nothing_is_mocked(path: Path) -> None:
    imported = {
        name
        for node in ast.walk(source.tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
    }
    assert {name for name in imported if "mock" in name.lower()} == set()
