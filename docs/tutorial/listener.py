# SPDX-License-Identifier: LGPL-2.1-or-later
"""The listening application of the tutorial."""

from __future__ import annotations

import fedmsg

for name, endpoint, topic, message in fedmsg.tail_messages(topic="org.fedoraproject.dev.shop", mute=True):
    print(topic, message["msg"]["order"])
