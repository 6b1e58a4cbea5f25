# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls of processors, which are foreign code: whatever one does, its caller goes on."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fedmsg._util.ratelimit import RateLimitedLog

__all__ = ["FAILED", "ask", "counts", "note", "without_config"]

_Method = TypeVar("_Method", bound=Callable[..., Any])

#: What `ask` returns when there was no answer.
FAILED: Any = object()

#: How often a processor failed: keys are (its name, ``"raised"``,
#: ``"nonsense"`` or ``"slow"``). Only ever grows.
counts: Counter[tuple[str, str]] = Counter()

# From so many seconds on a processor is slow: a bot or a web page waits for it.
_SLOW = 1.0
# What came in a message may be in an error, and may be enormous.
_LONGEST = 200

_MARK = "_fedmsg_without_config"

_log = logging.getLogger("fedmsg.meta")
_lock = threading.Lock()
# By processor, so that one that is made anew is logged anew.
_logs: weakref.WeakKeyDictionary[object, RateLimitedLog] = weakref.WeakKeyDictionary()
_shared_log = RateLimitedLog(_log)
_now = time.monotonic


def without_config(method: _Method) -> _Method:
    """Mark a method of ours that is quick and makes no use of the configuration.

    It is called without: to pass seventy keyword arguments, and to look at the clock,
    takes longer than what such a method does. One that a subclass has in its place is not marked.
    """
    setattr(method, _MARK, True)
    return method


def ask(asked: object, what: str, config: Mapping[str, Any], *arguments: Any) -> Any:
    """Call a method of a processor or of a conglomerator, with the configuration as keyword arguments.

    The result is `FAILED` when it raised: that is logged and counted.
    """
    began = None
    try:
        method = getattr(asked, what)
        if hasattr(method, _MARK):
            return method(*arguments)
        began = _now()
        answer = method(*arguments, **config)
    # SystemExit too: no message may end the program that shows it.
    except (Exception, SystemExit) as error:  # noqa: BLE001 logged below
        note(asked, what, "raised", f"at {_place(error)}: {_shown(error)}")
        answer = FAILED
    if began is not None and (took := _now() - began) > _SLOW:
        note(asked, what, "slow", f"it took {took:.1f} seconds")
    return answer


def note(asked: object, what: str, problem: str, detail: str) -> None:
    """Count a failure of a processor (``raised``, ``nonsense`` or ``slow``), and log it, rate-limited."""
    name = name_of(asked)
    with _lock:
        counts[name, problem] += 1
        try:
            limited = _logs.setdefault(asked, RateLimitedLog(_log))
        except TypeError:  # it can't be referred to weakly
            limited = _shared_log
    limited.report(problem, f"The processor {name}: {what} {problem}: {detail}", f"{name} {what}")


def name_of(asked: object) -> str:
    """Return the name of a processor with its module and its class, so that its author is found."""
    kind = type(asked)
    own = getattr(asked, "__name__", None)
    place = f"{kind.__module__}:{kind.__qualname__}"
    return f"{own} ({place})" if isinstance(own, str) else place


def _shown(error: BaseException) -> str:
    """Return an exception in one line, shortened."""
    try:
        return repr(error)[:_LONGEST]
    except Exception:  # noqa: BLE001 the repr of foreign code
        return type(error).__name__


def _place(error: BaseException) -> str:
    """Return the file and the line that raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "an unknown line"
