# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of signatures share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg.crypto import _credentials
from tests.certificates import Bench


@pytest.fixture(autouse=True)
def _fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test see its reasons in the log, however many came before."""
    monkeypatch.setattr(_credentials, "rejections", RateLimitedLog(_credentials.log, burst=5))


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
