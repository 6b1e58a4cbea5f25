# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stream: a relay with a store keeps what it passes on, confirms it, and serves it from any position."""

from __future__ import annotations

config = {
    # Where the relay keeps the stream: the URL of a database, for example
    # "sqlite:////var/lib/fedmsg-relay/stream.db" or "postgresql+psycopg://fedmsg@db.example.org/fedmsg".
    #     "relay_store": None,
    #
    # Where such relays take messages that they confirm, and where they serve their stream: an
    # address or a list of them. Clients try them in this order; a relay binds those that are its own.
    #     "relay_confirmed": "tcp://127.0.0.1:2004",
    #     "relay_stream": "tcp://127.0.0.1:4002",
    #
    # Where other relays take messages that they confirm: a relay with a store hands everything on to each of
    # them, from where it stopped, however long one is away. Two relays may name each other.
    #     "relay_upstream": [],
    #
    # How much of the stream is kept: seconds, bytes of topics and bodies, messages; 0 is no limit.
    #     "relay_retention_age": 604800,
    #     "relay_retention_bytes": 0,
    #     "relay_retention_messages": 0,
    #
    # How many durable subscriptions there may be.
    #     "relay_durable_max": 10000,
    #
    # Whether publishers wait until a relay has confirmed a message, and how many messages one that
    # sends many has in flight.
    #     "publish_confirm": False,
    #     "publish_window": 1000,
    #
    # How much a subscriber of the stream is sent ahead: messages and bytes, whichever comes first.
    #     "stream_credit": 1000,
    #     "stream_credit_bytes": 4194304,
}
