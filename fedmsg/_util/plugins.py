# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is imported late: optional libraries on first use, other people's plugins by group.

A third-party library has one module that wraps it. That module is never imported at
the top; it is reached through :func:`lazy`, so that a command which shows no colours does
not pay for a highlighter, and a missing library is one line instead of a traceback.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import logging
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from fedmsg.exceptions import MissingExtra

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["lazy", "load", "provide"]

log = logging.getLogger(__name__)

# One line; those who debug get the traceback too.
_NOT_LOADED = "%s is not loaded: %r"


class _Lazy(NamedTuple):
    """A row of the table: where a feature lives, how users call it, which extra brings it."""

    module: str
    feature: str
    extra: str


# What the basic installation brings has an extra here too: naming one that exists makes
# pip repair an installation from which a library was taken away.
_TABLE = {
    "amqp": _Lazy("fedmsg.transport.amqp.client", "RabbitMQ as the bus", "amqp"),
    "yaml": _Lazy("fedmsg._util.yaml", "a YAML file", "commands"),
    "colour": _Lazy("pygments", "coloured output", "commands"),
    "history": _Lazy("fedmsg.datanommer.upkeep", "the history in a database", "datanommer"),
    "dns": _Lazy("fedmsg._util.dns", "looking up endpoints in the DNS", "srv"),
    "daemon": _Lazy("fedmsg.commands._daemon", "running as a daemon", "daemon"),
    "sqla": _Lazy("fedmsg.encoding.sqla", "sending SQLAlchemy models", "sql"),
    "store": _Lazy("fedmsg.replay.sqlstore", "keeping messages in a database", "sql"),
    "statistics": _Lazy("fedmsg.statscache.counting", "keeping statistics", "statscache"),
    "datagrepper": _Lazy("fedmsg.datagrepper.app", "the history over HTTP", "datagrepper"),
    "charts": _Lazy("fedmsg.datagrepper.charts", "charts of the history", "datagrepper"),
    "gunicorn": _Lazy("fedmsg._web.server", "serving over HTTP", "datagrepper"),
    "statscache": _Lazy("fedmsg.statscache.app", "statistics over HTTP", "statscache"),
    "stream": _Lazy("fedmsg.stream.log", "the stream of a relay", "sql"),
    "x509": _Lazy("fedmsg.crypto._cryptography", "signing and checking with certificates", "crypto"),
    "gnupg": _Lazy("fedmsg.crypto._gnupg", "signing and checking with GnuPG", "crypto"),
    "fetch": _Lazy("fedmsg._util.http", "certificates at an https address", "crypto"),
    "http": _Lazy("fedmsg._util.http", "asking a web server", "consumers"),
    "irc": _Lazy("fedmsg.irc.bot", "the IRC bot", "irc"),
    "metrics": _Lazy("fedmsg.monitoring.prometheus", "metrics for Prometheus", "metrics"),
    "speed": _Lazy("fedmsg.encoding._speed", "fast decoding", "speed"),
    "websocket": _Lazy("fedmsg.websocket.server", "the WebSocket server", "consumers"),
}


def lazy(name: str) -> ModuleType:
    """Import the module behind a feature, the first time that the feature is used.

    Raises:
        MissingExtra: The library that the module wraps is not installed.
    """
    row = _TABLE[name]
    try:
        return importlib.import_module(row.module)
    except ModuleNotFoundError as error:
        # A missing module of ours or of Python is a defect, and no extra would mend it.
        missing = (error.name or "").partition(".")[0]
        if missing == "fedmsg" or missing in sys.stdlib_module_names:
            raise
        raise MissingExtra(row.feature, row.extra) from error


def load(group: str, failed: list[str] | None = None) -> list[tuple[str, Any]]:
    """Return the names and objects that installed distributions declare for a group of entry points.

    They are in the order of their names, which unlike that of folders on disk is the same everywhere. A plugin
    that can't be loaded is logged and skipped, and a line for it is added to ``failed``.
    """
    loaded = []
    for entry in sorted(_entries(group), key=lambda entry: (entry.name, entry.value)):
        try:
            loaded.append((entry.name, entry.load()))
        # Importing runs other people's code, which may do anything, exit included.
        except (Exception, SystemExit) as error:
            what = f"The plugin {entry.name} = {entry.value} of {group}"
            log.error(_NOT_LOADED, what, error, exc_info=log.isEnabledFor(logging.DEBUG))
            if failed is not None:
                failed.append(f"{entry.value}: {type(error).__name__}: {error}")
    return loaded


class _Provider:
    """Finds a package by calling what registers it, when it is first imported."""

    def __init__(self, package: str, module: str, function: str) -> None:
        self.package = package
        self._where = module, function

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the signature is Python's
        target: ModuleType | None = None,  # noqa: ARG002 - the same
    ) -> importlib.machinery.ModuleSpec | None:
        """Register the package if it is the one that is imported; the import then finds it in ``sys.modules``."""
        if name.partition(".")[0] != self.package:
            return None
        module, function = self._where
        sys.meta_path.remove(self)
        getattr(importlib.import_module(module), function)()
        return importlib.machinery.ModuleSpec(name, cast("Any", self)) if name in sys.modules else None

    @staticmethod
    def create_module(spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the module that was registered."""
        return sys.modules[spec.name]

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Do nothing: the module is complete."""


def provide(package: str, module: str, function: str) -> None:
    """Register a package by a function of a module, imported when the package is first imported, installed or not.

    The function puts the package into ``sys.modules``.
    """
    if not any(isinstance(one, _Provider) and one.package == package for one in sys.meta_path):
        sys.meta_path.insert(0, _Provider(package, module, function))


def _entries(group: str) -> list[EntryPoint]:
    """Read the entry points of a group, also when one distribution's list of them is broken."""
    # Costs 30 ms: only those who look for plugins pay for it.
    from importlib import metadata

    try:
        return list(metadata.entry_points(group=group))
    except Exception:
        log.debug("Some list of entry points is broken: reading them one by one", exc_info=True)
    entries: list[EntryPoint] = []
    for distribution in metadata.distributions():
        try:
            entries += [entry for entry in distribution.entry_points if entry.group == group]
        except Exception as error:
            what = f"The entry_points.txt of {distribution.metadata['Name']}"
            log.error(_NOT_LOADED, what, error, exc_info=log.isEnabledFor(logging.DEBUG))
    return entries
