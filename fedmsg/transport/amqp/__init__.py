# SPDX-License-Identifier: LGPL-2.1-or-later
"""RabbitMQ as the bus, in the format of fedora-messaging.

`client` alone imports the library. A `link.Link` keeps one connection in a thread of its own; `sink` publishes
through one with confirms, `source` and `history` receive.
"""

from __future__ import annotations
