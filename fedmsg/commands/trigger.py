# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-trigger``: runs a command for each message that matches."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

import fedmsg
from fedmsg._util.service import ServiceThread
from fedmsg._util.text import one_line
from fedmsg.commands import BaseCommand, Declaration, _filters, _subscribing
from fedmsg.commands._options import flag
from fedmsg.commands._waiting import Waiting
from fedmsg.config import settings
from fedmsg.exceptions import RefusedAtStart, WorkLeft

if TYPE_CHECKING:
    from fedmsg.stream.messages import Message
    from fedmsg.transport.zmq.source import Received

__all__ = ["TriggerCommand", "trigger"]

Envelope = dict[str, Any]

# What passes: too many processes, too little memory, too many open files.
_FOR_NOW = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_RETRY_DELAY_S = 1.0
_BASH = "/bin/bash"
# The system takes no more than 128 KiB in a variable.
_LONGEST_VARIABLE = 16 * 1024
# A variable can't hold the first; the others have no encoding.
_IMPOSSIBLE = re.compile("[\0\ud800-\udfff]")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{text!r} is no number of seconds")
    return seconds


def _number(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(f"{text!r} is below 0")
    return number


class _Worker(ServiceThread):
    """The thread that runs the command."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name)
        self._work = work

    def run(self) -> None:
        """Run the command until no matching message waits any more."""
        self.ready()
        self._work()


class _Progress:
    """Acknowledges the messages of a durable subscription, in order.

    The main thread, which may be interrupted at any instruction, shares no lock with the worker.
    """

    def __init__(self) -> None:
        # How many have matched, counted by the main thread, and how many of these are done, by the worker.
        self._matched = self._done = 0
        # The last one that did not match, and how many had matched before it.
        self._unmatched: tuple[int, Message] | None = None
        self._is_held = False

    def match(self) -> None:
        """Count a message that waits for the command."""
        self._matched += 1

    def pass_over(self, message: Message) -> None:
        """Acknowledge a message that does not match, when the command has been run for those before it."""
        self._unmatched = (self._matched, message)
        if self._done == self._matched and not self._is_held:
            message.ack()

    def done(self, message: Message, *, was_run: bool) -> None:
        """Acknowledge a message for which the command has ended; without that, nothing after it either."""
        self._is_held = self._is_held or not was_run
        if self._is_held:
            return
        self._done += 1
        message.ack()
        if (unmatched := self._unmatched) is not None and unmatched[0] == self._done:
            unmatched[1].ack()


class TriggerCommand(BaseCommand):
    """Run a command for each message that matches.

    The command is run by bash and gets the message as JSON on its standard input, its topic and id
    as FEDMSG_TOPIC and FEDMSG_MSG_ID in its environment. One runs at a time, in the order of the messages.
    With --durable none is left out: when the command has not ended for a message, the next run begins with that.

    Some examples::

        $ fedmsg-trigger --topic org.fedoraproject.prod.git.receive --command "git -C /srv/mirror pull"
        $ fedmsg-trigger --topic org.fedoraproject.prod.shop --command "jq -r .msg.order >> orders"
        $ fedmsg-trigger --topic org.fedoraproject.prod.shop --durable orders --command "jq -r .msg.order >> orders"
    """

    name = "fedmsg-trigger"
    daemonizable = True
    needs_bus = True
    unused_flags = frozenset({"post_init_sleep", "timeout", "zmq_linger"})
    extra_args: ClassVar[list[Declaration]] = [
        *_filters.FLAGS,
        *_subscribing.FLAGS,
        flag("--command", dest="command", metavar="COMMAND", help="What to run, a line for bash."),
        flag(
            "--wait-for",
            dest="wait_for",
            type=_seconds,
            metavar="SECONDS",
            default=0,
            help="Wait until so long no other message has matched, then run the command for each of them.",
        ),
        flag(
            "--max-queue-size",
            dest="max_queue_size",
            type=_number,
            metavar="N",
            default=0,
            help="Wait no longer when more than so many messages do; 0 sets no limit.",
        ),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._shell = _Shell()
        self._matches: Waiting[Received] | None = None
        self._progress = _Progress()
        # For which message the command runs, and for how many it can't be run any more.
        self._at: Envelope | None = None
        self._not_run = 0
        # Whether it stops, and how many messages of a durable subscription come again at the next run.
        self._is_stopping = False
        self._put_off = 0

    def run(self) -> None:
        """Run the command for each message until SIGTERM or SIGINT.

        Raises:
            UsageError: A flag makes no sense.
            ConfigError: The configuration can't work.
            RefusedAtStart: Messages are to be checked and can't be, or there is no bash.
            WorkLeft: Time was up before the command had been run for each message.
        """
        config = self.config
        if not config["command"]:
            self.log.error("You must provide a --command to run.")
            sys.exit(1)
        selection = _filters.Selection(config)
        begin = _subscribing.requested(config)
        self._shell.check()
        limit = settings.of(config).consumer_queue_limit
        waiting = Waiting["Received"](float(config["wait_for"] or 0), int(config["max_queue_size"] or 0), limit)
        with waiting as matches, contextlib.ExitStack() as stack:
            self._matches = matches
            context = stack.enter_context(
                fedmsg.core.FedMsgContext(**{**config, "mute": True, "name": "relay_inbound"})
            )
            if begin is None:
                messages: Iterator[Received] = context.tail_messages(topic=selection.prefix)
            else:
                # It stays open until the worker has ended, which acknowledges.
                messages = stack.enter_context(context.subscribe(selection.prefix, **begin, ack_mode="manual"))
            self._listen(messages, selection, matches)

    def _listen(self, messages: Iterator[Received], selection: _filters.Selection, matches: Waiting[Received]) -> None:
        """Receive messages in this thread, and run the command in another."""
        is_durable = bool(self.config.get("durable"))
        worker = _Worker(self.name, lambda: self._work(matches, is_durable=is_durable))
        try:
            worker.start()
            for message in messages:
                if selection.matches(message[3]):
                    self._progress.match()
                    matches.put(message)
                    self.log.debug("%d messages wait for the command", len(matches))
                elif is_durable:
                    self._progress.pass_over(cast("Message", message))
            matches.end()
            worker.join(threading.TIMEOUT_MAX)
        except BaseException:  # a signal, usually
            self._stop(worker, matches, settings.of(self.config).stop_timeout)
            raise
        finally:
            worker.abandon()

    def _stop(self, worker: _Worker, matches: Waiting[Received], limit: float) -> None:
        """Run the command for what waits, as far as time allows; what is durable is left to the next run.

        Raises:
            WorkLeft: It does not allow for all.
        """
        self._is_stopping = True
        matches.end()
        worker.join(0.8 * limit)
        left, at = matches.rest(), None
        if worker.alive:
            at = self._at
            self._shell.close()
            worker.join(0.1 * limit)
            self._shell.signal(signal.SIGKILL)
            worker.join(0.1 * limit)
        reasons = []
        if at is not None:
            reasons.append(f"the command was still running for {_name(at)}, and was ended")
        if left or self._not_run:
            reasons.append(f"it was not run for {len(left) + self._not_run} messages")
        if left:
            reasons.append(f"the first of which is {_name(left[0][3])}")
        if self._put_off:
            self.log.info("%d messages are left to the next run as %s", self._put_off, self.config["durable"])
        if reasons:
            raise WorkLeft(f"stopped with work left: {', '.join(reasons)}")

    # ---------------------------------------------------------------- in a thread of its own

    def _work(self, matches: Waiting[Received], *, is_durable: bool) -> None:
        while (message := matches.take()) is not None:
            if is_durable and self._is_stopping:
                self._put_off += 1
                continue
            self._at = envelope = message[3]
            not_run = self._not_run
            try:
                self.run_command(self.config["command"], envelope)
            except Exception:
                # Others build their commands on this class.
                self.log.exception("running the command for %s failed", _name(envelope))
            if is_durable:
                was_run = self._not_run == not_run and not self._shell.closed
                self._progress.done(cast("Message", message), was_run=was_run)
            self._at = None

    def run_command(self, command: str, message: Envelope) -> None:
        """Run the command for a message."""
        while True:
            try:
                status = self._shell.run(command, message)
                break
            except OSError as error:
                matches = self._matches
                will_do = error.errno in _FOR_NOW and not (matches is None or matches.ends_within(0))
                self.log.error(
                    "the command can't be run for %s%s: %s", _name(message), " yet" if will_do else "", error.strerror
                )
                if matches is None or not will_do:
                    self._not_run += 1
                    return
                matches.ends_within(_RETRY_DELAY_S)
        if status is None:
            self._not_run += 1
        elif status:
            self.log.warning("Command returned error code %d", status)


def _name(envelope: Envelope) -> str:
    """Name a message for the log, whatever its id is."""
    return one_line(f"the message {envelope.get('msg_id') or 'without an id'} on {envelope.get('topic')}")[:300]


class _Shell:
    """Runs the user's command, one at a time; the message is its data and never a part of its text."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: int | None = None
        self._closed = False

    @staticmethod
    def check() -> None:
        """Check that commands can be run.

        Raises:
            RefusedAtStart: There is no bash.
        """
        if not os.access(_BASH, os.X_OK):
            raise RefusedAtStart(f"{_BASH} is needed to run commands, and is not there: install bash")

    def run(self, command: str, envelope: Mapping[str, Any]) -> int | None:
        """Run a command of bash for a message, and return its status, or minus the number of the signal that ended it.

        None when it was not run because `close` came first.

        Raises:
            OSError: It can't be started.
        """
        environment = dict(os.environb)
        for name in ("topic", "msg_id"):
            environment[b"FEDMSG_" + name.upper().encode()] = _fitting(envelope.get(name))
        # A file, since the writer to a pipe waits for a command that doesn't read.
        with os.fdopen(os.memfd_create("message"), "w+b") as stdin, self._lock:
            if self._closed:
                return None
            stdin.write(fedmsg.encoding.dumps(envelope).encode())
            stdin.seek(0)
            # A session of its own: Ctrl-C at a terminal is for us, and whatever it starts can be ended.
            process = subprocess.Popen([_BASH, "-c", command], stdin=stdin, env=environment, start_new_session=True)
            self._running = process.pid
        # Looked at without taking it: until then no other process can get its number.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self._running = None
            return process.wait()

    def signal(self, number: int) -> None:
        """Send a signal to the command that runs and to what it has started."""
        with self._lock:
            if self._running is not None:
                os.killpg(self._running, number)

    @property
    def closed(self) -> bool:
        """Whether it runs no more commands, and has ended the one that ran."""
        return self._closed

    def close(self) -> None:
        """Run no more commands; ask the one that runs to end."""
        with self._lock:
            self._closed = True
        self.signal(signal.SIGTERM)


def _fitting(value: object) -> bytes:
    """Return what a variable can hold of a text from a stranger."""
    text = value[:_LONGEST_VARIABLE] if isinstance(value, str) else ""
    possible = _IMPOSSIBLE.sub(lambda match: ascii(match[0])[1:-1], text).encode()
    # No character is cut in the middle.
    return possible[:_LONGEST_VARIABLE].decode(errors="ignore").encode()


def trigger() -> Any:
    """Run the command: the entry point of ``fedmsg-trigger``."""
    return TriggerCommand().execute()
