# SPDX-License-Identifier: LGPL-2.1-or-later
"""What daemons run in: one loop that owns the sockets, and threads that work for consumers and producers.

A consumer handles messages::

    from fedmsg.consumers import FedmsgConsumer


    class Greeter(FedmsgConsumer):
        topic = "org.example.prod.door.open"
        config_key = "greeter.enabled"

        def consume(self, message):
            print("Hello", message["body"]["msg"]["user"])

A producer acts of its own accord::

    from fedmsg.hub import PollingProducer


    class Clock(PollingProducer):
        frequency = 3600

        def poll(self):
            fedmsg.publish(topic="hour", modname="clock")

Distributions declare them as entry points, in the groups ``moksha.consumer`` and
``moksha.producer``, where ``fedmsg-hub`` finds them.
"""

from __future__ import annotations

from fedmsg.hub import daemon
from fedmsg.hub.consumer import Consumer
from fedmsg.hub.hooks import ZMQMessage
from fedmsg.hub.hub import Hub, Outcome, provide_moksha
from fedmsg.hub.producer import PollingProducer, Producer

__all__ = ["Consumer", "Hub", "Outcome", "PollingProducer", "Producer", "ZMQMessage", "daemon", "provide_moksha"]
