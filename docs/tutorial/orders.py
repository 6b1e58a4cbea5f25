# SPDX-License-Identifier: LGPL-2.1-or-later
"""The publishing application of the tutorial, which knows what is kept."""

from __future__ import annotations

import fedmsg

fedmsg.init(active=True)
for order in (1018, 1019):
    position = fedmsg.publish(topic="order.placed", modname="shop", msg={"order": order}, confirm=True)
    print(order, "is kept at position", position)
fedmsg.destroy()
