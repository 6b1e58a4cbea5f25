# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-announce``: publishes an announcement that it reads from standard input."""

from __future__ import annotations

from typing import Any, ClassVar

from fedmsg._util.text import as_utf8
from fedmsg.commands import BaseCommand, Declaration, _process, _relayed
from fedmsg.commands._options import flag
from fedmsg.exceptions import WorkLeft

__all__ = ["AnnounceCommand", "announce"]


class AnnounceCommand(BaseCommand):
    """Publish an announcement, read from standard input.

    For example::

        $ echo "The build system is down until noon" | fedmsg-announce --link https://example.com/outage

    It goes out with the topic announce.announcement, which a routing policy can reserve for
    those who may announce something. It is passed on by fedmsg-relay, which has to run.
    """

    name = "fedmsg-announce"
    needs_bus = True
    unused_flags = frozenset({"post_init_sleep"})
    extra_args: ClassVar[list[Declaration]] = [
        flag("--link", metavar="URL", help="Where there is more to read."),
        _relayed.CONFIRM,
    ]

    def run(self) -> None:
        """Publish what is read from standard input.

        Raises:
            UsageError: It can't be read, or is not fit to be sent.
            NotListening: There is no relay.
            NotConfirmed: With --confirm: it was not confirmed in time.
            RejectedByRelay: With --confirm: the relay has rejected it.
            PossiblyLost: The connection to it broke.
            WorkLeft: A signal came before it was sent.
        """
        self.config["cert_prefix"] = "announce"
        link = self.config["link"] and as_utf8(self.config["link"])
        try:
            text = "\n".join(line.strip() for line in _process.input_lines(self.log))
            with _relayed.publishing(self.config, topic="announcement", modname="announce") as publish:
                publish({"message": text, "link": link}, "the announcement")
        except KeyboardInterrupt:
            raise WorkLeft("stopped before the announcement was sent") from None


def announce() -> Any:
    """Run the command: the entry point of ``fedmsg-announce``."""
    return AnnounceCommand().execute()
