# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes what a process logs safe to read: no control characters, no forged lines, no endless tracebacks."""

from __future__ import annotations

import logging

from fedmsg._util.text import safe_block

__all__ = ["SafeFormatter", "protect_handlers"]

_INDENT = "    "
# Of a longer text the middle is left out.
_MAX_CHARS = 32_000


class SafeFormatter(logging.Formatter):
    r"""Formats with another formatter, and makes the result safe.

    An exception may quote what a stranger has sent. Control characters are spelt out, as ``\x1b``; all lines
    but the first are indented, so that none looks like a record of its own; and the length is bounded.

    Args:
        inner: The formatter.
    """

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self.inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text."""
        text = self.inner.format(record)
        if len(text) > _MAX_CHARS:
            half = _MAX_CHARS // 2
            text = f"{text[:half]}\n... {len(text) - _MAX_CHARS} characters left out ...\n{text[-half:]}"
        return safe_block(text).replace("\n", f"\n{_INDENT}")


def protect_handlers() -> None:
    """Make all handlers of the logging configuration format safely."""
    loggers = [logging.getLogger(), *logging.getLogger().manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if not isinstance(handler.formatter, SafeFormatter):
                handler.setFormatter(SafeFormatter(handler.formatter or logging.Formatter()))
