# SPDX-License-Identifier: LGPL-2.1-or-later
"""The form of each file: its head, its docstrings, the length of its functions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.structure import source

# One worker parses the files, once.
pytestmark = pytest.mark.xdist_group("source")

SPDX = "# SPDX-License-Identifier: LGPL-2.1-or-later"

LONGEST_FUNCTION = 50  # lines

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def fault_of_the_head(path: Path) -> str | None:
    """Return what is wrong with the first lines of a Python file."""
    text, tree = path.read_text(encoding="utf-8"), source.tree(path)
    if not text.startswith(f"{SPDX}\n"):
        return "the first line is not the SPDX line"
    if not ast.get_docstring(tree):
        return "no module docstring"
    second = tree.body[1] if len(tree.body) > 1 else None
    if not isinstance(second, ast.ImportFrom) or second.module != "__future__":
        return "the first statement is not the future import"
    return None


def test_head() -> None:
    faults = {source.relative(path): fault_of_the_head(path) for path in source.python_files()}
    assert {name: fault for name, fault in faults.items() if fault} == {}


def test_scripts_begin_with_what_they_are_for() -> None:
    bare = []
    for path in source.files():
        if path.name == "Makefile" or path.parent.name == ".ci":
            lines = path.read_text(encoding="utf-8").splitlines()
            if not lines[1 if lines[0].startswith("#!") else 0].startswith("# "):
                bare.append(source.relative(path))
    assert bare == []


def public_definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    """Return the functions and classes of a body that are public, and those inside public classes."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            if not any(getattr(mark, "id", getattr(mark, "attr", "")) == "overload" for mark in node.decorator_list):
                yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body)
        elif isinstance(node, ast.If | ast.Try):
            yield from public_definitions(node.body)
            yield from public_definitions(node.orelse)


def test_every_public_name_has_a_docstring() -> None:
    bare = [
        f"{source.relative(path)}:{node.lineno} {node.name}"
        for path in source.python_files("fedmsg/")
        for node in public_definitions(source.tree(path).body)
        if not ast.get_docstring(node)
    ]
    assert bare == []


def function_lengths() -> dict[str, int]:
    """Return the lines of code of every function of the package, without signature's docstring."""
    lengths = {}
    for path in source.python_files("fedmsg/"):
        for node in source.nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                start = node.body[0].end_lineno if ast.get_docstring(node) else node.lineno
                assert start is not None
                assert node.end_lineno is not None
                lengths[f"{source.relative(path)}:{node.lineno} {node.name}"] = node.end_lineno - start
    return lengths


def test_functions_are_short() -> None:
    assert {name: lines for name, lines in function_lengths().items() if lines > LONGEST_FUNCTION} == {}


def test_complexity_has_a_reason_where_it_is_high() -> None:
    # ruff holds the limits; each exception to them carries its reason.
    limits = ("C901", "PLR0911", "PLR0912", "PLR0915")
    bare = [
        f"{source.relative(path)}:{number}"
        for path in source.python_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (found := re.search(r"# noqa: ([A-Z0-9, ]+)(.*)", line))
        and any(limit in found[1] for limit in limits)
        and "#" not in found[2]
    ]
    assert bare == []
