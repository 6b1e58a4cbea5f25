# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishing through a broker: messages are confirmed, and sent again where a connection breaks before that."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial
from itertools import takewhile
from typing import Any

from fedmsg._util import plugins
from fedmsg.config import settings
from fedmsg.transport.amqp.format import Packed, packed
from fedmsg.transport.amqp.link import Link
from fedmsg.transport.amqp.problems import BrokerRefusal, silent
from fedmsg.transport.amqp.steps import Step, Steps
from fedmsg.transport.amqp.topology import check_exchange
from fedmsg.transport.amqp.urls import Server
from fedmsg.transport.base import ConfirmingSink
from fedmsg.transport.pending import Pending
from fedmsg.transport.sharing import Shared

__all__ = ["BrokerSink", "open_confirmed"]

# The settings that make two connections different ones.
_SETTINGS = ("broker_exchange", "broker_ca", "broker_cert", "broker_key")
# Seconds between two looks at a connection that confirms nothing; and how long the first one may do so before its
# messages are sent again on another one. A channel that begins to use a queue while its leader dies may hang for good,
# on a node that is well. Each further connection has twice the time, so that a slow broker is not sent ever more.
_LOOK_S = 0.5
_SILENCE_MIN_S = 3.0
# So many messages may be unconfirmed on a connection, whatever the callers' windows are.
_IN_FLIGHT_MAX = 5000
#: What stands for the position of a message that was confirmed: brokers have none.
NO_POSITION = 0


