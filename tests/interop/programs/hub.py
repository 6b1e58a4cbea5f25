# SPDX-License-Identifier: LGPL-2.1-or-later
"""A ``fedmsg-hub`` with more folders on its path: hub.py FOLDERS ARGUMENTS, the folders as a JSON list."""

from __future__ import annotations

import json
import sys

if __name__ == "__main__":
    sys.path[1:1] = json.loads(sys.argv.pop(1))
    # Only now: what looks for plugins may do so when it is imported.
    from fedmsg.commands.hub import hub

    sys.argv[0] = "fedmsg-hub"
    hub()
