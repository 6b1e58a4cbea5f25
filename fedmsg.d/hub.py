# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hub, which runs consumers and producers, and what it remembers of its work."""

from __future__ import annotations

config = {
    # How many threads take messages from the queue of each consumer. With more than one, a
    # consumer sees messages at the same time and out of order.
    #     "moksha.workers_per_consumer": 1,
    #
    # True hands over each message before the next one is received, without a queue.
    #     "moksha.blocking_mode": False,
    #
    # Where a daemon tells every five seconds how it is, for fedmsg-check, for example
    # "ipc:///run/fedmsg/monitoring". Each daemon needs an address of its own.
    #     "moksha.monitoring.socket": None,
    #
    # The port on which programs in a browser can listen to the bus.
    #     "moksha.livesocket.websocket.port": None,
    #
    # A folder in which each consumer notes the message it is working on ...
    #     "status_directory": None,
    #
    # ... and a datagrepper that is asked at the next start for everything since then, for example
    # "https://apps.fedoraproject.org/datagrepper/raw".
    #     "datagrepper_url": None,
    #
    # The message that a consumer was working on when it crashed is handed over once more. True
    # leaves it out, in case it is the one that crashes the consumer.
    #     "skip_last_message": False,
}
