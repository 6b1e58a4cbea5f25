# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls of processors, which are other people's code: whatever one does, its caller goes on."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

__all__ = ["FAILED", "ask", "counts", "note", "without_config"]

_Method = TypeVar("_Method", bound=Callable[..., Any])

#: What `ask` returns when there was no answer.
FAILED: Any = object()

#: How often which processor did what it should not: keys are (its name, ``"raised"``,
#: ``"nonsense"`` or ``"slow"``). Only ever grows.
counts: Counter[tuple[str, str]] = Counter()

# From how many seconds on a processor is slow: who waits for it is a bot or a web page.
_SLOW = 1.0
# What came in a message may be in an error, and may be enormous.
_LONGEST = 200

_MARK = "_fedmsg_without_config"

_log = logging.getLogger("fedmsg.meta")
_lock = threading.Lock()
# By processor, so that one that is made anew is told of anew.
_told: weakref.WeakKeyDictionary[object, Counter[tuple[str, str]]] = weakref.WeakKeyDictionary()
_now = time.monotonic


def without_config(method: _Method) -> _Method:
    """Mark a method of ours that is quick and makes no use of the configuration.

    It is called without: to hand over seventy keyword arguments, and to look at the clock,
    takes longer than what such a method does.

    Args:
        method: The method. One that a subclass has in its place is not marked.
    """
    setattr(method, _MARK, True)
    return method


def ask(asked: object, what: str, config: Mapping[str, Any], *arguments: Any) -> Any:
    """Call a method of a processor or of a conglomerator.

    Args:
        asked: The processor.
        what: The name of the method.
        config: The configuration, which it gets as keyword arguments.
        arguments: Its positional arguments.

    Returns:
        What it returned, or `FAILED` when it raised: then that is logged and counted.
    """
    began = None
    try:
        method = getattr(asked, what)
        if hasattr(method, _MARK):
            return method(*arguments)
        began = _now()
        answer = method(*arguments, **config)
    # Exit too: no message may end the program that shows it.
    except (Exception, SystemExit) as error:  # noqa: BLE001 logged below
        note(asked, what, "raised", f"{_cut(error)} at {_place(error)}")
        answer = FAILED
    if began is not None and (took := _now() - began) > _SLOW:
        note(asked, what, "slow", f"it took {took:.1f} seconds")
    return answer


def note(asked: object, what: str, problem: str, detail: str) -> None:
    """Count what a processor did wrong, and log it.

    The first time is logged, and then each time that the count has doubled: what is wrong
    with one message is usually wrong with very many.

    Args:
        asked: The processor.
        what: The method.
        problem: ``raised``, ``nonsense`` or ``slow``.
        detail: What happened, in words.
    """
    name = name_of(asked)
    with _lock:
        counts[name, problem] += 1
        times = _times(asked, what, problem)
    if times & (times - 1) == 0:
        so_far = f" ({times} times so far)" if times > 1 else ""
        _log.warning("The processor %s: %s %s: %s%s", name, what, problem, detail, so_far)


def _times(asked: object, what: str, problem: str) -> int:
    """Count how often this very processor had this problem."""
    try:
        told = _told.setdefault(asked, Counter())
    # One that can't be remembered is told of each time.
    except TypeError:
        return 1
    told[what, problem] += 1
    return told[what, problem]


def name_of(asked: object) -> str:
    """Name a processor so that its author is found: by its own name, its module and its class."""
    kind = type(asked)
    own = getattr(asked, "__name__", None)
    place = f"{kind.__module__}:{kind.__qualname__}"
    return f"{own} ({place})" if isinstance(own, str) else place


def _cut(value: object) -> str:
    """Show a value in one line, shortened."""
    try:
        text = ascii(value)
    # The repr of a stranger's exception is a stranger's code.
    except Exception:  # noqa: BLE001 its name is what remains
        text = type(value).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _place(error: BaseException) -> str:
    """Give the file and the line that raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "an unknown line"
