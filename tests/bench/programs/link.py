# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a timed program and the bench talk: one JSON object per line, on its standard streams."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["serve"]


def serve(tasks: Mapping[str, Callable[..., Any]]) -> None:
    """Do what the bench asks for, until it hangs up.

    Args:
        tasks: What can be asked for by ``{"do": name, **arguments}``. What a task returns is
            the answer.
    """
    for line in sys.stdin:
        request = json.loads(line)
        answer = tasks[request.pop("do")](**request)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
