# SPDX-License-Identifier: LGPL-2.1-or-later
"""``datagrepper``: serve the history over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar

from fedmsg._web.command import ServeCommand, serving_flags
from fedmsg.commands import Declaration

__all__ = ["DatagrepperCommand", "main"]


class DatagrepperCommand(ServeCommand):
    """Serve the history over HTTP: what datanommer has stored.

    The command runs in the foreground until it is stopped. It answers at datagrepper.host and
    datagrepper.port, only this machine unless that is changed.
    """

    name = "datagrepper"
    application = "datagrepper"
    setting = "datagrepper"
    served = "the history"
    extra_args: ClassVar[list[Declaration]] = serving_flags("datagrepper", "requests and streams")


def main() -> Any:
    """Run the command: the entry point of ``datagrepper``."""
    return DatagrepperCommand().execute()
