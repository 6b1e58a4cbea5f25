# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plain functions that return coroutines, and are taken for coroutine functions.

They have to do something at the call, such as to find the caller. Web frameworks ask
whether a function is a coroutine function, and run it in a thread where it is not.
"""

from __future__ import annotations

import asyncio.coroutines
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["like_a_coroutine_function"]

F = TypeVar("F", bound=Callable[..., Any])


def like_a_coroutine_function(function: F) -> F:
    """Mark a function, so that `inspect.iscoroutinefunction` and that of asyncio return True for it."""
    if hasattr(inspect, "markcoroutinefunction"):
        marked: F = inspect.markcoroutinefunction(function)
        return marked
    # Python 3.10 and 3.11 know but asyncio's own mark.
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return function
