# SPDX-License-Identifier: LGPL-2.1-or-later
"""Making configuration files, and loading them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import fedmsg.config

#: A user that is neither root nor the one who runs the tests.
SOMEBODY = 12345

Load = Callable[..., dict[str, Any]]


def write(path: str | Path, text: object) -> str:
    """Write a configuration file, and the folders above it; a dict is written as Python."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"config = {text!r}\n" if isinstance(text, dict) else str(text), encoding="utf-8")
    return str(path)


def load(*args: Any, **keywords: Any) -> dict[str, Any]:
    """Call load_config as an application does, which is told to use conf instead."""
    with pytest.warns(DeprecationWarning, match=r"fedmsg\.config\.conf"):
        return fedmsg.config.load_config(*args, **keywords)


def forget() -> None:
    """Make load_config load afresh, the way that programs do."""
    fedmsg.config.__cache = {}


def give_away(path: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file or folder somebody else's, as root; as another user, be somebody else."""
    if os.geteuid() == 0:
        os.chown(path, SOMEBODY, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)


@contextmanager
def folder_open_to_all() -> Iterator[None]:
    """Work in a folder that every user can reach, which the ones that pytest makes are not."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        os.chdir(name)
        try:
            yield
        finally:
            os.chdir(before)


@contextmanager
def without_rights() -> Iterator[None]:
    """Be a user that permissions hold for, which root is not."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(SOMEBODY)
    try:
        yield
    finally:
        os.seteuid(before)
