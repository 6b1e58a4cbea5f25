# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two sides, for each test that lets them meet."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from tests.interop.sides import Ours, Peer, Side


@pytest.fixture(scope="session")
def sides(peer: Path) -> dict[str, Side]:
    """Give our side and that of fedmsg 1.1.7, by name."""
    return {"ours": Ours(Path(sysconfig.get_path("scripts"))), "peer": Peer(peer)}
