# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings of sockets, endpoints, relay and gateway."""

from __future__ import annotations

from fedmsg.config.settings.kinds import BOOLEAN, ENDPOINTS, INTEGER, LINES, TEXTS
from fedmsg.config.settings.setting import View, setting

__all__ = ["TransportSettings"]

_BIGGEST = 2**63 - 1


class TransportSettings(View):
    """How sockets behave, and which addresses they have."""

    # fmt: off
    high_water_mark = setting(INTEGER, 0,
        "How many messages a socket may hold; 0: no limit for who publishes through a relay.", "sockets",
        unit="messages", flag="--high-water-mark")
    receive_high_water_mark = setting(INTEGER, 100000,
        "How many messages a subscriber may hold, unless high_water_mark is above 0.", "sockets", unit="messages",
        in_conf=False)
    publish_high_water_mark = setting(INTEGER, 200000,
        "How many messages a bound publisher holds for one subscriber, unless high_water_mark is above 0.", "sockets",
        unit="messages", in_conf=False)
    max_message_size = setting(INTEGER, 16 * 1024 * 1024, "The biggest message that is sent or taken.", "sockets",
        unit="bytes", in_conf=False, low=1, high=_BIGGEST)
    zmq_linger = setting(INTEGER, 1000, "How long a closing socket goes on sending what it holds, at most.", "sockets",
        unit="milliseconds", flag="--linger")
    zmq_enabled = setting(BOOLEAN, True, "Whether messages go over ZeroMQ; False is for a message broker.", "sockets")
    zmq_strict = setting(BOOLEAN, False, "Whether a consumer's topic has to match as a whole, not as a prefix.",
        "sockets")
    zmq_tcp_keepalive = setting(INTEGER, 1, "Whether TCP probes idle connections: 1 for yes, 0 for no.", "sockets",
        high=1)
    zmq_tcp_keepalive_cnt = setting(INTEGER, 3, "How many probes without an answer end a connection.", "sockets",
        unit="probes")
    zmq_tcp_keepalive_idle = setting(INTEGER, 60, "How long a connection is idle before the first probe.", "sockets",
        unit="seconds")
    zmq_tcp_keepalive_intvl = setting(INTEGER, 5, "How long to wait between two probes.", "sockets", unit="seconds")
    zmq_reconnect_ivl = setting(INTEGER, 100, "How long to wait before a lost connection is tried again.", "sockets",
        unit="milliseconds")
    zmq_reconnect_ivl_max = setting(INTEGER, 0,
        "How far that wait grows while the other side stays away; 0: it does not grow.", "sockets",
        # Not at all, or a listener would miss a publisher that is there for half a second.
        unit="milliseconds", own_conf_default=1000)
    zmq_heartbeat_ivl = setting(INTEGER, 5000,
        "How often a connection is asked for a sign of life, so that a silent cut is noticed; 0 is never.", "sockets",
        unit="milliseconds", in_conf=False)
    endpoints = setting(ENDPOINTS, {"relay_outbound": ["tcp://127.0.0.1:4001"]},
        "Where messages come from: names of publishers, with the addresses that each may bind.", "endpoints",
        required=True, check="fedmsg.transport.zmq.preflight:problems")
    srv_endpoints = setting(TEXTS, [],
        "Domains whose endpoints are looked up in the DNS, as SRV records of _fedmsg._tcp.", "endpoints", in_conf=False)
    relay_inbound = setting(LINES, "tcp://127.0.0.1:2003", "Where the relay takes messages, to pass them on.", "relay",
        own_conf_default="tcp://127.0.0.1:2001")
    relay_high_water_mark = setting(INTEGER, 200000,
        "How many messages the relay holds for one subscriber that doesn't keep up.", "relay", unit="messages",
        name="fedmsg.consumers.relay.high_water_mark", in_conf=False)
    gateway_port = setting(INTEGER, 9940, "The port on which the gateway repeats the whole bus.", "gateway",
        name="fedmsg.consumers.gateway.port", high=65535)
    gateway_high_water_mark = setting(INTEGER, 200000,
        "How many messages the gateway holds for one subscriber that doesn't keep up.", "gateway", unit="messages",
        name="fedmsg.consumers.gateway.high_water_mark", own_conf_default=1000)
