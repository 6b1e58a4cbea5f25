# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-collectd``: reports to collectd how many messages pass, by subject."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from typing import Any, ClassVar

from fedmsg import meta
from fedmsg.commands import BaseCommand, Declaration
from fedmsg.commands._options import flag
from fedmsg.consumers import FedmsgConsumer
from fedmsg.hub import Hub, PollingProducer, daemon

__all__ = ["CollectdCommand", "CollectdConsumer", "CollectdProducer", "collectd"]

_INTERVAL = 2
# Anything else would end the name, or the line.
_NO_NAME = re.compile(r"[^\w.-]+")


class CollectdConsumer(FedmsgConsumer):
    """Counts messages by the name of the processor that knows them."""

    topic = "*"
    config_key = "fedmsg.commands.collectd.enabled"

    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        self.host = socket.gethostname().split(".", 1)[0]
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()

    def consume(self, message: Any) -> None:
        """Count a message."""
        processor = meta.msg2processor(message["body"], **self.hub.config)
        with self._counting:
            self._counts[_name(processor)] += 1

    def dump(self) -> None:
        """Print a line for each processor, with what was counted since the last time."""
        with self._counting:
            counts, self._counts = self._counts, Counter()
        names = sorted({_name(processor) for processor in meta.processors} | set(counts))
        # In one go: a line is read as soon as it is there.
        sys.stdout.write("".join(f"{self.formatter(name, counts[name])}\n" for name in names))
        sys.stdout.flush()

    def formatter(self, key: str, value: int) -> str:
        """Return the line for a processor, by its name, and how many messages there were."""
        interval = self.hub.config.get("collectd_interval", _INTERVAL)
        return f"PUTVAL {self.host}/fedmsg/fedmsg_wallboard-{key} interval={interval} {int(time.time())}:{value}"


def _name(processor: Any) -> str:
    return _NO_NAME.sub("_", str(processor.__name__).lower())


class CollectdProducer(PollingProducer):
    """Prints, time and again, what the consumer of the same hub has counted."""

    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        self.frequency = float(hub.config.get("collectd_interval", _INTERVAL))

    def poll(self) -> None:
        """Print what was counted."""
        try:
            for consumer in self.hub.consumers:
                if isinstance(consumer, CollectdConsumer):
                    consumer.dump()
        except BrokenPipeError:
            # collectd has gone.
            os.kill(os.getpid(), signal.SIGTERM)


def _interval(text: str) -> int:
    seconds = int(text)
    if seconds < 1:
        raise ValueError(f"{text!r} is not a number of seconds above 0")
    return seconds


class CollectdCommand(BaseCommand):
    """Print, time and again, how many messages have passed, for the exec plugin of collectd.

    Messages are counted by the name of the plugin that knows them.
    """

    name = "fedmsg-collectd"
    needs_zmq = True
    prints_data = True
    unused_flags = frozenset({"topic_prefix", "post_init_sleep", "timeout", "zmq_linger"})
    extra_args: ClassVar[list[Declaration]] = [
        flag(
            "--collectd-interval",
            type=_interval,
            metavar="SECONDS",
            default=_INTERVAL,
            help="How often to print; default: every %(default)s seconds.",
        ),
    ]

    def run(self) -> None:
        """Count and print until SIGTERM or SIGINT, or until its reader has gone."""
        # What passed while it did not run is not to be counted now.
        config = {**self.config, "status_directory": None, str(CollectdConsumer.config_key): True}
        meta.make_processors(**config)
        daemon.run_hub(lambda: Hub(config, [CollectdConsumer], [CollectdProducer]), "counting for collectd")


def collectd() -> Any:
    """Run the command: the entry point of ``fedmsg-collectd``."""
    return CollectdCommand().execute()
