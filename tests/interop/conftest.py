# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two sides, for each test that lets them meet."""

from __future__ import annotations

import socket
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Bench
from tests.interop.sides import Ours, Peer, Side


@pytest.fixture(scope="session")
def sides(peer: Path) -> dict[str, Side]:
    """Give our side and that of fedmsg 1.1.7, by name."""
    return {"ours": Ours(Path(sysconfig.get_path("scripts"))), "peer": Peer(peer)}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give certificates whose signatures both sides know."""
    made = Bench(tmp_path)
    # The newer forms are not for both.
    made.config["crypto_validate_backends"] = ["x509"]
    return made


@pytest.fixture
def lane_settings(bench: Bench) -> dict[str, Any]:
    """Give the settings of a bus on which everybody signs with them."""
    host = socket.gethostname().split(".", 1)[0]
    settings = {key: value for key, value in bench.config.items() if key not in {"certname", "routing_policy"}}
    return {**settings, "certnames": {f"shell.{host}": "shell.test"}, "routing_policy": {}}
