# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-relay`` and ``fedmsg-signing-relay``: take messages from publishers and pass them on to all."""

from __future__ import annotations

from typing import ClassVar

from fedmsg import _settings
from fedmsg.commands import Declaration, _relay_checks
from fedmsg.commands._forwarding import ForwardingCommand
from fedmsg.transport.forwarder import Forwarder

__all__ = ["RelayCommand", "SigningRelayCommand", "relay", "signing_relay"]


class RelayCommand(ForwardingCommand):
    """Pass on what is published at relay_inbound to whoever subscribes at endpoints["relay_outbound"].

    Messages go through unread and unchanged. The command runs in the foreground until it is
    told to stop; then it passes on what has been handed to it, and ends.
    """

    name = "fedmsg-relay"
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

    def forwarder(self) -> Forwarder:
        """Make a forwarder that binds both sides."""
        return Forwarder(
            self.config,
            self.configured("relay_inbound", self.config.get("relay_inbound")),
            self.configured("endpoints['relay_outbound']", self.config.get("endpoints", {}).get("relay_outbound")),
            limit=_settings.get(self.config, "fedmsg.consumers.relay.high_water_mark"),
            check=self.check(),
        )

    def describe(self, forwarder: Forwarder) -> str:
        """Say between which addresses it stands."""
        return f"relaying from {', '.join(forwarder.inbound)} to {forwarder.outbound}"


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

    def check(self) -> _relay_checks.Check:
        """Give what signs each message."""
        return _relay_checks.signing(self.config, super().check())


def relay() -> None:
    """Run the command: the entry point of ``fedmsg-relay``."""
    RelayCommand().execute()


def signing_relay() -> None:
    """Run the command: the entry point of ``fedmsg-signing-relay``."""
    SigningRelayCommand().execute()
