# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tests of asyncio run in each kind of event loop."""

from __future__ import annotations

import pytest

from tests.integration.loops import LOOPS, NAMES


@pytest.fixture(params=LOOPS, ids=NAMES)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Return the event loop of a test."""
    return request.param
