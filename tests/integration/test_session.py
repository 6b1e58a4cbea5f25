# SPDX-License-Identifier: LGPL-2.1-or-later
"""The run of the tests itself: it fails when its process outlives its last test, and names stay short and stable."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import session

LEAVES_A_THREAD = """
import threading

def test_leaves_a_thread():
    threading.Thread(target=threading.Event().wait, name="stays", daemon={daemon}).start()
"""


def run_pytest(
    folder: Path, repository: Path, *arguments: str, timeout: float = 30
) -> subprocess.CompletedProcess[str]:
    """Run pytest with the plugin of our tests, in a folder of its own."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environ = {**outer, "PYTHONPATH": str(repository), "FEDMSG_TESTS_EXIT_TIMEOUT": str(timeout)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.session", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=110)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_run_that_outlives_its_last_test_fails(tmp_path: Path, repository: Path, workers: str) -> None:
    (tmp_path / "test_it.py").write_text(LEAVES_A_THREAD.format(daemon=False), encoding="utf-8")
    done = run_pytest(tmp_path, repository, "-n", workers, timeout=5)
    assert "1 passed" in done.stdout
    assert done.returncode == 1
    # The stacks show where the thread waits.
    assert "threading.py" in done.stdout + done.stderr


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_run_that_ends_is_fine(tmp_path: Path, repository: Path, workers: str) -> None:
    (tmp_path / "test_it.py").write_text(LEAVES_A_THREAD.format(daemon=True), encoding="utf-8")
    done = run_pytest(tmp_path, repository, "-n", workers)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("parameter", ['["x" * 130]', "[object()]"])
def test_a_name_that_is_too_long_or_not_stable_is_an_error(tmp_path: Path, repository: Path, parameter: str) -> None:
    text = f"import pytest\n\n@pytest.mark.parametrize('v', {parameter}, ids=str)\ndef test_it(v): ...\n"
    (tmp_path / "test_it.py").write_text(text, encoding="utf-8")
    done = run_pytest(tmp_path, repository)
    assert "too long or not stable" in done.stdout + done.stderr
    assert done.returncode == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("plain", "plain"),
        ("two words", "two-words"),
        ("", "empty"),
        ("{}", "str"),
        (b"\x1f\x8b", "bytes"),
        ({"seq_id": 3}, "seq_id-:-3"),
        (10**50, "huge"),
        (1.5, None),
        (object, None),
    ],
    ids=["plain", "words", "empty", "braces", "bytes", "nested", "huge", "number", "class"],
)
def test_parametrize_id(value: object, name: str | None) -> None:
    assert session.pytest_make_parametrize_id(value) == name
