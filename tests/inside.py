# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands that run in this process: for what they print and return, where a process of their own adds nothing."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import subprocess
from collections.abc import Iterator, Mapping, Sequence

import pytest

import fedmsg.config


@contextlib.contextmanager
def kept_logging() -> Iterator[None]:
    """Set the logging of this process back to what it was, whatever a command has set up."""

    def loggers() -> list[logging.Logger]:
        known = logging.root.manager.loggerDict.values()
        return [logging.root, *(one for one in known if isinstance(one, logging.Logger))]

    before = {one: (one.level, list(one.handlers), one.propagate, one.disabled) for one in loggers()}
    try:
        yield
    finally:
        for one in loggers():
            level, handlers, propagate, disabled = before.get(one, (logging.NOTSET, [], True, False))
            for added in set(one.handlers).difference(handlers):
                added.close()
            one.handlers[:] = handlers
            one.setLevel(level)
            one.propagate, one.disabled = propagate, disabled


def run(
    argv: Sequence[str], *, stdin: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of our commands to its end; return what `fedmsg.testing.run` does.

    Args:
        argv: The name of the command, and its arguments.
        stdin: What it reads.
        env: Added to the environment.
    """
    (found,) = importlib.metadata.entry_points(group="console_scripts", name=argv[0])
    command = found.load()
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True) for _ in range(2))
    with (
        pytest.MonkeyPatch.context() as patch,
        kept_logging(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr("sys.argv", list(argv))
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
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
