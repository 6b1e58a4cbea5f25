# SPDX-License-Identifier: LGPL-2.1-or-later
"""The publishing application of the tutorial."""

from __future__ import annotations

import fedmsg

fedmsg.init(active=True)
fedmsg.publish(
    topic="order.placed",
    modname="shop",
    msg={"order": 1017, "items": ["tea", "biscuits"]},
)
fedmsg.destroy()
