# SPDX-License-Identifier: LGPL-2.1-or-later
"""An application that publishes each line of its standard input, which is JSON: publish.py SETTINGS TOPIC."""

from __future__ import annotations

import json
import sys

import fedmsg

if __name__ == "__main__":
    fedmsg.init(**json.loads(sys.argv[1]))
    for line in sys.stdin:
        fedmsg.publish(topic=sys.argv[2], msg=json.loads(line), modname="interop")
    fedmsg.destroy()
