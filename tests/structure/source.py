# SPDX-License-Identifier: LGPL-2.1-or-later
"""The project's own files as the structure tests read them: names, syntax trees, imports."""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "fedmsg"

# What set-up, tests and builds leave in the tree; the files listed by .gitignore.
LEFT_BEHIND = {
    ".git", ".venv", ".venv-messaging", ".venv-peer",
    ".venv-3.10", ".venv-3.11", ".venv-3.12", ".venv-3.13", ".venv-3.14",
    "build", "dist", "_build", "htmlcov", "__pycache__",
    ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "fedmsg.egg-info",
}  # fmt: skip

# What setuptools adds to a source archive.
ADDED_BY_SDIST = {"PKG-INFO", "setup.cfg"}


class Import(NamedTuple):
    """One import of one module, and where it stands."""

    importer: str
    target: str
    line: int
    at_top: bool
    for_types_only: bool


@cache
def files() -> tuple[Path, ...]:
    """Return every file that belongs to the project, as git has or would have it."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listing.returncode == 0:
        found = [REPOSITORY / name for name in listing.stdout.split("\0") if name]
    else:  # an unpacked source archive is no repository
        found = []
        for folder, folders, names in os.walk(REPOSITORY):
            folders[:] = [name for name in folders if name not in LEFT_BEHIND]
            found += [Path(folder) / name for name in names if name not in ADDED_BY_SDIST]
    return tuple(sorted(path for path in found if path.is_file()))


def relative(path: Path) -> str:
    """Return the path as a person in the repository writes it."""
    return path.relative_to(REPOSITORY).as_posix()


def python_files(folder: str = "") -> list[Path]:
    """Return the Python files of the project, or of one of its top-level folders."""
    return [path for path in files() if path.suffix == ".py" and relative(path).startswith(folder)]


@cache
def tree(path: Path) -> ast.Module:
    """Parse a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of the tree of a file."""
    return tuple(ast.walk(tree(path)))


def module_name(path: Path) -> str:
    """Return the dotted name of a file below the repository."""
    parts = list(path.relative_to(REPOSITORY).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Return the modules of the package: dotted name and file."""
    return {module_name(path): path for path in python_files("fedmsg/")}


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _targets(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if base.split(".")[0] != "fedmsg":
        return [base]
    # "from fedmsg import utils" imports a module, "from fedmsg import publish" a name of one.
    return [name if (name := f"{base}.{alias.name}") in modules() else base for alias in node.names]


def _walk(importer: str, nodes: list[ast.stmt], at_top: bool, types_only: bool) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for target in _targets(node):
                yield Import(importer, target, node.lineno, at_top, types_only)
            continue
        inner_top = at_top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        inner_types = types_only or (isinstance(node, ast.If) and _is_type_checking(node.test))
        for field in ("body", "orelse", "finalbody"):
            # The else branch of "if TYPE_CHECKING" is what really runs.
            branch_types = inner_types if field == "body" else types_only
            yield from _walk(importer, getattr(node, field, []), inner_top, branch_types)
        for handler in getattr(node, "handlers", []):
            yield from _walk(importer, handler.body, inner_top, types_only)
        for case in getattr(node, "cases", []):
            yield from _walk(importer, case.body, inner_top, types_only)


@cache
def imports() -> tuple[Import, ...]:
    """Return every import statement of the package, in functions and branches too."""
    return tuple(found for name, path in modules().items() for found in _walk(name, tree(path).body, True, False))
