# SPDX-License-Identifier: LGPL-2.1-or-later
"""``datagrepper``: serve the history over HTTP."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from fedmsg._util import plugins
from fedmsg.commands import BaseCommand, Declaration
from fedmsg.commands._options import flag
from fedmsg.config import settings

__all__ = ["DatagrepperCommand", "main"]

# Where they are not configured: each has connections to the database, and takes memory.
_MOST_WORKERS = 4


class DatagrepperCommand(BaseCommand):
    """Serve the history over HTTP: what datanommer has stored.

    The command runs in the foreground until it is stopped. It answers at datagrepper.host and
    datagrepper.port, only this machine unless that is changed.
    """

    name = "datagrepper"
    daemonizable = True
    unused_flags = frozenset({"topic_prefix", "post_init_sleep", "timeout", "high_water_mark", "io_threads"})
    extra_args: ClassVar[list[Declaration]] = [
        flag("--host", dest="datagrepper.host", metavar="ADDRESS", help="The address to serve at."),
        flag("--port", dest="datagrepper.port", metavar="PORT", type=int, help="The port; 0 is any free one."),
        flag("--threads", dest="datagrepper.threads", metavar="NUMBER", type=int,
             help="How many requests and streams are answered at the same time."),
        flag("--workers", dest="datagrepper.workers", metavar="NUMBER", type=int,
             help="How many processes share the work."),
    ]  # fmt: skip

    def run(self) -> Any:
        """Serve until SIGTERM or SIGINT.

        Raises:
            AddressInUse: Another process has the address.
            ConfigError: The configuration can't work.
        """
        config = {key: value for key, value in self.config.items() if value is not None}
        view = settings.of(settings.accept(config))
        workers = view.datagrepper_workers or min(len(os.sched_getaffinity(0)), _MOST_WORKERS)
        made = plugins.lazy("datagrepper").create_app({**config, "datagrepper.workers": workers})
        server = plugins.lazy("gunicorn")
        listener = server.listen(view.datagrepper_host, view.datagrepper_port)
        host, port = listener.getsockname()[:2]
        self.log.info("serving the history at http://%s:%d/", f"[{host}]" if ":" in host else host, port)
        server.Server(
            made,
            listener,
            threads=view.datagrepper_threads,
            workers=workers,
            stop=float(view.stop_timeout),
        ).run()


def main() -> Any:
    """Run the command: the entry point of ``datagrepper``."""
    return DatagrepperCommand().execute()
