# SPDX-License-Identifier: LGPL-2.1-or-later
"""Helpers for tests: ours, and those of applications that use fedmsg.

::

    from fedmsg.testing import Bus

    def test_it_publishes_an_update():
        with Bus() as bus:
            bus.start_relay()
            with bus.tail("--json") as tail:
                my_application(bus.environ)
                tail.wait_for("org.fedoraproject.dev.mine.update")

A consumer or producer is tested in a hub of its own::

    from fedmsg.testing import HubRunner

    def test_it_bills_what_was_ordered():
        with HubRunner(MyConsumer) as hub:
            hub.publish("org.example.dev.shop.order", {"id": 1017})
            hub.wait_until_handled()
            assert hub.sent == [("org.example.dev.shop.bill", {"order": 1017})]

Everything is real: processes, sockets, threads, files.

For plugins of `fedmsg.meta` there are `Base` and `ConglomerateBase`, to write tests as tables.
"""

from __future__ import annotations

from fedmsg.testing.bus import Bus, envelopes
from fedmsg.testing.hub import HubRunner
from fedmsg.testing.meta import Base, ConglomerateBase, Unspecified, skip_on
from fedmsg.testing.ports import free_address, free_port
from fedmsg.testing.processes import Process, command_path, run, wait_until
from fedmsg.testing.recording import Failure

__all__ = [
    "Base",
    "Bus",
    "ConglomerateBase",
    "Failure",
    "HubRunner",
    "Process",
    "Unspecified",
    "command_path",
    "envelopes",
    "free_address",
    "free_port",
    "run",
    "skip_on",
    "wait_until",
]
