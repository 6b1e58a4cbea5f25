# SPDX-License-Identifier: LGPL-2.1-or-later
"""An application that prints the messages that it hears, as JSON: listen.py ARGUMENTS."""

from __future__ import annotations

import json
import sys

import fedmsg

if __name__ == "__main__":
    for name, endpoint, topic, envelope in fedmsg.tail_messages(mute=True, **json.loads(sys.argv[1])):
        print(json.dumps([name, endpoint, topic, envelope]), flush=True)
