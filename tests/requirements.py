# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs of others that tests run beside ours."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

_FOLDERS = os.pathsep.join(["/usr/sbin", "/sbin"])


def program(name: str, package: str) -> str:
    """Return the path of a program; without it the test is skipped, and fails in CI.

    Args:
        name: The program.
        package: The package of Debian that has it.
    """
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), _FOLDERS]))
    if found is None:
        is_missing(f"the program {name} (apt-get install {package})")
    return found


def is_missing(what: str) -> NoReturn:
    """Skip the test that needs it; where the environment has ``CI`` it fails.

    Args:
        what: What is missing, and how to install it.
    """
    if os.environ.get("CI"):
        pytest.fail(f"this test needs {what}", pytrace=False)
    pytest.skip(f"NOT TESTED: this test needs {what}")
