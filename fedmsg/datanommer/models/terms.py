# SPDX-License-Identifier: LGPL-2.1-or-later
"""The function that SQLite calls for a condition on a field."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from fedmsg import encoding
from fedmsg.filters import Term

__all__ = ["meets"]


@lru_cache(256)
def _matcher(text: str) -> Callable[[Any], bool]:
    return Term(text).matches


def meets(envelope: str | None, term: str) -> bool:
    """Return whether an envelope meets a condition: the function that SQLite calls."""
    return envelope is not None and _matcher(term)(encoding.loads(envelope))
