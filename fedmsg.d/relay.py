# SPDX-License-Identifier: LGPL-2.1-or-later
"""The relay: programs send it their messages at one address, listeners receive them at another."""

from __future__ import annotations

config = {
    # Where fedmsg-relay takes messages in. Who may connect here may publish: keep it on the
    # loopback interface or behind a firewall. A list of addresses binds all of them. The
    # other side of the relay is "relay_outbound" in endpoints.py.
    #     "relay_inbound": "tcp://127.0.0.1:2003",
    #
    # True makes a publisher connect to the relay. With False it binds an endpoint of its own.
    # fedmsg-logger and the other commands that publish always connect.
    #     "active": False,
    #
    # What waits in the relay for one listener that doesn't keep up; more is dropped for that one.
    # At 500 bytes a message, this many are 250 to 300 MB.
    #     "fedmsg.consumers.relay.high_water_mark": 200000,
}
