# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-irc``: shows in IRC channels what happens on the bus."""

from __future__ import annotations

from fedmsg.commands import BaseCommand
from fedmsg.consumers.ircbot import IRCBotConsumer, read_all
from fedmsg.exceptions import ConfigError, WorkLeft
from fedmsg.hub import Hub, daemon

__all__ = ["IRCCommand", "ircbot"]


class IRCCommand(BaseCommand):
    """Show in the IRC channels of the setting irc what happens on the bus.

    The command runs in the foreground until SIGTERM or SIGINT; then the bots quit.
    """

    name = "fedmsg-irc"
    daemonizable = True
    needs_bus = True
    unused_flags = frozenset({"topic_prefix", "post_init_sleep", "timeout"})

    def run(self) -> None:
        """Speak until SIGTERM or SIGINT; not everything may have been sent then (`WorkLeft`)."""
        # Here rather than in the hub, which would leave out a consumer with a bad configuration.
        if not read_all(self.config):
            raise ConfigError("there is no channel to speak in: list one in irc, with network, nickname and channel")
        config = {**self.config, IRCBotConsumer.config_key: True}
        hubs: list[Hub] = []

        def make() -> Hub:
            hubs.append(Hub(config, [IRCBotConsumer], []))
            return hubs[0]

        daemon.run_hub(make, "speaking in IRC")
        unsaid = sum(consumer.unsaid for hub in hubs for consumer in hub.consumers)
        if unsaid:
            raise WorkLeft(f"stopped with {unsaid} messages that were not sent")


def ircbot() -> None:
    """Run the command: the entry point of ``fedmsg-irc``."""
    IRCCommand().execute()
