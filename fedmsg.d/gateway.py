# SPDX-License-Identifier: LGPL-2.1-or-later
"""The gateway: it repeats the whole bus on one port, for listeners outside."""

from __future__ import annotations

config = {
    # The port to open for the world. Listeners can't publish through it.
    #     "fedmsg.consumers.gateway.port": 9940,
    #
    # What waits in the gateway for one listener that doesn't keep up; more is dropped for that one.
    #     "fedmsg.consumers.gateway.high_water_mark": 200000,
}
