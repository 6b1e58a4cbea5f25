# SPDX-License-Identifier: LGPL-2.1-or-later
"""The form of each file: its head, its docstrings, the length of its functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.structure import source

SPDX = "# SPDX-License-Identifier: LGPL-2.1-or-later"

USUAL, UTMOST, SHARE_OF_USUAL = 50, 80, 0.98

every_file = pytest.mark.parametrize("path", source.python_files(), ids=source.relative)
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@every_file
def test_head(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    first = text.splitlines()[0] if text else ""
    tree = source.tree(path)
    assert first == SPDX
    assert ast.get_docstring(tree), "no module docstring"
    second = tree.body[1] if len(tree.body) > 1 else None
    assert isinstance(second, ast.ImportFrom), "the first statement is not the future import"
    assert (second.module, [alias.name for alias in second.names]) == ("__future__", ["annotations"])


@pytest.mark.parametrize(
    "path",
    [path for path in source.files() if path.name == "Makefile" or path.parent.name == ".ci"],
    ids=source.relative,
)
def test_scripts_say_what_they_are_for(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[1 if lines[0].startswith("#!") else 0].startswith("# ")


def public_definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    """Give the functions and classes of a body that are public, and those inside public classes."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            if not any(getattr(mark, "id", getattr(mark, "attr", "")) == "overload" for mark in node.decorator_list):
                yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body)
        elif isinstance(node, ast.If | ast.Try):
            yield from public_definitions(node.body)
            yield from public_definitions(node.orelse)


@pytest.mark.parametrize("path", source.python_files("fedmsg/"), ids=source.relative)
def test_every_public_name_has_a_docstring(path: Path) -> None:
    bare = [
        f"{source.relative(path)}:{node.lineno} {node.name}"
        for node in public_definitions(source.tree(path).body)
        if not ast.get_docstring(node)
    ]
    assert bare == []


def function_lengths() -> dict[str, int]:
    """Give the lines of code of every function of the package, without signature's docstring."""
    lengths = {}
    for path in source.python_files("fedmsg/"):
        for node in ast.walk(source.tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                start = node.body[0].end_lineno if ast.get_docstring(node) else node.lineno
                assert start is not None
                assert node.end_lineno is not None
                lengths[f"{source.relative(path)}:{node.lineno} {node.name}"] = node.end_lineno - start
    return lengths


def test_functions_are_short() -> None:
    lengths = function_lengths()
    longer = {name: lines for name, lines in lengths.items() if lines > USUAL}
    assert {name: lines for name, lines in longer.items() if lines > UTMOST} == {}
    assert len(longer) <= (1 - SHARE_OF_USUAL) * len(lengths), longer
