# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the sockets behave. The values that are there suit nearly every bus."""

from __future__ import annotations

config = {
    # How many messages a socket holds when they can't be sent at once, or are not fetched. 0 means
    # without limit for a publisher that is connected to a relay; for others it means what the next
    # two say. Above 0 it holds for all of them.
    #     "high_water_mark": 0,
    #     "receive_high_water_mark": 100000,
    #     "publish_high_water_mark": 200000,
    #
    # The biggest message, in bytes. A bigger one is not sent, and not taken from others.
    #     "max_message_size": 16777216,
    #
    # How many milliseconds a socket goes on sending what it holds when it is closed.
    #     "zmq_linger": 1000,
    #
    # Connections that have died without a word are found by TCP, which after so many idle
    # seconds asks so many times, so many seconds apart ...
    #     "zmq_tcp_keepalive": 1,
    #     "zmq_tcp_keepalive_idle": 60,
    #     "zmq_tcp_keepalive_cnt": 3,
    #     "zmq_tcp_keepalive_intvl": 5,
    #
    # ... and faster by ZeroMQ, which asks every so many milliseconds; 0 is never.
    #     "zmq_heartbeat_ivl": 5000,
    #
    # A lost connection is tried again after so many milliseconds. The wait grows up to the second
    # number; with 0 it does not, so that a listener finds publishers that live for a second.
    #     "zmq_reconnect_ivl": 100,
    #     "zmq_reconnect_ivl_max": 0,
    #
    # True makes consumers get a topic that equals theirs, and not one that only begins with it.
    #     "zmq_strict": False,
    #
    # False would mean that a message broker carries the messages.
    #     "zmq_enabled": True,
}
