# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gaps in the numbers of messages: found, asked for, filled in order, or told of.

`GapFiller.steps` decides and does no input or output: it yields what to ask and what to
pass on, and is sent the answers. `GapFiller.fill` drives it with a socket of this thread;
asynchronous code drives it with a socket of its own::

    steps, answer = filler.steps(name, envelope), None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration:
            break
        if isinstance(step, Ask):
            # Frames as they came behind protocol.Question's head, or the error when none came.
            answer = await ask_server(filler.address(name), step.query, step.timeout)
        else:
            answer = None
            yield step
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack
from typing import Any, NamedTuple

from fedmsg import _wire, encoding
from fedmsg._util.ratelimit import RejectionLog
from fedmsg.config import settings
from fedmsg.exceptions import FedmsgError, MessageError, QueryError, ValidationError
from fedmsg.replay import client, protocol
from fedmsg.transport.zmq import sockets

__all__ = ["Ask", "GapFiller", "Message", "check_for_replay"]

log = logging.getLogger("fedmsg.replay")

#: An envelope, or what a consumer gets: a dict of ``topic`` and ``body``, which is the envelope.
Message = dict[str, Any]
#: The frames of an answer, or why there is none.
Answer = list[bytes] | FedmsgError

# So many filled gaps are remembered, to know messages that come a second time.
_REMEMBERED = 100
# A server that was silent again and again is waited for by this fraction of ``timeout``.
_LEAST_PATIENCE = 16
# How often a server is asked whether its numbers have begun anew, and how often repetition is told of; seconds.
_SELDOM = 10.0


class Ask(NamedTuple):
    """A question that the server of the name has to be asked.

    Attributes:
        query: The question.
        timeout: For how many seconds the answer may be waited for.
    """

    query: dict[str, Any]
    timeout: float


Steps = Generator["Ask | Message", "Answer | None", None]