class BrokerSink(ConfirmingSink):
    """Sends messages to the exchange of a broker; threads share it.

    Args:
        config: The configuration.

    Raises:
        ConfigError: A URL or a file for TLS can't be used.
        MissingExtra: The library is not installed.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._closed = True  # until there is something to close
        self._publishing = _Publishing(str(settings.get(config, "broker_exchange")))
        self._link = self._publishing.link = Link(config, self._publishing, "publisher")
        self._link.start()
        self._closed = False

    def begin(
        self,
        topic: bytes,
        body: bytes,
        *,
        timeout: float,
        again: bool = False,
        notify: Callable[[], object] | None = None,
    ) -> Pending:
        """Send a message without waiting for its confirm; messages are sent in the order of the calls.

        Raises:
            MessageError: AMQP has no room for it.
        """
        message = packed(topic, body)
        pending = Pending(topic, body, timeout, again=again, notify=notify)
        self._publishing.put(pending, message)
        return pending

    def explain(self, pending: Pending) -> str:
        """Return why a message is not confirmed."""
        limit, problem = f"within {pending.timeout:g} s", self._link.problem
        if not pending.sent:
            reason = problem or f"no broker answers at {self._link.where}"
            return f"the message was not sent {limit}: {reason}"
        reason = problem or silent(self._link.where)
        return f"the message is not confirmed {limit}, and may be stored; send it again by republish: {reason}"

    @property
    def alive(self) -> bool:
        """Whether messages can be sent."""
        return self._link.alive

    def statistics(self) -> dict[str, Any]:
        """Return counts for status reports and metrics."""
        return {
            "node": self._link.address,
            "connected": int(self._link.server is not None),
            "connections": self._link.connections,
            **self._publishing.counts,
        }

    def release(self) -> None:
        """End one use of it; the last one closes it."""
        _shared.release(self)

    def _close(self) -> None:
        self._link.close()


class _Publishing:
    """What the thread does: it sends, and takes the confirms.

    Attributes:
        counts: ``sent``, ``confirmed``, ``resent``.
        link: The link; set by the owner.
    """

    link: Link

    def __init__(self, exchange: str) -> None:
        self._exchange = exchange
        self._client: Any = plugins.lazy("amqp")
        # A deque may be used by several threads at its ends.
        self._waiting: deque[tuple[Pending, Packed]] = deque()
        self._sent: dict[int, tuple[Pending, Packed]] = {}
        # Since when nothing is confirmed though something is to be, and whether that is looked at.
        self._silent_since = 0.0
        self._silence = _SILENCE_MIN_S
        self._is_looking = False
        self._tag = 0
        self._channel: Any = None
        self._is_woken = False
        self.counts: Counter[str] = Counter()

    def put(self, pending: Pending, message: Packed) -> None:
        """Take a message of any thread."""
        self._waiting.append((pending, message))
        if not self._is_woken:
            self._is_woken = True
            self.link.wake()

    # ---------------------------------------------------------------- in the thread

    def what(self) -> str:
        """Return what it works with."""
        return f"the exchange {self._exchange!r}"

    def steps(self, open_channel: Step, server: Server) -> Steps:
        """Open the channel for publishing."""
        yield from check_exchange(open_channel, self._exchange, server)
        channel = yield open_channel
        self._tag = 0
        yield partial(_confirming, channel, partial(self._confirmed, channel))
        self._channel = channel
        self._silent_since = time.monotonic()
        if not self._is_looking:
            self._is_looking = True
            self._look()

    def _look(self) -> None:
        """Drop a connection that confirms nothing."""
        now = time.monotonic()
        if not self._sent or self.link.is_blocked:
            self._silent_since = now
        elif self._channel is not None and now - self._silent_since > self._silence:
            problem = BrokerRefusal(silent(self.link.address, self._silence))
            self._silence *= 2
            self.link.drop(problem)
        self.link.later(_LOOK_S, self._look)

    def woken(self) -> None:
        """Send what waits."""
        # Before the look, so that what is put from now on wakes again.
        self._is_woken = False
        while self._waiting and len(self._sent) < _IN_FLIGHT_MAX and not self.link.is_blocked:
            pending, message = self._waiting.popleft()
            if pending.claim():
                self._publish(pending, message)

    def _publish(self, pending: Pending, message: Packed) -> None:
        self._tag += 1
        self._sent[self._tag] = (pending, message)
        self.counts["sent"] += 1
        self._channel.basic_publish(
            self._exchange, message.key, message.body, self._client.properties_of(message.message_id, message.headers)
        )

    def _confirmed(self, channel: Any, frame: Any) -> None:
        if channel is not self._channel:
            # A connection that was dropped may still answer, and its numbers are those of other messages by now.
            return
        method, sent = frame.method, self._sent
        is_ack = method.NAME == "Basic.Ack"
        if is_ack:
            self._silent_since, self._silence = time.monotonic(), _SILENCE_MIN_S
        if method.multiple:
            # They are in the order in which they were sent.
            tags = list(takewhile(lambda tag: tag <= method.delivery_tag, sent))
        else:
            tags = [method.delivery_tag] if method.delivery_tag in sent else []
        for tag in tags:
            found = sent.pop(tag)
            if is_ack:
                self.counts["confirmed"] += 1
                if not found[0].is_settled:
                    found[0].settle(NO_POSITION)
            else:
                # A queue could not take it: it is sent again as long as its caller waits.
                self._again([found])
        if self._waiting:
            self.woken()

    def _again(self, messages: list[tuple[Pending, Packed]]) -> None:
        """Put messages before those that wait, in their order, unless their callers wait no longer."""
        for one in reversed(messages):
            if not one[0].is_settled:
                self.counts["resent"] += 1
                self._waiting.appendleft(one)

    def lost(self, problem: BrokerRefusal) -> None:
        """Send what is not confirmed again on the next connection."""
        del problem
        self._channel = None
        unconfirmed = [self._sent[tag] for tag in sorted(self._sent)]
        self._sent.clear()
        self._again(unconfirmed)
        # Without a connection nothing is claimed, and callers that have gone must not be kept in memory.
        while self._waiting and self._waiting[0][0].is_settled:
            self._waiting.popleft()

    def finish(self) -> None:
        """Send what waits, for its callers have not abandoned it."""
        self.woken()


def _confirming(channel: Any, taken: Callable[[Any], None], done: Callable[[Any], None]) -> None:
    channel.confirm_delivery(taken, callback=done)


def open_confirmed(config: Mapping[str, Any]) -> BrokerSink:
    """Open what messages are sent to the broker through, or share what this process has.

    Raises:
        ConfigError: A URL or a file for TLS can't be used.
        MissingExtra: The library is not installed.
    """
    urls = settings.get(config, "broker_url")
    identity = (*([urls] if isinstance(urls, str) else urls), *(settings.get(config, name) for name in _SETTINGS))
    return _shared.open(identity, partial(BrokerSink, config))


_shared: Shared[BrokerSink] = Shared()
