# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program that publishes stored messages until its standard input is closed.

Its arguments are the settings as JSON and how many messages to publish in a second, 0 for
as many as it can. It writes the count of its messages, after each of them when there is a
third argument, and in the end.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

from fedmsg.core import FedMsgContext


def main() -> None:
    """Publish."""
    settings, rate = json.loads(sys.argv[1]), float(sys.argv[2])
    telling = len(sys.argv) > 3
    stop = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    with FedMsgContext(**settings) as context:
        count, start = 0, time.monotonic()
        while not stop.wait(max(0.0, start + count / rate - time.monotonic()) if rate else 0):
            context.publish("stored", {"n": count, "pid": os.getpid()}, modname="test")
            count += 1
            if telling:
                print(count, flush=True)
        print(count, flush=True)


main()
