# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-logger``: publishes messages of shell scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

from fedmsg._util.text import as_utf8
from fedmsg.commands import BaseCommand, Declaration, _process, _relayed
from fedmsg.commands._options import flag
from fedmsg.exceptions import FedmsgError, UsageError, WorkLeft

__all__ = ["LoggerCommand", "logger"]


class LoggerCommand(BaseCommand):
    """Publish a message, or every line of standard input as a message of its own.

    Messages are passed on by fedmsg-relay; when none runs where it is configured, that
    is an error (status 3) and nothing is sent. With --confirm it ends when a relay that has a
    store has confirmed that everything is on disk.

    Some examples::

        $ fedmsg-logger --message "The backup is done."
        $ echo "Pushed to main." | fedmsg-logger --modname git --topic repo.update
        $ echo '{"a": 1}' | fedmsg-logger --json-input
        $ fedmsg-logger --message '{"a": 1}' --json-input
    """

    name = "fedmsg-logger"
    needs_bus = True
    unused_flags = frozenset({"post_init_sleep"})
    extra_args: ClassVar[list[Declaration]] = [
        flag(
            "--message",
            dest="logger_message",
            metavar="TEXT",
            help="What to publish; without it, standard input is read.",
        ),
        flag("--json-input", action="store_true", help="Take the input as JSON: one document, or one in each line."),
        flag("--topic", default="log", help="The end of the topic; default: %(default)s."),
        flag("--modname", default="logger", help="The part of the topic before it; default: %(default)s."),
        flag(
            "--cert-prefix",
            metavar="PREFIX",
            default="shell",
            help="Which certificate to sign with: that of PREFIX.<this host>; default: %(default)s.",
        ),
        _relayed.CONFIRM,
    ]

    def run(self) -> None:
        """Publish the message, or what stands on standard input.

        Raises:
            UsageError: The input can't be read, is not JSON, or is not fit to be sent.
            NotListening: There is no relay.
            NotConfirmed: With --confirm: a message was not confirmed in time.
            RejectedByRelay: With --confirm: the relay has rejected one.
            PossiblyLost: The connection to it broke.
            WorkLeft: A signal came before a message was sent.
        """
        try:
            self._publish()
        except KeyboardInterrupt:
            # One that is stopped between two lines has sent what there was to send.
            if self.config["logger_message"]:
                raise WorkLeft("stopped before the message was sent") from None
            raise

    def _publish(self) -> None:
        config, sent = self.config, 0
        topic, modname = as_utf8(config["topic"]), as_utf8(config["modname"])
        with _relayed.publishing(config, topic=topic, modname=modname) as publish:
            try:
                for msg, where in self._messages():
                    publish(msg, where)
                    sent += 1
            except FedmsgError as error:
                if sent and not config["publish_confirm"]:
                    error.args = (f"{error}; {sent} were handed over before it",)
                raise

    def _messages(self) -> Iterator[tuple[Any, str]]:
        """Yield what to publish, each with the place that it came from."""
        text, is_json = self.config["logger_message"], self.config["json_input"]
        if text:
            text = as_utf8(text)
            yield (_parse(text, "--message") if is_json else {"log": text}), "the message"
        elif is_json:
            yield from _documents(_process.input_lines(self.log))
        else:
            for number, line in enumerate(_process.input_lines(self.log), 1):
                yield {"log": line.strip()}, f"line {number}"


def _documents(lines: Iterator[str]) -> Iterator[tuple[Any, str]]:
    """Find out by the first line whether there is a document in each line, or one in all of them.

    So lines are published as they come, and a document may be indented.
    """
    number, first = next(((number, line) for number, line in enumerate(lines, 1) if not line.isspace()), (0, ""))
    if not number:
        raise UsageError("--json-input: standard input is empty")
    try:
        msg = json.loads(first)
    except (ValueError, RecursionError):
        # With the empty lines above it, an error has the right line number.
        text = "\n" * (number - 1) + first + "".join(lines)
        yield _parse(text, "standard input"), "standard input"
        return
    yield msg, f"line {number}"
    for later, line in enumerate(lines, number + 1):
        if not line.isspace():
            yield _parse(line, f"line {later}"), f"line {later}"


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}") from error


def logger() -> Any:
    """Run the command: the entry point of ``fedmsg-logger``."""
    return LoggerCommand().execute()
