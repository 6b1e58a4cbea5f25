# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-tail``: shows what passes on the bus."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import fedmsg
from fedmsg.commands import BaseCommand, Declaration, _filters, _formats, _process, _subscribing
from fedmsg.commands._options import flag
from fedmsg.config import settings

if TYPE_CHECKING:
    from fedmsg.transport.zmq.source import Received

__all__ = ["TailCommand", "tail"]


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"{text!r} is not a number above 0")
    return number


class TailCommand(BaseCommand):
    """Watch all endpoints of the bus, and print each message.

    Without another format a message is printed as Python writes a dict. With --since, --after, --last, --first
    or --durable messages come from the stream of a relay: first what is kept, then what comes.

    Some examples::

        $ fedmsg-tail --really-pretty
        $ fedmsg-tail --topic org.fedoraproject.prod.bodhi --query msg.update.title
        $ fedmsg-tail --json | jq .msg
        $ fedmsg-tail --since 2h --until now
    """

    name = "fedmsg-tail"
    needs_bus = True
    prints_data = True
    unused_flags = frozenset({"post_init_sleep", "timeout", "zmq_linger"})
    extra_args: ClassVar[list[Declaration]] = [
        *_filters.FLAGS[:1],
        flag("--json", action="store_true", help="Print each message as one line of JSON, as it was received."),
        flag("--pretty", action="store_true", help="Print messages over several lines, without credentials."),
        flag("--really-pretty", action="store_true", help="Print messages as JSON, indented and in colour."),
        flag("--query", metavar="KEYS", help="Print only these parts of a message, such as msg.user,topic."),
        flag("--terse", action="store_true", help="Print what happened, in a line of English."),
        flag("--cowsay", action="store_true", help="Draw a cow that says it."),
        *_filters.FLAGS[1:],
        *_subscribing.FLAGS,
        _subscribing.UNTIL,
        flag("--count", type=_number, metavar="N", help="End after so many messages."),
        flag(
            "--color",
            choices=["auto", "always", "never"],
            default="auto",
            help="auto colours --really-pretty, and --terse on a terminal, unless NO_COLOR is set; always --json too.",
        ),
        flag(
            "--validate",
            dest="validate_signatures",
            action="store_true",
            default=False,
            help="Show only validly signed messages, whatever validate_signatures is.",
        ),
        flag(
            "--no-validate",
            dest="validate_signatures",
            action="store_false",
            default=False,
            help="Show messages unchecked, whatever validate_signatures is.",
        ),
    ]

    def run(self) -> None:
        """Print messages until enough are printed, or the command is stopped.

        Raises:
            UsageError: A flag asks for what can't be had.
            ConfigError: The configuration can't work.
            RefusedAtStart: Messages are to be checked, and can't be.
        """
        show = _formats.choose(self.config)
        selection = _filters.Selection(self.config)
        begin = _subscribing.requested(self.config)
        printed, count = 0, self.config["count"]
        _process.write_what_can_be_written()
        with fedmsg.core.FedMsgContext(**{**self.config, "mute": True, "name": "relay_inbound"}) as context:
            if begin is None:
                messages: Iterator[Received] = context.tail_messages(topic=selection.prefix)
            else:
                messages = _subscribing.messages(context, self.config, selection.prefix, begin)
            self._warn_when_unchecked()
            for _, _, _, envelope in messages:
                if selection.matches(envelope) and (text := show(envelope)):
                    _print(text)
                    printed += 1
                    if printed == count:
                        break

    def _warn_when_unchecked(self) -> None:
        """Warn a person at a terminal, not a script, that messages may be forged."""
        at_terminal = any(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))
        if at_terminal and not settings.of(self.config).validate_signatures:
            print(
                f"{self.name}: signatures are not checked; set validate_signatures to True in the configuration",
                file=sys.stderr,
            )


def _print(text: str) -> None:
    # Looked up each time: programs that embed the command exchange it.
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tail() -> Any:
    """Run the command: the entry point of ``fedmsg-tail``."""
    return TailCommand().execute()
