# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands that run in this process: for what they print and return, where a process of their own adds nothing."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import subprocess
from collections.abc import Mapping, Sequence

import pytest

import fedmsg.config


def run(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of our commands to its end; return what `fedmsg.testing.run` does.

    Args:
        argv: The name of the command, and its arguments.
        env: Added to the environment.
    """
    (found,) = importlib.metadata.entry_points(group="console_scripts", name=argv[0])
    command = found.load()
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr("sys.argv", list(argv))
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
        # The logging of this process is that of the tests, and stays so.
        patch.setattr("fedmsg.commands.dictConfig", lambda config: None)
        # As in a new process, nothing has been loaded yet.
        patch.setattr(fedmsg.config, "__cache", {})
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        try:
            status = command()
        except SystemExit as ended:
            status = ended.code
    assert status is None or isinstance(status, int), status
    printed = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return subprocess.CompletedProcess(list(argv), status or 0, *printed)