class GapFiller:
    """Fills gaps in the numbers of services, for one receiver; used by one thread at a time.

    What is replayed comes in the order of its numbers and once. A server that is silent,
    refuses, or has lost a part of the gap costs one error in the log, and at most
    ``timeout`` seconds in which nothing is passed on.

    Args:
        config: The configuration: ``replay_endpoints``, ``timeout``.
        names: The services to look after, by their names in ``replay_endpoints``.
        numbers: The last number of each service, -1 before the first message. It is kept up
            to date; when it is given ``names`` is not needed.
        validate: Answers whether a replayed envelope may be passed on; None lets all pass.
        read: Turns a frame of an answer into an envelope, or raises MessageError.
        rejections: Where replayed messages that are refused are counted and told of.
        context: The ZeroMQ context for `fill`; that of the process when not given.
        counts: Where to count, when not in a Counter of its own.

    Attributes:
        numbers: The last number of each service.
        counts: ``asked`` (questions), ``replayed`` (messages), ``lost`` (messages that could
            not be had any more), ``failed`` (gaps with such losses), ``repeated`` (messages
            that came a second time).
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        names: Iterable[str] = (),
        *,
        numbers: MutableMapping[str, int] | None = None,
        validate: Callable[[dict[str, Any]], bool] | None = None,
        read: Callable[[bytes], dict[str, Any]] = _wire.parse_stored,
        rejections: RejectionLog | None = None,
        context: sockets.Context | None = None,
        counts: Counter[str] | None = None,
    ) -> None:
        self.numbers = numbers if numbers is not None else dict.fromkeys(names, -1)
        self.counts: Counter[str] = counts if counts is not None else Counter()
        self._config = config
        self._timeout = float(settings.get(config, "timeout"))
        self._validate = validate
        self._read = read
        self._rejections = rejections if rejections is not None else RejectionLog(log)
        self._context = context
        # How long each server is waited for: less each time that it is silent, so that one that
        # has gone does not hold up a stream with many gaps.
        self._patience: dict[str, float] = {}
        self._filled: dict[str, deque[tuple[int, int]]] = {}
        self._next_check: dict[str, float] = {}

    def address(self, name: str) -> str:
        """Give the address of the replay server of a service.

        Raises:
            MissingReplayEndpoint: There is none.
        """
        return client.address_of(name, self._config)

    def fill(self, name: str, message: Message) -> Iterator[Message]:
        """Take a received message and give what is to be passed on now, asking for what is missing.

        Args:
            name: The service that it came from.
            message: The message.

        Returns:
            An iterator over the messages that were missing, and the message itself unless it is a repetition.
        """
        last = self.numbers.get(name)
        if last is not None and last >= 0 and _number(message) == last + 1:
            # What nearly all are.
            self.numbers[name] = last + 1
            return iter((message,))
        return self._drive(name, message)

    def _drive(self, name: str, message: Message) -> Iterator[Message]:
        steps = self.steps(name, message)
        answer: Answer | None = None
        with ExitStack() as stack:
            connection: client.Client | None = None
            while True:
                try:
                    step = steps.send(answer)
                except StopIteration:
                    return
                answer = None
                if not isinstance(step, Ask):
                    yield step
                    continue
                try:
                    if connection is None:
                        connection = stack.enter_context(client.Client(name, self._config, self._context))
                    answer = connection.ask(step.query, step.timeout)
                except FedmsgError as error:
                    answer = error

    def steps(self, name: str, message: Message) -> Steps:
        """Decide what to do about a received message, without any input or output.

        Args:
            name: The service that it came from.
            message: The message.

        Yields:
            An `Ask`, whose answer is to be sent back: frames, or an error; or a message to
            pass on, for which None is to be sent back.
        """
        number = _number(message)
        last = self.numbers.get(name)
        if number is None or last is None:
            yield message
            return
        if 0 <= last < number - 1:
            yield from self._heal(name, last + 1, number - 1, wrapped=_is_wrapped(message))
        elif number <= last and not (yield from self._begins_anew(name, number, last)):
            self.counts["repeated"] += 1
            return
        self.numbers[name] = number
        yield message

    # ---------------------------------------------------------------- a gap

    def _heal(self, name: str, first: int, last: int, *, wrapped: bool) -> Steps:
        """Ask for all numbers of a gap and pass on what comes."""
        walk = protocol.Walk(first, last)
        self._filled.setdefault(name, deque(maxlen=_REMEMBERED)).append((first, last))
        come, reason, listed = 0, "it no longer has them", False
        deadline = self._deadline(name)
        while (part := walk.part) is not None:
            frames: Answer | None = yield self._ask(part, deadline, listed=listed)
            try:
                messages = self._messages(name, part, frames)
            except QueryError as error:
                if protocol.NO_MATCH in str(error):
                    walk.step(found=False)
                elif protocol.ASK_FOR_LESS in str(error) and walk.narrow():
                    pass
                elif not listed and protocol.ASK_FOR_LESS not in str(error):
                    # fedmsg 1.x refuses ranges, and answers the same as a list.
                    walk, listed = protocol.Walk(walk.first, last, grows=False), True
                else:
                    reason = str(error)
                    break
                continue
            except FedmsgError as error:
                self._patience[name] = max(self._patience.get(name, self._timeout) / 2, self._timeout / _LEAST_PATIENCE)
                reason = str(error)
                break
            self._patience.pop(name, None)
            for envelope in messages:
                self.numbers[name] = envelope["seq_id"]
                self.counts["replayed"] += 1
                come += 1
                yield {"topic": envelope.get("topic"), "body": envelope} if wrapped else envelope
            # Only time in which nothing was passed on counts.
            deadline = self._deadline(name)
            walk.step(found=True)
        if lost := last - first + 1 - come:
            self.counts["lost"] += lost
            self.counts["failed"] += 1
            log.error(
                "%d messages of %s are lost, of the numbers %d to %d which the replay server was asked for: %s",
                lost, name, first, last, ascii(reason)[1:-1][:300],
            )  # fmt: skip

    def _deadline(self, name: str) -> float:
        return time.monotonic() + self._patience.get(name, self._timeout)

    def _ask(self, part: tuple[int, int], deadline: float, *, listed: bool) -> Ask:
        self.counts["asked"] += 1
        query = {"seq_ids": [*range(part[0], part[1] + 1)]} if listed else {"seq_id_range": [*part]}
        return Ask(query, max(0.0, deadline - time.monotonic()))

    def _messages(self, name: str, part: tuple[int, int], answer: Answer | None) -> Iterator[dict[str, Any]]:
        """Give the messages of an answer one after the other, but for those that are to be refused.

        Raises:
            FedmsgError: At the call: there is none.
        """
        if answer is None or isinstance(answer, FedmsgError):
            raise answer or QueryError("there is no answer")
        return self._accepted(name, part, protocol.check(answer))

    def _accepted(self, name: str, part: tuple[int, int], frames: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        before, last = part[0] - 1, part[1]
        for frame in frames:
            try:
                envelope = self._read(frame)
                number = envelope.get("seq_id")
                if type(number) is not int or not before < number <= last:
                    raise MessageError(f"it has the number {number!r}, which was not asked for", "replay")
                if self._validate is not None and not self._validate(envelope):
                    raise ValidationError(envelope)
            except MessageError as error:
                self._rejections.add(f"the replay server of {name}", error)
            else:
                before = number
                yield envelope

    # ---------------------------------------------------------------- a number that is not newer

    def _begins_anew(self, name: str, number: int, last: int) -> Generator[Ask, Answer | None, bool]:
        """Whether the numbers of a service have begun anew, so that a low one is a new one.

        A repetition is what comes late of a gap that was filled. Where a number can't be
        explained so, the server is asked, now and then, whether it still has the last one:
        a store that was lost and made anew has not, and listeners would leave out all that
        comes from there, for ever.
        """
        if any(start <= number <= end for start, end in self._filled.get(name, ())):
            return False
        now = time.monotonic()
        if number == last or now < self._next_check.get(name, 0.0):
            return False
        self._next_check[name] = now + _SELDOM
        self.counts["asked"] += 1
        answer = yield Ask({"seq_id": last}, self._timeout)
        if _has_nothing(answer):
            log.error(
                "the replay server of %s no longer has number %d, and number %d has come: "
                "its numbers have begun anew, and some messages may be lost", name, last, number,
            )  # fmt: skip
            self._filled.pop(name, None)
            return True
        log.warning("message number %d of %s has come after number %d: left out as a repetition", number, name, last)
        return False


def _has_nothing(answer: Answer | None) -> bool:
    """Whether a server has answered that there is no such message."""
    if not isinstance(answer, list):
        return False
    try:
        protocol.check(answer)
    except QueryError as error:
        return protocol.NO_MATCH in str(error)
    return False


def _is_wrapped(message: Message) -> bool:
    return "msg" not in message and "seq_id" not in message and isinstance(message.get("body"), dict)


def _number(message: Message) -> int | None:
    number = (message["body"] if _is_wrapped(message) else message).get("seq_id")
    return number if type(number) is int and number >= 0 else None


def _read_anything(frame: bytes) -> dict[str, Any]:
    """Read a replayed message as `check_for_replay` hands it on, for its caller to check."""
    try:
        message = encoding.loads(frame)
    except ValueError as error:
        raise MessageError(f"it is not JSON: {error}", "json") from error
    if not isinstance(message, dict):
        raise MessageError("it is not a JSON object", "json")
    return message


def check_for_replay(
    name: str,
    names_to_seq_id: MutableMapping[str, int],
    msg: Message,
    config: Mapping[str, Any],
    context: sockets.Context | None = None,
    *,
    validate: Callable[[dict[str, Any]], bool] | None = None,
    counts: Counter[str] | None = None,
) -> list[Message]:
    """Give a received message together with those that are missing before it.

    Threads may call it at the same time, each with a ``names_to_seq_id`` of its own. Of many
    missing messages `GapFiller.fill` gives one after the other instead of a list.

    Args:
        name: The service that it came from.
        names_to_seq_id: The last number of each service, -1 before the first; kept up to date.
        msg: The message: an envelope, or a dict of ``topic`` and ``body``.
        config: The configuration: ``replay_endpoints``, ``timeout``.
        context: The ZeroMQ context to use; that of the process when not given.
        validate: Answers whether a replayed envelope may be passed on. Without it they come
            as the server has sent them, and the caller checks them like the message itself.
        counts: Where to count, see `GapFiller`.

    Returns:
        The messages in order; none when it is not newer than the last one. What is missing
        and can't be had is one error in the log.
    """
    number, last = _number(msg), names_to_seq_id.get(name)
    if number is None or last is None:
        return [msg]
    if last >= 0 and number <= last:
        if counts is not None:
            counts["repeated"] += 1
        return []
    if last < 0 or number == last + 1:
        names_to_seq_id[name] = number
        return [msg]
    read = _read_anything if validate is None else _wire.parse_stored
    filler = GapFiller(
        config, numbers=names_to_seq_id, validate=validate, read=read, context=context, counts=counts
    )  # fmt: skip
    return list(filler.fill(name, msg))
