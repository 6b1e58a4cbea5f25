# SPDX-License-Identifier: LGPL-2.1-or-later
"""Code in a fresh interpreter, for what depends on what is imported, or is not installed."""

from __future__ import annotations

import subprocess
import sys


def python(code: str, *options: str) -> list[str]:
    """Run code, warnings being errors.

    Args:
        code: The code.
        *options: More options for the interpreter.

    Returns:
        The lines that it printed; it must not have written anything else.
    """
    run = subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout.splitlines()
