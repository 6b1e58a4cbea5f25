# SPDX-License-Identifier: LGPL-2.1-or-later
"""What relay and gateway have in common: a forwarder that runs until the command is stopped."""

from __future__ import annotations

import contextlib
import gc
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from fedmsg import utils
from fedmsg._util.signals import StopSignals
from fedmsg.commands import BaseCommand, _relay_checks
from fedmsg.exceptions import ConfigError, FedmsgError, WorkLeft
from fedmsg.monitoring import systemd
from fedmsg.monitoring.metrics import Sample
from fedmsg.transport.zmq import addresses
from fedmsg.transport.zmq.forwarder import Check, Forwarder, Outcome

__all__ = ["ForwardingCommand"]


@contextlib.contextmanager
def _frozen() -> Iterator[None]:
    """Exempt what has been made so far from garbage collection, for as long as the block lasts.

    It stays until the end in any case. To look through all of it takes 20 ms, in which no message goes on.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class ForwardingCommand(BaseCommand):
    """Runs a forwarder between the addresses of a subclass.

    Attributes:
        consumer: Its name in status reports: ``module:Class``.
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
        """Return in a few words what it does."""

    def run(self) -> Any:
        """Forward messages until SIGTERM or SIGINT.

        Raises:
            AddressInUse: Another process has the addresses.
            ConfigError: There is no address to take messages at, or none to pass them on at.
            RefusedAtStart: Messages are to be checked or signed, and can't be.
            WorkLeft: Time was up before everything was passed on.
        """
        with StopSignals() as stop, self.prepared(stop) as may_start:
            if may_start:
                self._forward(stop)

    def _forward(self, stop: StopSignals) -> None:
        forwarder = self.forwarder()
        with forwarder, self._reporting(forwarder):
            self.log.info("%s", self.describe(forwarder))
            systemd.notify("READY=1")
            with _frozen():
                systemd.wait_and_watch(stop.wait, lambda: forwarder.running, lambda: self._is_well(forwarder))
            systemd.notify("STOPPING=1")
            outcome = forwarder.stop()
        self._report(outcome)

    def prepared(self, stop: StopSignals) -> contextlib.AbstractContextManager[bool]:  # noqa: ARG002 for a subclass
        """Return what has to be open for as long as messages are forwarded.

        Its value is whether the command may start: not when the stop has come before.
        """
        return contextlib.nullcontext(True)

    def _is_well(self, forwarder: Forwarder) -> bool:
        """Ask the loop itself: a thread may live and yet pass nothing on."""
        try:
            count = forwarder.statistics().messages_out
        except FedmsgError:
            return False
        forwarder.look()
        systemd.notify(f"STATUS={self.describe(forwarder)}, {count} messages so far")
        return True

    def _reporting(self, forwarder: Forwarder) -> contextlib.AbstractContextManager[Any]:
        """Report its state and metrics where that is configured, for as long as the block lasts."""
        if not any(self.config.get(key) for key in ("moksha.monitoring.socket", "metrics_port")):
            return contextlib.nullcontext()
        # What a hub is made of comes along with it, 2 MiB that an idle relay has no other use for.
        report = utils.load_class("fedmsg.commands._forwarding_report:Report")(self, forwarder)
        running: contextlib.AbstractContextManager[Any] = report.running()
        return running

    def more(self) -> dict[str, Any]:
        """Return what else the status report shows of this command."""
        return {}

    def metrics(self) -> list[Sample]:
        """Return further metrics."""
        return []

    def check(self) -> Check | None:
        """Return what is done with each message; None lets all pass unread."""
        return _relay_checks.checking(self.config) if self.config.get("relay_validate") else None

    @staticmethod
    def configured(key: str, value: Any) -> list[str]:
        """Return the addresses in a configured value.

        Raises:
            ConfigError: It has none; the error names ``key``.
        """
        found = addresses.as_list(value)
        if not found:
            raise ConfigError(f"{key} is not set: set it to an address such as tcp://127.0.0.1:2003")
        return found

    def _report(self, outcome: Outcome) -> None:
        if outcome.complete:
            self.log.info("stopped after %d messages, %d of them while stopping", outcome.passed_on, outcome.drained)
            return
        reasons = []
        if outcome.still_arriving:
            reasons.append(f"messages were still coming in, {outcome.drained} since the signal")
        if outcome.unkept:
            reasons.append(f"{outcome.unkept} messages could not be stored")
        if outcome.behind:
            reasons.append(f"{outcome.behind} subscribers had not taken everything")
        raise WorkLeft(f"stopped after {outcome.passed_on} messages with work left: {'; '.join(reasons)}")
