# SPDX-License-Identifier: LGPL-2.1-or-later
"""What relay and gateway have in common: a forwarder that runs until the command is told to stop."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from typing import Any

from fedmsg import utils
from fedmsg.commands import BaseCommand, _relay_checks
from fedmsg.exceptions import ConfigError, FedmsgError, WorkLeft
from fedmsg.transport import addresses, systemd
from fedmsg.transport.forwarder import Forwarder, Outcome, Statistics
from fedmsg.transport.stop import StopSignals

__all__ = ["ForwardingCommand"]


class ForwardingCommand(BaseCommand):
    """Runs a forwarder; what it forwards from and to, the command says.

    Attributes:
        consumer: As what it shows itself to those who monitor it: ``module:Class``.
    """

    consumer: str
    daemonizable = True
    needs_zmq = True
    unused_flags = frozenset({"topic_prefix", "post_init_sleep", "timeout", "high_water_mark", "zmq_linger"})

    @abstractmethod
    def forwarder(self) -> Forwarder:
        """Make the forwarder."""

    @abstractmethod
    def describe(self, forwarder: Forwarder) -> str:
        """Say in a few words what it does."""

    def run(self) -> Any:
        """Forward messages until SIGTERM or SIGINT.

        Raises:
            AddressInUse: Somebody else has the addresses.
            ConfigError: There is no address to take messages at, or none to pass them on at.
            RefusedAtStart: Messages are to be checked or signed, and can't be.
            WorkLeft: Time was up before everything was passed on.
        """
        forwarder = self.forwarder()
        with StopSignals() as stop, forwarder, self._monitor(forwarder):
            self.log.info("%s", self.describe(forwarder))
            systemd.notify("READY=1")
            stop.wait_and_watch(lambda: forwarder.running, lambda: self._is_well(forwarder))
            systemd.notify("STOPPING=1")
            outcome = forwarder.stop()
        self._report(outcome)

    def _is_well(self, forwarder: Forwarder) -> bool:
        """Ask the loop itself: a thread may live and yet pass nothing on."""
        try:
            count = forwarder.statistics().messages_out
        except FedmsgError:
            return False
        forwarder.look()
        systemd.notify(f"STATUS={self.describe(forwarder)}, {count} messages so far")
        return True

    def _monitor(self, forwarder: Forwarder) -> contextlib.AbstractContextManager[Any]:
        if not self.config.get("moksha.monitoring.socket"):
            return contextlib.nullcontext()
        # What a hub is made of comes along with it, 2 MiB that an idle relay has no other use for.
        monitor = utils.load_class("fedmsg.hub.monitoring:Monitor")
        row = _Row(self, forwarder)
        made: contextlib.AbstractContextManager[Any] = monitor(
            self.config, lambda: {"consumers": [row()], "producers": []}
        )
        return made

    def more(self) -> dict[str, Any]:
        """Give what else the monitoring report should say of this command."""
        return {}

    def check(self) -> _relay_checks.Check | None:
        """Give what has to be done with each message; None lets all pass unread."""
        return _relay_checks.checking(self.config) if self.config.get("relay_validate") else None

    @staticmethod
    def configured(key: str, value: Any) -> list[str]:
        """Give the addresses that are configured.

        Args:
            key: Where, for the error.
            value: What is configured there.

        Raises:
            ConfigError: There is none.
        """
        found = addresses.as_list(value)
        if not found:
            raise ConfigError(f"{key} is not set: give it an address such as tcp://127.0.0.1:2003")
        return found

    def _report(self, outcome: Outcome) -> None:
        if outcome.complete:
            self.log.info("stopped after %d messages, %d of them while stopping", outcome.passed_on, outcome.drained)
            return
        reasons = []
        if outcome.still_arriving:
            reasons.append(f"messages were still coming in, {outcome.drained} since the signal")
        if outcome.behind:
            reasons.append(f"{outcome.behind} subscribers had not taken everything")
        raise WorkLeft(f"stopped after {outcome.passed_on} messages with work left: {'; '.join(reasons)}")


# More of them would say nothing new: whoever can subscribe can be stuck, and any number of times.
_STUCK_AT_MOST = 20


class _Row:
    """Makes the monitoring report's row; the counters in it begin again with each."""

    def __init__(self, command: ForwardingCommand, forwarder: Forwarder) -> None:
        self._command = command
        self._forwarder = forwarder
        self._before = Statistics(0, 0, 0, 0, 0)

    def __call__(self) -> dict[str, Any]:
        """Make a row.

        Raises:
            FedmsgError: The forwarder does not answer.
        """
        forwarder = self._forwarder
        now, before = forwarder.statistics(), self._before
        self._before = now
        stuck = forwarder.stuck()
        module, _, name = self._command.consumer.partition(":")
        return {
            "name": name,
            "module": module,
            "topic": "*",
            "initialized": True,
            "exceptions": now.refused - before.refused,
            # Nothing is decoded, and nothing waits but in ZeroMQ's own queues.
            "jsonify": False,
            "backlog": 0,
            "headcount_in": now.messages_in - before.messages_in,
            "headcount_out": now.messages_out - before.messages_out,
            "times": [],
            "totals": {"received": now.messages_in, "passed_on": now.messages_out, "refused": now.refused},
            "refused": dict(forwarder.refusals.counts),
            "subscribers": forwarder.look(),
            "stuck": [one._asdict() for one in stuck[:_STUCK_AT_MOST]],
            "stuck_count": len(stuck),
            **self._command.more(),
        }
