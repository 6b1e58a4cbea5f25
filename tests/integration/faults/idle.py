# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program that publishes once for each line on its standard input, and is idle in between.

Its argument is the settings as JSON.
"""

from __future__ import annotations

import json
import sys

from fedmsg.core import FedMsgContext


def main() -> None:
    """Run until standard input ends."""
    with FedMsgContext(**json.loads(sys.argv[1])) as context:
        print("ready")
        for line in sys.stdin:
            context.publish("idle", {"n": int(line)}, modname="test")


if __name__ == "__main__":
    main()
