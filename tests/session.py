# SPDX-License-Identifier: LGPL-2.1-or-later
"""A pytest plugin for the run as a whole: stable names, tests that share what they need, and a process that ends."""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Generator
from typing import Any

import hypothesis
import pytest

# The longest id of one set of parameters, and what an id may not contain: addresses of objects, nested data, lines.
ID_LENGTH = 120
PART_LENGTH = 40
_UNSTABLE = re.compile(r"0x[0-9a-f]{6,}|[{}\"\n]|\\n")

# How long a process may go on after its last test.
EXIT_TIMEOUT_S = float(os.environ.get("FEDMSG_TESTS_EXIT_TIMEOUT", "30"))

# Compiled files are kept whatever the environment says: else each process that a test starts compiles fedmsg again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

_threads_at_start: set[threading.Thread] = set()
_still_running: list[str] = []


# ------------------------------------------------------------------ names


def pytest_make_parametrize_id(val: object) -> str | None:
    """Return a short id for a value, the same in each process; None leaves it to pytest."""
    if isinstance(val, bytes):
        text = val.decode("latin-1")
        if not (text.isascii() and text.isprintable()):
            return "bytes"  # may be compressed, with the time of day in it
    elif isinstance(val, str):
        text = val
    elif isinstance(val, int) and abs(val) >= 10**PART_LENGTH:
        text = "huge"
    elif isinstance(val, dict | list | tuple):
        try:
            text = json.dumps(val)
        except (TypeError, ValueError, RecursionError):
            return None
    else:
        return None
    part = re.sub(r"[^\w.:/+=@*-]+", "-", text, flags=re.ASCII)[:PART_LENGTH].strip("-")
    return part or ("empty" if not text else type(val).__name__)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks after that
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Check the names of the tests, and put those that share fixtures of their module into one group."""
    bad = [
        item.nodeid for item in items
        if _UNSTABLE.search(item.nodeid) or len(item.nodeid.partition("[")[2]) > ID_LENGTH
    ]  # fmt: skip
    if bad:
        raise pytest.UsageError(
            "ids that are too long or not stable; name the parameters with ids=:\n" + "\n".join(bad)
        )
    for item in items:
        if item.get_closest_marker("xdist_group") is None and _shares_fixtures(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def _shares_fixtures(item: pytest.Item) -> bool:
    """Say whether a test uses fixtures of its module, which each worker that runs one of its tests would make anew."""
    assert isinstance(item, pytest.Function)
    return any(found[-1].scope == "module" for found in item._fixtureinfo.name2fixturedefs.values())


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what is known of thousands of tests out of every search for garbage: now, and while they run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


# ------------------------------------------------------------------ the end of the process


def pytest_configure() -> None:
    """Let hypothesis try less in the short form of the tests than in the full one."""
    full = os.environ.get("FEDMSG_SOAK") == "1"
    hypothesis.settings.register_profile("fedmsg", max_examples=1_000 if full else 30, deadline=None)
    hypothesis.settings.load_profile("fedmsg")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remember the threads that are not from tests."""
    _threads_at_start.update(threading.enumerate())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    """Make sure that the process ends after its last test, or fails with the stacks of its threads."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:  # a worker of pytest-xdist, which would be killed without a report
        output["still_running"] = _threads_that_stay(EXIT_TIMEOUT_S)
    yield
    if output is None:
        faulthandler.dump_traceback_later(EXIT_TIMEOUT_S, exit=True, file=sys.__stderr__ or sys.stderr)
    if _still_running:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _threads_that_stay(timeout: float) -> list[str]:
    """Wait for the threads that the process would wait for; return the stacks of those that do not end."""
    deadline = time.monotonic() + timeout
    left = [one for one in threading.enumerate() if not one.daemon and one not in _threads_at_start]
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    frames = sys._current_frames()
    return [
        f"{thread.name}\n{''.join(traceback.format_stack(frames.get(thread.ident or 0)))}"
        for thread in left
        if thread.is_alive()
    ]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Note, where pytest-xdist started workers, which threads of a worker went on after its last test."""
    _still_running.extend(getattr(node, "workeroutput", {}).get("still_running", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report what goes on in workers."""
    for line in _still_running:
        terminalreporter.write_line(f"a thread goes on after the last test: {line}", red=True)
