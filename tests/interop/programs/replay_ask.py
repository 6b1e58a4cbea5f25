# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks a replay server, with the configuration and the questions of a JSON file; prints what comes back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from fedmsg.replay import check_for_replay, get_replay

told = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))


def answer(task: Any) -> Any:
    """Give what a question brings, or its error."""
    try:
        if "message" in task:
            return check_for_replay(told["name"], {told["name"]: task["after"]}, task["message"], told["config"])
        return list(get_replay(told["name"], task["query"], told["config"]))
    except (OSError, ValueError) as error:
        text = error.args[0]
        return text.decode() if isinstance(text, bytes) else str(text)


for one in told["tasks"]:
    print("ANSWER", json.dumps(answer(one)), flush=True)
