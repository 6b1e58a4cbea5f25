# SPDX-License-Identifier: LGPL-2.1-or-later
"""Prints the canonical JSON of each line of its standard input, which is a Python expression, or the error."""

from __future__ import annotations

import datetime as dt
import json
import math
import sys
import time
from typing import Any

import fedmsg.encoding


class Json:
    """An object that says what to write for it.

    Args:
        into: That.
    """

    def __init__(self, into: Any) -> None:
        self.into = into

    def __json__(self) -> Any:
        return self.into


NAMES = {"Json": Json, "dt": dt, "time": time, "nan": math.nan, "inf": math.inf}


def outcome(text: str) -> list[str]:
    """What becomes of a value: its two forms, and its first again when it has been read back; or the error."""
    try:
        value = eval(text, dict(NAMES))
        written = fedmsg.encoding.dumps(value)
        return [written, fedmsg.encoding.pretty_dumps(value), fedmsg.encoding.dumps(fedmsg.encoding.loads(written))]
    except (TypeError, ValueError) as error:
        return [type(error).__name__]


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(outcome(line)), flush=True)
