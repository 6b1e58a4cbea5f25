# SPDX-License-Identifier: LGPL-2.1-or-later
"""RabbitMQ in place of ZeroMQ."""

from __future__ import annotations

config = {
    # The nodes of the broker, tried in this order, for example
    # ["amqps://bus:PASSWORD@rabbit1.example.org/bus"]. Let only the services read a file with a password in it.
    #     "broker_url": [],
    #
    # The topic exchange that messages go through.
    #     "broker_exchange": "amq.topic",
    #
    # The authorities that may vouch for the broker, those of the system when not set; and what to show to it.
    #     "broker_ca": None,
    #     "broker_cert": None,
    #     "broker_key": None,
    #
    # Whether unsigned messages of other programs are valid where signatures are checked.
    #     "broker_trusted": False,
    #
    # How many messages a consumer is sent ahead of their acknowledgement.
    #     "broker_prefetch": 100,
    #
    # The stream that keeps all messages, and how much of it is kept, from when it is made on.
    #     "broker_stream": "fedmsg.stream",
    #     "broker_stream_age": None,
    #     "broker_stream_bytes": None,
}
