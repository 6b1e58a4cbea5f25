# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-relay`` and ``fedmsg-signing-relay``: take messages from publishers and pass them on to all."""

from __future__ import annotations

from typing import Any, ClassVar

from fedmsg import _settings
from fedmsg.commands import BaseCommand, Declaration, _relay_checks
from fedmsg.exceptions import ConfigError, FedmsgError, WorkLeft
from fedmsg.transport import addresses, systemd
from fedmsg.transport.forwarder import Forwarder, Outcome
from fedmsg.transport.stop import StopSignals

__all__ = ["RelayCommand", "SigningRelayCommand", "relay", "signing_relay"]


class RelayCommand(BaseCommand):
    """Pass on what is published at relay_inbound to whoever subscribes at endpoints["relay_outbound"].

    Messages go through unread and unchanged. The command runs in the foreground until it is
    told to stop; then it passes on what has been handed to it, and ends.
    """

    name = "fedmsg-relay"
    daemonizable = True
    needs_zmq = True
    unused_flags = frozenset({"topic_prefix", "post_init_sleep", "timeout", "high_water_mark", "zmq_linger"})
    extra_args: ClassVar[list[Declaration]] = [
        (
            ["--validate"],
            {
                "dest": "relay_validate",
                "action": "store_true",
                "default": False,
                "help": "Refuse and count what is malformed or not validly signed; costs most of the speed.",
            },
        ),
    ]

    def run(self) -> None:
        """Forward messages until SIGTERM or SIGINT.

        Raises:
            AddressInUse: Somebody else has the addresses.
            ConfigError: There is no address to take messages at, or none to pass them on at.
            RefusedAtStart: Messages are to be checked or signed, and can't be.
            WorkLeft: Time was up before everything was passed on.
        """
        forwarder = Forwarder(
            self.config,
            self._configured("relay_inbound", self.config.get("relay_inbound")),
            self._configured("endpoints['relay_outbound']", self.config.get("endpoints", {}).get("relay_outbound")),
            limit=_settings.get(self.config, "fedmsg.consumers.relay.high_water_mark"),
            check=self._check(),
        )
        with StopSignals() as stop, forwarder:
            self.log.info("relaying from %s to %s", ", ".join(forwarder.inbound), forwarder.outbound)
            systemd.notify("READY=1")
            stop.wait_and_watch(lambda: forwarder.running, lambda: self._is_well(forwarder))
            systemd.notify("STOPPING=1")
            outcome = forwarder.stop()
        self._report(outcome)

    @staticmethod
    def _is_well(forwarder: Forwarder) -> bool:
        """Ask the loop itself: a thread may live and yet pass nothing on."""
        try:
            count = forwarder.statistics().messages_out
        except FedmsgError:
            return False
        systemd.notify(
            f"STATUS=relaying from {', '.join(forwarder.inbound)} to {forwarder.outbound}, {count} messages so far"
        )
        return True

    def _check(self) -> _relay_checks.Check | None:
        """Give what has to be done with each message; None lets all pass unread."""
        return _relay_checks.checking(self.config) if self.config.get("relay_validate") else None

    @staticmethod
    def _configured(key: str, value: Any) -> list[str]:
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


class SigningRelayCommand(RelayCommand):
    """Pass on what is published at relay_inbound, signed with certnames["signing_relay"].

    For publishers that have no key of their own: what they send gets the signature of this
    relay, in place of one that it may have. Who may send to it is a matter of its address, of a
    firewall or of CURVE. What is malformed is refused and counted.
    """

    name = "fedmsg-signing-relay"
    extra_args: ClassVar[list[Declaration]] = [
        (
            ["--validate"],
            {
                "dest": "relay_validate",
                "action": "store_true",
                "default": False,
                "help": "Sign only what is validly signed by its publisher.",
            },
        ),
    ]

    def _check(self) -> _relay_checks.Check:
        return _relay_checks.signing(
            self.config, _relay_checks.checking(self.config) if self.config.get("relay_validate") else None
        )


def relay() -> None:
    """Run the command: the entry point of ``fedmsg-relay``."""
    RelayCommand().execute()


def signing_relay() -> None:
    """Run the command: the entry point of ``fedmsg-signing-relay``."""
    SigningRelayCommand().execute()
