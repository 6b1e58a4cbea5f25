# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-dg-replay``: publishes the content of a past message again."""

from __future__ import annotations

import sys
import time
from typing import Any, ClassVar

from fedmsg import _wire
from fedmsg._util import plugins
from fedmsg._util.text import one_line
from fedmsg.commands import BaseCommand, Declaration, _relayed
from fedmsg.commands._options import flag
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError, HttpError, PossiblyLost, UsageError, WorkLeft
from fedmsg.transport.zmq import addresses
from fedmsg.transport.zmq.source import Source, accepted

__all__ = ["ReplayCommand", "replay"]

_DATAGREPPER = "https://apps.fedoraproject.org/datagrepper"
_OUTBOUND = "relay_outbound"
# Seconds: it may have to look through years.
_PATIENCE = 30.0


class ReplayCommand(BaseCommand):
    """Fetch a message from datagrepper and publish its content as a new message.

    It goes through the relay, with an id, a time and the prefix and environment of this bus. When
    it has come by at endpoints["relay_outbound"], that is OK; otherwise it ends with status 4.

    For example::

        $ fedmsg-dg-replay --msg-id 2026-1e4ffc40-3d0e-4e1a-8c5c-3d3b4b5f3a4c
    """

    name = "fedmsg-dg-replay"
    needs_zmq = True
    unused_flags = frozenset({"post_init_sleep"})
    extra_args: ClassVar[list[Declaration]] = [
        flag("--msg-id", metavar="ID", help="The id of the message."),
        flag(
            "--datagrepper-url",
            metavar="URL",
            default=_DATAGREPPER,
            help="Which datagrepper to ask; default: %(default)s.",
        ),
        flag(
            "--no-confirm",
            dest="confirm",
            action="store_false",
            help="Don't wait for the message to come by, where relay_outbound can't be reached.",
        ),
    ]

    def run(self) -> None:
        """Fetch the message, publish it, and wait until it comes back over the bus.

        Raises:
            HttpError: The datagrepper can't be asked.
            UsageError: The message is not fit to be sent again.
            ConfigError: It is not known where it should come by.
            NotListening: There is no relay.
            PossiblyLost: It was sent to the relay and did not come back in time.
            WorkLeft: A signal came before it had.
        """
        msg_id = self.config["msg_id"]
        if not msg_id:
            print("--msg-id is required")
            sys.exit(1)
        try:
            print(f"Retrieving '{one_line(msg_id)}'", flush=True)
            modname, topic, msg = self._fetch(msg_id)
            print(f"Broadcasting '{one_line(msg_id)}'", flush=True)
            if self.config["confirm"]:
                self._publish_and_watch(modname, topic, msg)
            else:
                self._publish(modname, topic, msg)
        except KeyboardInterrupt:
            raise WorkLeft("stopped before the message was seen to come by") from None
        print("OK.")

    def _fetch(self, msg_id: str) -> tuple[str, str, Any]:
        """Return modname, topic and content of a message of the past."""
        url = (self.config["datagrepper_url"] or _DATAGREPPER).rstrip("/").removesuffix("/raw")
        patience = max(_PATIENCE, settings.get(self.config, "timeout"))
        try:
            found = plugins.lazy("http").get_json(f"{url}/id", {"id": msg_id}, patience)
        except HttpError as error:
            if error.status in {None, 200}:
                raise
            print(f"datagrepper request of '{one_line(msg_id)}' failed. Status: {error.status}")
            sys.exit(2)
        if not isinstance(found, dict) or not isinstance(found.get("topic"), str) or "msg" not in found:
            raise HttpError(f"{url} does not answer with a message")
        words = found["topic"].split(".", 4)
        if len(words) < 5 or not all(words):
            raise UsageError(
                f"the topic {found['topic']!r} can't be used again: it has fewer than five parts, or an empty one"
            )
        if not found["topic"].isprintable():
            raise UsageError(f"the topic {found['topic']!r} can't be used again: it is not printable")
        return words[3], words[4], found["msg"]

    def _publish(self, modname: str, topic: str, msg: Any) -> str:
        """Publish; returns the id of the new message."""
        sent: list[str] = []
        with _relayed.publishing(
            self.config, topic=topic, modname=modname, hook=lambda envelope: sent.append(envelope["msg_id"])
        ) as publish:
            publish(msg, "the message")
        return sent[0]

    def _publish_and_watch(self, modname: str, topic: str, msg: Any) -> None:
        config = self.config
        outbound = addresses.as_list((settings.get(config, "endpoints") or {}).get(_OUTBOUND))
        if not outbound:
            raise ConfigError(
                f"endpoints[{_OUTBOUND!r}] is not set, so the message can't be seen to come by: "
                "set it to the address of the relay, or use --no-confirm"
            )
        prefix, environment = settings.get(config, "topic_prefix"), settings.get(config, "environment")
        whole, timeout = _wire.full_topic(prefix, environment, modname, topic), settings.get(config, "timeout")
        with Source(config, [(_OUTBOUND, address) for address in outbound], [whole]) as source:
            # One of the addresses is enough.
            until = time.monotonic() + timeout
            while not source.connected and time.monotonic() < until:
                source.wait(until - time.monotonic())
            msg_id = self._publish(modname, topic, msg)
            if not _arrives(source, msg_id, timeout):
                lost = PossiblyLost(1, ", ".join(outbound))
                lost.args = (f"the relay has taken it, but it did not come by at {', '.join(outbound)}",)
                raise lost


def _arrives(source: Source, msg_id: str, timeout: float) -> bool:
    """Wait for a message; whether it came."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        for delivery in source.poll(100):
            received = accepted(delivery, None, source.rejections)
            if received is not None and received[3].get("msg_id") == msg_id:
                return True
        source.wait(max(0.0, until - time.monotonic()))
    return False


def replay() -> Any:
    """Run the command: the entry point of ``fedmsg-dg-replay``."""
    return ReplayCommand().execute()
