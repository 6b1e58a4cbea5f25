# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishes messages with fedora-messaging, as FEDORA_MESSAGING_CONF says: topic prefix, number of messages."""

from __future__ import annotations

import sys

from fedora_messaging import api, message

prefix, count = sys.argv[1], int(sys.argv[2])
for number in range(count):
    one = message.Message(topic=f"{prefix}.t", body={"n": number}, severity=message.WARNING)
    api.publish(one, timeout=20)
    print(one.id, flush=True)
