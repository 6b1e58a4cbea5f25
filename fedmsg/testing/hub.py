# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs consumers and producers in a hub for one test, and catches what they publish."""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from fedmsg import _wire, crypto, encoding
from fedmsg._util.service import SafeCondition
from fedmsg.config import settings
from fedmsg.exceptions import RefusedAtStart, WorkLeft
from fedmsg.hub import Consumer, Hub, Outcome, PollingProducer, Producer
from fedmsg.hub.endpoints import Inbound
from fedmsg.testing.recording import Catcher, Failure, Failures
from fedmsg.testing.surroundings import configured, credentials
from fedmsg.transport.zmq import publisher

__all__ = ["HubRunner"]

# Under which name what runs in the hub publishes; the name in the configuration, as an administrator would write it.
_NAME = "fedmsg.testing"
_CERTIFICATE = "fedmsg.testing"

# What follows everything that was published before it.
_MARK = b"\x00fedmsg.testing"

# What is waited for notifies, but for an end before its time.
_LOOK_S = 0.5


class _CountingHub(Hub):
    """A hub that counts what it has dispatched; its durable consumers get what the test publishes."""

    reads_streams = False

    def __init__(self, changed: SafeCondition, *args: Any, **kw: Any) -> None:
        self.arrived = 0
        self._changed = changed
        super().__init__(*args, **kw)
        self._loop.on_dispatch = self._count

    def _count(self, messages: int) -> None:
        with self._changed.lock:
            self.arrived += messages
            self._changed.notify_all()


