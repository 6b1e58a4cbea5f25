# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands of the history that are run in the process of the tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple


class Result(NamedTuple):
    """What a command has printed, and its exit status."""

    out: str
    err: str
    status: int

    @property
    def json(self) -> Any:
        """What it has printed, decoded."""
        return json.loads(self.out)


Call = Callable[..., Result]
