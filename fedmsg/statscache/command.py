# SPDX-License-Identifier: LGPL-2.1-or-later
"""``statscache``: serve statistics over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar

from fedmsg._web.command import ServeCommand, serving_flags
from fedmsg.commands import Declaration

__all__ = ["StatscacheCommand", "main"]


class StatscacheCommand(ServeCommand):
    """Serve statistics over HTTP: what a hub with the consumer of statscache has counted.

    The command runs in the foreground until it is stopped. It answers at statscache.app.host and
    statscache.app.port, only this machine unless that is changed.
    """

    name = "statscache"
    application = "statscache"
    setting = "statscache.app"
    served = "statistics"
    extra_args: ClassVar[list[Declaration]] = serving_flags("statscache.app", "requests")


def main() -> Any:
    """Run the command: the entry point of ``statscache``."""
    return StatscacheCommand().execute()
