# SPDX-License-Identifier: LGPL-2.1-or-later
"""The base of the commands that serve an application."""

from __future__ import annotations

import os
from typing import Any

from fedmsg._util import plugins
from fedmsg.commands import BaseCommand, Declaration
from fedmsg.commands._options import flag
from fedmsg.config import settings

__all__ = ["ServeCommand", "serving_flags"]

# Where they are not configured: each has connections to the database, and takes memory.
_MOST_WORKERS = 4


def serving_flags(setting: str, what: str) -> list[Declaration]:
    """Return the flags of a command that serves.

    Args:
        setting: What the names of its settings begin with.
        what: What is answered.
    """
    return [
        flag("--host", dest=f"{setting}.host", metavar="ADDRESS", help="The address to serve at."),
        flag("--port", dest=f"{setting}.port", metavar="PORT", type=int, help="The port; 0 is any free one."),
        flag("--threads", dest=f"{setting}.threads", metavar="NUMBER", type=int,
             help=f"How many {what} are answered at the same time."),
        flag("--workers", dest=f"{setting}.workers", metavar="NUMBER", type=int,
             help="How many processes share the work."),
    ]  # fmt: skip


class ServeCommand(BaseCommand):
    """Serve an application until it is stopped.

    Attributes:
        application: What `fedmsg._util.plugins` calls the module that makes it.
        setting: What the names of its settings begin with: host, port, threads, workers.
        served: What is served, for the log.
    """

    daemonizable = True
    unused_flags = frozenset({"topic_prefix", "post_init_sleep", "timeout", "high_water_mark", "io_threads"})
    application: str
    setting: str
    served: str

    def run(self) -> Any:
        """Serve until SIGTERM or SIGINT.

        Raises:
            AddressInUse: Another process has the address.
            ConfigError: The configuration can't work.
        """
        config = {key: value for key, value in self.config.items() if value is not None}
        view = settings.of(settings.accept(config))
        host, port, threads, workers = (
            getattr(view, f"{self.setting.replace('.', '_')}_{name}") for name in ("host", "port", "threads", "workers")
        )
        workers = workers or min(len(os.sched_getaffinity(0)), _MOST_WORKERS)
        made = plugins.lazy(self.application).create_app({**config, f"{self.setting}.workers": workers})
        server = plugins.lazy("gunicorn")
        listener = server.listen(host, port, self.setting)
        host, port = listener.getsockname()[:2]
        self.log.info("serving %s at http://%s:%d/", self.served, f"[{host}]" if ":" in host else host, port)
        server.Server(
            made, listener, name=self.name, threads=threads, workers=workers, stop=float(view.stop_timeout)
        ).run()
