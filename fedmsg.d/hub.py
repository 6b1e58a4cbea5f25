# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hub, which runs consumers and producers, and what it remembers of its work."""

from __future__ import annotations

config = {
    # The consumers that come with fedmsg, for a hub that is to run them. fedmsg-relay, fedmsg-gateway
    # and fedmsg-irc need none of these: each of them runs its own, whatever stands here.
    #     "fedmsg.consumers.dummy.enabled": False,
    #     "fedmsg.consumers.relay.enabled": False,
    #     "fedmsg.consumers.gateway.enabled": False,
    #     "fedmsg.consumers.ircbot.enabled": False,
    #
    # A hub receives from all endpoints. Other addresses can be set here, separated by commas or
    # as a list, and whether to "connect" to them, which is the default, or to "bind" them.
    #     "zmq_subscribe_endpoints": None,
    #     "zmq_subscribe_method": None,
    #
    # Where it publishes what consumers send by hub.send_message(), and not by fedmsg.publish(): the
    # first of these addresses that is free. When not set, at the endpoints of its name.
    #     "zmq_publish_endpoints": None,
    #
    # How many messages may wait for one consumer, and what happens when there are that many:
    # "block" receives no more until there is room, for all consumers of the hub; "drop" drops
    # the oldest that wait, and counts them. A consumer class may have its own.
    #     "consumer_queue_limit": 10000,
    #     "consumer_queue_policy": "block",
    #
    # How often a message is tried again when handling it raised an exception, and how many seconds
    # later, the double each time. One that failed for good is kept in this folder, from where
    # fedmsg-hub --retry-dead-letters takes it up again.
    #     "consume_retries": 0,
    #     "consume_retry_delay": 1.0,
    #     "dead_letter_directory": None,
    #
    # A folder for what is left when the hub stops: it is handled first at the next start. Under
    # systemd this is $STATE_DIRECTORY, and nothing need be set.
    #     "state_directory": None,
    #
    # How many threads take messages from the queue of each consumer. With more than one, a
    # consumer sees messages at the same time and out of order.
    #     "moksha.workers_per_consumer": 1,
    #
    # True delivers each message before the next one is received, without a queue.
    #     "moksha.blocking_mode": False,
    #
    # Where a daemon sends its status report every five seconds, for fedmsg-check, for example
    # "ipc:///run/fedmsg/monitoring". Each daemon needs an address of its own.
    #     "moksha.monitoring.socket": None,
    #
    # For ipc:// the mode of the socket's file: "0770" lets the group read.
    #     "moksha.monitoring.socket.mode": None,
    #
    # The port on which a daemon serves metrics for Prometheus, and the address for that. Needs:
    # pip install 'fedmsg[metrics]'
    #     "metrics_port": None,
    #     "metrics_interface": "127.0.0.1",
    #
    # The port on which programs in a browser can listen to the bus. Without an interface they
    # have to be on this machine; "0.0.0.0" accepts every machine.
    #     "moksha.livesocket.websocket.port": None,
    #     "moksha.livesocket.websocket.interface": None,
    #
    # The web sites whose pages may connect, such as ["https://wall.example.org"]; ["*"] is all of them. When
    # it is not set, a server without an interface is for pages of this machine, one with an interface
    # for all pages.
    #     "moksha.livesocket.websocket.origins": None,
    #
    # True delivers what those programs send to the consumers of the hub. It is not checked: every program
    # that can connect can send anything.
    #     "moksha.livesocket.websocket.client2server": False,
    #
    # A folder in which each consumer notes the message it is working on ...
    #     "status_directory": None,
    #
    # ... and a datagrepper that is asked at the next start for everything since then, for example
    # "https://apps.fedoraproject.org/datagrepper/raw".
    #     "datagrepper_url": None,
    #
    # The message that a consumer was working on when it crashed is delivered once more. True
    # skips it, in case it is the one that crashes the consumer.
    #     "skip_last_message": False,
}
