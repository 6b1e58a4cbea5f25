# SPDX-License-Identifier: LGPL-2.1-or-later
"""The listening application of the tutorial, which goes on where it stopped."""

from __future__ import annotations

import fedmsg

with fedmsg.subscribe(topic="org.fedoraproject.dev.shop", after="first", durable="packer", mute=True) as messages:
    for message in messages:
        print("packing", message[3]["msg"]["order"], flush=True)