class HubRunner:
    """A hub in threads of this process, with a bus that the test scripts.

    ::

        with HubRunner(MyConsumer, config={"my.setting": 3}) as hub:
            hub.publish("org.example.dev.shop.order", {"id": 1017})
            hub.wait_until_handled()
            assert hub.sent == [("org.example.dev.shop.bill", {"order": 1017})]

    It runs what it is given and nothing else, in a configuration of its own: the files of this
    machine are not read, and ``config_key`` is true. Sockets and threads are real. While the
    block lasts, `fedmsg.publish` publishes into it, wherever in this process it is called by
    a thread that has no context yet.

    An exception that gets out of a method of yours is raised again in the test, by the next
    `wait_until_handled` or at the end of the block, with its traceback.

    Args:
        config: Settings, on top of the defaults.
        sign: Whether messages are signed and signatures checked; or the name of the certificate,
            such as ``shop.app1``, where a ``routing_policy`` has to name one. Needs
            ``fedmsg[crypto]``.
        reraise: Whether exceptions are raised again; `failures` has them in any case.
        timeout: Seconds for each wait, at most.

    Attributes:
        hub: The hub; after the end of the block, the one that ran.
        outcome: How the hub ended; None while it runs.

    Raises:
        RefusedAtStart: The hub can't start.
        Exception: What a constructor has raised.
    """

    def __init__(
        self,
        *classes: Any,
        config: Mapping[str, Any] | None = None,
        sign: bool | str = False,
        reraise: bool = True,
        timeout: float = 10.0,
    ) -> None:
        self._classes = classes
        self._settings = dict(config or {})
        self._certificate = sign if isinstance(sign, str) else _CERTIFICATE if sign else ""
        self._reraise = reraise
        self._timeout = timeout
        self._changed = SafeCondition()
        self._failures = Failures(self._changed)
        self._numbers = itertools.count(1)
        self._marks = itertools.count(1)
        self._expected = 0
        self._subscribed: set[bytes] = set()
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._closed = False
        self.hub: _CountingHub
        self.outcome: Outcome | None = None

    # ---------------------------------------------------------------- publishing

    def publish(self, topic: str, msg: Any = None, *, sign: bool | None = None, **fields: Any) -> dict[str, Any]:
        """Publish a message for the consumers, as another program on the bus.

        Args:
            topic: The full topic.
            msg: The content.
            sign: Whether to sign it; None is as the hub checks.
            fields: Fields of the envelope that are to differ from what would be there, such as ``username``.

        Raises:
            MessageError: It is no message.
        """
        now = time.time()
        envelope = {
            "i": next(self._numbers),
            "msg": {} if msg is None else msg,
            "msg_id": _wire.message_id(now),
            "timestamp": int(now),
            "topic": topic,
            "username": "tester",
            **fields,
        }
        if self._certificate and sign is not False:
            envelope = crypto.sign(envelope, **self.config)
        self.publish_envelope(envelope)
        return envelope

    def publish_envelope(self, envelope: Mapping[str, Any]) -> None:
        """Publish a whole envelope, such as one that was recorded on a real bus."""
        topic = envelope["topic"]
        self.publish_raw(topic, _wire.encode(envelope, topic))

    def publish_raw(self, topic: str | bytes, body: str | bytes) -> None:
        """Publish the frames of a topic and a body, in the form of a message or not.

        Raises:
            TimeoutError: The consumers have not subscribed.
        """
        frame = topic.encode() if isinstance(topic, str) else topic
        with self._lock:
            self._await_subscriptions(time.monotonic() + self._timeout)
            self._socket.send_multipart([frame, body.encode() if isinstance(body, str) else body])
            # ZeroMQ drops what no one has subscribed to.
            self._expected += any(frame.startswith(start) for start in self._subscribed)

    # ---------------------------------------------------------------- waiting

    def wait_until_handled(self, timeout: float | None = None) -> None:
        """Wait until everything that was published is handled, rejected or dropped, and `published` is complete.

        Args:
            timeout: Seconds; the runner's own when not given.

        Raises:
            TimeoutError: It takes too long; the text shows what the consumers are doing.
            Exception: What a method has raised, where it is to be raised again.
        """
        until = self._until(timeout)
        self._wait_until_received(until)
        for consumer in self.consumers:
            if isinstance(consumer, Consumer) and not consumer.incoming.join(max(0.0, until - time.monotonic())):
                what = f"{type(consumer).__name__} has not handled {consumer.incoming.unfinished} messages"
                raise TimeoutError(f"{what} in time{self._stacks()}")
        self._flush(until)
        self._raise_failure()

    def wait_until_published(self, count: int = 1, timeout: float | None = None) -> list[dict[str, Any]]:
        """Wait until so many messages have been published since the start by what runs in the hub; return them.

        Raises:
            TimeoutError: They have not been.
            Exception: What a method has raised, where it is to be raised again.
        """
        caught = self._catcher
        self._wait_for(
            lambda: len(caught.caught) >= count or self._failure_is_due(),
            self._until(timeout),
            f"{count} messages have not been published",
        )
        self._raise_failure()
        return self.published

    def wait_until_polled(self, count: int = 1, timeout: float | None = None) -> None:
        """Wait until each producer has polled so often since the start, and `published` is complete.

        Raises:
            TimeoutError: One has not.
            Exception: What a method has raised, where it is to be raised again.
        """
        until, polls = self._until(timeout), self._failures.polls
        polling = [producer for producer in self.producers if isinstance(producer, PollingProducer)]
        self._wait_for(
            lambda: all(polls[id(one)] >= count for one in polling) or self._failure_is_due(),
            until,
            f"not every producer has polled {count} times",
        )
        self._flush(until)
        self._raise_failure()

    # ---------------------------------------------------------------- how it went

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the hub."""
        return self.hub.config

    @property
    def consumers(self) -> list[Any]:
        """The consumers that run."""
        return self.hub.consumers

    @property
    def producers(self) -> list[Any]:
        """The producers that run."""
        return self.hub.producers

    @property
    def consumer(self) -> Any:
        """The consumer, where there is one."""
        (consumer,) = self.consumers
        return consumer

    @property
    def producer(self) -> Any:
        """The producer, where there is one."""
        (producer,) = self.producers
        return producer

    @property
    def published(self) -> list[dict[str, Any]]:
        """The envelopes that were published by what runs in the hub, in their order."""
        return [encoding.loads(body) for _, body in list(self._catcher.caught)]

    @property
    def sent(self) -> list[tuple[str, Any]]:
        """The topics and contents of these envelopes: what a test can know beforehand."""
        return [(envelope["topic"], envelope["msg"]) for envelope in self.published]

    @property
    def failures(self) -> list[Failure]:
        """The exceptions that have got out of methods of consumers and producers."""
        return self._failures.found

    @property
    def handled(self) -> int:
        """How many messages the consumers have handled well."""
        return self.hub.handled

    @property
    def rejected(self) -> dict[str, int]:
        """How many messages were rejected, by kind: ``{"invalid": 1}`` for one that is not validly signed."""
        return dict(self.hub.rejections.counts)

    # ---------------------------------------------------------------- start and end

    def start(self) -> HubRunner:
        """Start the hub; returns when the consumers hear what is published."""
        try:
            self._open(self._stack)
        except BaseException:
            self._stack.close()
            raise
        return self

    def _open(self, stack: contextlib.ExitStack) -> None:
        until = time.monotonic() + self._timeout
        # Paths, not ports: no other process can take them, or listen.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fedmsg-"))
        bus, publisher_address, relay_address = (f"ipc://{folder}/{name}" for name in ("bus", "out", "relay"))
        config = self._configuration({"test": [bus], _NAME: [publisher_address]}, relay_address)
        self._socket = stack.enter_context(zmq.Context()).socket(zmq.XPUB)
        stack.callback(self._socket.close)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(bus)
        self._catcher = Catcher(publisher_address, relay_address, self._changed)
        stack.callback(self._catcher.close)
        self._catcher.start()
        # The same ones that `fedmsg.publish` and the hub use, since a process shares them.
        self._publishers = [
            publisher.open_bound(config, _NAME, [publisher_address]),
            publisher.open_connected(config, "relay_inbound", [relay_address]),
        ]
        for one in self._publishers:
            stack.callback(publisher.close, one)
        self._flush(until)
        stack.enter_context(configured(config, self._own | self._settings))
        consumers = [self._failures.guarded(one) for one in self._classes if not _is_producer(one)]
        producers = [self._failures.guarded(one) for one in self._classes if _is_producer(one)]
        self.hub = _CountingHub(self._changed, config, consumers, producers, inbound=Inbound([("test", bus)]))
        if self.hub.failed:
            self._raise_failure(always=True)
            raise RefusedAtStart("; ".join(self.hub.failed))
        for one in (*self.consumers, *self.producers):
            self._failures.watch(one)
        self.hub.start()
        stack.callback(self._stop)
        with self._lock:
            self._await_subscriptions(until)

    def _configuration(self, endpoints: dict[str, list[str]], relay_address: str) -> dict[str, Any]:
        self._own: dict[str, Any] = {
            "environment": "dev",
            "sign_messages": False,
            "validate_signatures": False,
            # The catcher is about to connect, however busy this machine is.
            "post_init_sleep": self._timeout,
            "timeout": self._timeout,
            **{one.config_key: True for one in self._classes if getattr(one, "config_key", None)},
            **(credentials(self._certificate, _NAME) if self._certificate else {}),
        }
        config = {**settings.defaults(), **self._own, **self._settings}
        config |= {"endpoints": endpoints, "relay_inbound": [relay_address], "name": _NAME, "active": False}
        # For programs that set active and no name.
        config[_NAME] = [relay_address]
        config.setdefault("topic_prefix_re", settings.derive_topic_prefix_re(config))
        return settings.accept(config)

    def _await_subscriptions(self, until: float) -> None:
        """Wait until everything that the hub wants has been asked for."""
        while True:
            wanted = {prefix.encode() for prefix in self.hub._loop.subscriptions.prefixes}
            left = 0.0 if wanted <= self._subscribed else until - time.monotonic()
            if not self._socket.poll(max(0, int(left * 1000))):
                if wanted <= self._subscribed:
                    return
                raise TimeoutError(f"the hub has not subscribed to {sorted(wanted - self._subscribed)}")
            frame = self._socket.recv()
            (self._subscribed.add if frame[:1] == b"\x01" else self._subscribed.discard)(frame[1:])

    def _flush(self, until: float) -> None:
        """Wait until all that was published before has been caught."""
        marks = [(_MARK, str(next(self._marks)).encode()) for _ in self._publishers]
        for one, mark in zip(self._publishers, marks, strict=True):
            one.send(*mark)
        catcher = self._catcher
        self._wait_for(lambda: all(mark in catcher.caught for mark in marks), until, "what was sent has not come")
        catcher.take(marks)

    def _until(self, timeout: float | None) -> float:
        return time.monotonic() + (self._timeout if timeout is None else timeout)

    def _wait_until_received(self, until: float) -> None:
        self._wait_for(lambda: self.hub.arrived >= self._expected, until, "what was published has not been received")

    def _wait_for(self, condition: Callable[[], object], until: float, what: str) -> None:
        while True:
            left = until - time.monotonic()
            # Now and then it returns, to see whether there is anything left to wait for.
            if self._changed.wait_for(condition, min(left, _LOOK_S)):
                return
            if self._catcher.failure is not None:
                raise self._catcher.failure
            if left <= 0:
                raise TimeoutError(f"{what} in time{self._stacks()}")

    def _failure_is_due(self) -> bool:
        return self._reraise and self._failures.due

    def _raise_failure(self, *, always: bool = False) -> None:
        failure = self._failures.next()
        if failure is not None and (self._reraise or always):
            raise failure.error

    def _stacks(self) -> str:
        """Return the stacks of the threads of consumers and producers."""
        ran = [*self.consumers, *self.producers] if hasattr(self, "hub") else []
        names = tuple(f"fedmsg-{type(one).__name__}" for one in ran)
        frames = sys._current_frames()
        stacks = [
            f"\n{thread.name}:\n{''.join(traceback.format_stack(frames[thread.ident]))}"
            for thread in threading.enumerate()
            if thread.name.startswith(names) and thread.ident in frames
        ]
        return "".join(stacks)

    def _stop(self) -> None:
        self.outcome = self.hub.stop()
        # What was published at the last moment.
        with contextlib.suppress(TimeoutError):
            self._flush(time.monotonic() + self._timeout)

    def close(self) -> None:
        """Stop the hub, which handles what it has, and close everything; a second call does nothing.

        Raises:
            TimeoutError: The hub does not receive what was published.
            WorkLeft: A consumer has not come back, or messages were left that nothing keeps.
            Exception: What a method has raised, where it is to be raised again.
        """
        if self._closed:
            return
        self._closed = True
        with self._stack:
            # A hub that stops receives no more.
            self._wait_until_received(self._until(None))
        self._raise_failure()
        outcome = self.outcome
        if self._reraise and outcome is not None and (outcome.stuck or (outcome.left and not outcome.kept)):
            left = [f"{count} messages were not handled by {name}" for name, count in outcome.left.items()]
            raise WorkLeft("; ".join([*outcome.stuck, *left]))

    def __enter__(self) -> HubRunner:
        return self.start()

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self.close()
        else:
            # It explains more than what would be raised at the end.
            self._closed = True
            self._stack.close()


def _is_producer(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Producer)
