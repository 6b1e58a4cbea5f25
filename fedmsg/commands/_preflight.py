# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pre-flight of ``fedmsg-config --check``: does what the programs do at their start, without starting them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from fedmsg import utils
from fedmsg._util import plugins
from fedmsg.commands import announce, collectd, dictConfig, hub, logger, logging_errors, relay, replay, tail, trigger
from fedmsg.commands._options import Flag
from fedmsg.config import settings
from fedmsg.config.settings import Problem
from fedmsg.exceptions import ConfigError, FedmsgError

__all__ = ["logging_problems", "problems", "unread_keys"]

# Whose flags may be configured, too.
_COMMANDS = (
    announce.AnnounceCommand,
    collectd.CollectdCommand,
    hub.HubCommand,
    logger.LoggerCommand,
    relay.RelayCommand,
    replay.ReplayCommand,
    tail.TailCommand,
    trigger.TriggerCommand,
)
# What is read and stands in no table: who publishes and signs, which programs set for themselves.
_ALSO_READ = frozenset({"name", "mute", "certname", "cert_prefix", "gpg_keyrings", "fedmsg.commands.collectd.enabled"})


def problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what would keep programs from starting or working; the values must have the right types."""
    for name, row in settings.TABLE.items():
        for fault in row.kind.faults(config.get(name)):
            yield Problem(name, fault, stops=not row.needed_later)
    for check in dict.fromkeys(row.check for row in settings.TABLE.values() if row.check):
        key = next(name for name, row in settings.TABLE.items() if row.check == check)
        try:
            yield from utils.load_class(check)(config)
        except FedmsgError as error:
            yield Problem(key, str(error))


def logging_problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Set up logging as a command does, but open no file that it would log to."""
    value = config.get("logging")
    if not value:
        return
    files: dict[str, str] = {}
    try:
        with logging_errors():
            handlers = {name: dict(handler) for name, handler in (value.get("handlers") or {}).items()}
            files = {name: str(one["filename"]) for name, one in handlers.items() if "filename" in one}
            for name in files:
                handlers[name]["delay"] = True
            dictConfig({**value, "handlers": handlers})
    except ConfigError as error:
        yield Problem("logging", str(error).removeprefix("logging: "))
    for name, path in files.items():
        yield from _log_file(f"logging.handlers.{name}", path)


def _log_file(key: str, path: str) -> Iterator[Problem]:
    folder = os.path.dirname(os.path.abspath(path))
    if not os.access(path if os.path.exists(path) else folder, os.W_OK) or os.path.isdir(path):
        yield Problem(key, f"{path} can't be written to; make its folder, or change its owner with 'chown'")


def unread_keys(config: Mapping[str, Any]) -> Iterator[str]:
    """Find the keys that neither fedmsg nor an installed consumer or producer is known to read."""
    unknown = [name for name in config if name not in settings.TABLE]
    if not unknown:
        return
    loaded = [found for group in ("moksha.consumer", "moksha.producer") for _, found in plugins.load(group)]
    read = {str(getattr(found, "config_key", "")) for found in loaded}
    read |= {Flag(*declared).dest for command in _COMMANDS for declared in command.extra_args}
    yield from (name for name in unknown if name not in read | _ALSO_READ)
