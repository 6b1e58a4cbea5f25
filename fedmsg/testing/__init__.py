# SPDX-License-Identifier: LGPL-2.1-or-later
"""Helpers for tests: ours, and those of applications that use fedmsg.

::

    from fedmsg.testing import Bus

    def test_it_tells_the_world():
        with Bus() as bus:
            bus.start_relay()
            with bus.tail("--json") as tail:
                my_application(bus.environ)
                tail.wait_for("org.fedoraproject.dev.mine.update")

Everything is real: processes, sockets, files.

For plugins of `fedmsg.meta` there are `Base` and `ConglomerateBase`, to write tests as tables.
"""

from __future__ import annotations

from fedmsg.testing.bus import Bus, envelopes
from fedmsg.testing.meta import Base, ConglomerateBase, Unspecified, skip_on
from fedmsg.testing.ports import free_address, free_port
from fedmsg.testing.processes import Process, command_path, run

__all__ = [
    "Base",
    "Bus",
    "ConglomerateBase",
    "Process",
    "Unspecified",
    "command_path",
    "envelopes",
    "free_address",
    "free_port",
    "run",
    "skip_on",
]
