# SPDX-License-Identifier: LGPL-2.1-or-later
"""The status report and the metrics of a relay or gateway, for ``fedmsg-check`` and Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

from fedmsg._util import plugins
from fedmsg.commands._forwarding import ForwardingCommand, Metric
from fedmsg.config import settings
from fedmsg.monitoring import metrics
from fedmsg.monitoring.report import Monitor
from fedmsg.transport.zmq.forwarder import Forwarder, Statistics

__all__ = ["Report"]

# Subscribers can be stuck in any number; more lines would show nothing new.
_SHOWN = 20


class Report:
    """Makes the report and the metrics of a forwarder."""

    def __init__(self, command: ForwardingCommand, forwarder: Forwarder) -> None:
        self._command = command
        self._forwarder = forwarder
        self._before = Statistics(0, 0, 0, 0, 0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Publish both where that is configured, for as long as the block lasts.

        Raises:
            AddressInUse: The port for Prometheus is taken.
            ConfigError: An address is none of this machine.
        """
        config = self._command.config
        with ExitStack() as stack:
            stack.enter_context(Monitor(config, lambda: {"consumers": [self.row()], "producers": []}))
            if settings.get(config, "metrics_port") is not None:
                stack.enter_context(plugins.lazy("metrics").Exporter(config, self.metrics))
            yield

    def row(self) -> dict[str, Any]:
        """Make the row of the monitoring report; the counters in it begin again with each.

        Raises:
            FedmsgError: The forwarder does not answer.
        """
        forwarder = self._forwarder
        now, before = forwarder.statistics(), self._before
        self._before = now
        subscribers, stuck = forwarder.look(), forwarder.stuck()
        module, _, name = self._command.consumer.partition(":")
        return {
            "name": name,
            "module": module,
            "topic": "*",
            "initialized": True,
            "exceptions": now.rejected - before.rejected,
            # Nothing is decoded, and nothing waits but in ZeroMQ's own queues.
            "jsonify": False,
            "backlog": 0,
            "headcount_in": now.messages_in - before.messages_in,
            "headcount_out": now.messages_out - before.messages_out,
            "times": [],
            "totals": {"received": now.messages_in, "passed_on": now.messages_out, "rejected": now.rejected},
            "rejected": dict(forwarder.rejections.counts),
            "subscribers": subscribers,
            "stuck": [one._asdict() for one in stuck[:_SHOWN]],
            "stuck_count": len(stuck),
            **self._command.more(),
        }

    def metrics(self) -> Iterator[metrics.Sample]:
        """Return the metrics for Prometheus.

        Raises:
            FedmsgError: The forwarder does not answer.
        """
        now = self._forwarder.statistics()
        numbers: list[Metric] = [
            ("forwarded_in", "Messages that came in to be passed on", now.messages_in, {}, True),
            ("forwarded_out", "Messages that were passed on", now.messages_out, {}, True),
            ("forwarded_in_bytes", "Bytes that came in to be passed on", now.bytes_in, {}, True),
            ("subscribers", "Subscribers that are connected", self._forwarder.look(), {}, False),
            ("subscribers_stuck", "Subscribers whose queue does not move", len(self._forwarder.stuck()), {}, False),
            *self._command.metrics(),
        ]
        own = (metrics.Sample(*number) for number in numbers)
        return chain(own, metrics.of_rejections(self._forwarder.rejections.counts))
