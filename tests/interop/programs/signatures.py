# SPDX-License-Identifier: LGPL-2.1-or-later
"""An application that signs and checks messages: signatures.py FILE, which has the tasks as JSON."""

from __future__ import annotations

import json
import sys

import fedmsg.crypto

if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        tasks = json.load(file)
    for name, message, config in tasks:
        try:
            answer = getattr(fedmsg.crypto, name)(message, **config)
        except Exception as error:  # noqa: BLE001 what it is, is the answer
            answer = type(error).__name__ + ": " + str(error)
        # With GnuPG, fedmsg 1.1.7 leaves bytes in the message.
        print("ANSWER", json.dumps(answer, default=bytes.decode), flush=True)
