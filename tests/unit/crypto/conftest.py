# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of signatures share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from fedmsg.crypto import _refused
from tests.certificates import Bench


@pytest.fixture(autouse=True)
def _talkative_log() -> None:
    """Let each test see its reasons in the log, however many came before."""
    _refused._told.clear()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def message() -> dict[str, Any]:
    return {
        "i": 1,
        "msg": {"title": "nethack ü", "n": [1, 2.5, None, {"a": True}]},
        "msg_id": "2026-0f1c6b6e-0000-4000-8000-000000000001",
        "timestamp": int(time.time()),
        "topic": "org.fedoraproject.dev.bodhi.update",
        "username": "apache",
    }
