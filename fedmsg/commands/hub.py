# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-hub``: runs the consumers and producers that are installed and enabled."""

from __future__ import annotations

import os
import resource
import sys
from typing import Any, ClassVar

from fedmsg import utils
from fedmsg.commands import BaseCommand, Declaration, _subscribing
from fedmsg.commands._options import flag
from fedmsg.exceptions import ConfigError, RefusedAtStart, UsageError
from fedmsg.hub import Hub, daemon, provide_moksha

__all__ = ["HubCommand", "hub"]


# Each endpoint takes a few.
_FILES = 4096


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise ValueError(f"{text!r} is not a port")
    return port


def _load(name: str) -> Any:
    """Import ``package.module:Class``, or ``file.py:Class`` from the current folder."""
    module, colon, kind = name.partition(":")
    here = os.getcwd()
    sys.path.append(here)
    try:
        return utils.load_class(f"{module.removesuffix('.py')}{colon}{kind}")
    except (ImportError, ValueError) as error:
        raise UsageError(f"--with-consumers: {name!r} can't be imported: {error}") from error
    finally:
        sys.path.remove(here)


class HubCommand(BaseCommand):
    """Run all consumers and producers that are installed and enabled.

    They are found by the entry points moksha.consumer and moksha.producer of installed
    packages, and each is enabled by a setting of its own. The command runs in the
    foreground until SIGTERM or Ctrl-C.

    Durable consumers read on where they have stopped; one whose name is new to the relay begins
    with new messages, or where --since, --after or --first say.
    """

    name = "fedmsg-hub"
    daemonizable = True
    needs_bus = True
    unused_flags = frozenset({"topic_prefix", "post_init_sleep", "timeout"})
    extra_args: ClassVar[list[Declaration]] = [
        flag(
            "--with-consumers",
            dest="explicit_hub_consumers",
            metavar="CLASSES",
            help="Run these consumers, such as package.module:Class, and no others, beside the producers; "
            "separated by commas.",
        ),
        flag(
            "--websocket-server-port",
            dest="moksha.livesocket.websocket.port",
            type=_port,
            metavar="PORT",
            help="Serve the bus to web pages, as WebSockets on this port.",
        ),
        flag(
            "--retry-dead-letters",
            dest="retry_dead_letters",
            action="store_true",
            help="First try those messages again whose handling failed for good.",
        ),
        *_subscribing.BEGIN_FLAGS,
    ]

    def run(self) -> None:
        """Run the hub until SIGTERM or SIGINT."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < _FILES:
            self.set_rlimit_nofiles()
        elif soft != resource.RLIM_INFINITY and soft < _FILES:
            # The hard limit stays: with thousands of endpoints it is needed.
            resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, hard))
        consumers = self._named_consumers()
        if self.config["retry_dead_letters"] and not self.config.get("dead_letter_directory"):
            raise ConfigError("--retry-dead-letters needs dead_letter_directory: set it to the folder they are in")
        daemon.run_hub(
            lambda: Hub(
                self.config,
                consumers,
                retry_dead_letters=self.config["retry_dead_letters"],
                begin=self._begin(),
            ),
            "running",
            websocket=True,
        )

    def _begin(self) -> dict[str, Any]:
        """Return where durable consumers begin whose name is new, as the flags say."""
        wanted = _subscribing.requested({name: self.config[name] for name in ("since", "after", "first")}) or {}
        return {name: value for name, value in wanted.items() if value is not None}

    def _named_consumers(self) -> list[Any] | None:
        """Return the consumers of ``--with-consumers``, enabled unless the files switch them off; None without it."""
        names = [part.strip() for part in (self.config["explicit_hub_consumers"] or "").split(",") if part.strip()]
        if not names:
            return None
        provide_moksha()
        running, off = [], []
        for name in names:
            kind = _load(name)
            key = getattr(kind, "config_key", None)
            if not isinstance(key, str) or self.config.setdefault(key, True):
                running.append(kind)
            else:
                off.append(key)
                self.log.warning("%s is not run: %s is %r; set it to True", name, key, self.config[key])
        if off and not running:
            raise RefusedAtStart(f"--with-consumers: all of them are switched off; set to True: {', '.join(off)}")
        return running

    def set_rlimit_nofiles(self, limit: int = _FILES) -> None:
        """Allow this process so many open files: each endpoint takes some."""
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        except (ValueError, OSError) as error:
            self.log.warning("%d open files are not allowed: %s", limit, error)


def hub() -> None:
    """Run the command: the entry point of ``fedmsg-hub``."""
    HubCommand().execute()
