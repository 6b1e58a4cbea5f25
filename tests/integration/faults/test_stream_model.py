# SPDX-License-Identifier: LGPL-2.1-or-later
"""A bus with a stream against a list: publishers, a relay that restarts, retention, and readers that begin anywhere."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from fedmsg.exceptions import PositionGone
from fedmsg.stream.log import StreamLog
from fedmsg.stream.messages import MessageStream
from fedmsg.testing import wait_until
from tests.stream_relays import StreamBus, sqlite_url

TOPICS = ["a", "b", "bc"]
FILTERS = ["", "a", "b", "bc", "none"]
PREFIX = "org.fedoraproject.dev.m."


class Reader:
    """A subscription, and what it is to have next.

    Args:
        stream: The subscription.
        topic: What the topics of its messages begin with.
        position: The position before the first one that it is to have.
        durable: Its name, if it has one.
    """

    def __init__(self, stream: MessageStream, topic: str, position: int, durable: str | None) -> None:
        self.stream = stream
        self.topic = topic
        self.position = position
        self.durable = durable


class BusAndList(RuleBasedStateMachine):
    """A bus, and a list of what its stream should have."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="fedmsg-stream-"))
        self.topics: list[str] = []
        self.ids: list[str] = []
        self.removed = 0
        self.readers: list[Reader] = []
        self.cursors: dict[str, int] = {}

    @initialize()
    def open(self) -> None:
        self.bus = StreamBus(sqlite_url(self.folder), timeout=30, publish_window=5, stream_credit=4)
        self.bus.start_relay()
        self.publishers = [self.bus.confirming() for _ in range(2)]
        self.context = self.bus.context(mute=True)

    def teardown(self) -> None:
        for reader in self.readers:
            reader.stream.close()
        for publisher in (*self.publishers, self.context):
            publisher.destroy()
        self.bus.close()
        shutil.rmtree(self.folder)

    # ---------------------------------------------------------------- publishing

    def _keep(self, envelope: dict[str, Any]) -> dict[str, Any]:
        self.ids.append(envelope["msg_id"])
        return envelope

    @rule(which=st.integers(0, 1), topics=st.lists(st.sampled_from(TOPICS), min_size=1, max_size=12))
    def publish(self, which: int, topics: list[str]) -> None:
        first = len(self.topics)
        found = self.publishers[which].publish_many(
            {"topic": topic, "modname": "m", "msg": {"n": first + number}, "pre_fire_hook": self._keep}
            for number, topic in enumerate(topics, 1)
        )
        assert list(found) == list(range(first + 1, first + len(topics) + 1))
        self.topics += topics

    # ---------------------------------------------------------------- relay and retention

    @rule(kill=st.booleans())
    def restart(self, kill: bool) -> None:
        if kill:
            self.bus.kill_relay()
        else:
            assert self.bus.stop_relay() == 0
        self.bus.start_relay()

    @rule(keep=st.integers(1, 20))
    def remove(self, keep: int) -> None:
        with StreamLog(self.bus.url) as log:
            while log.prune(age=0, max_bytes=0, messages=keep):
                pass
        self.removed = max(self.removed, len(self.topics) - keep)

    # ---------------------------------------------------------------- reading

    def _open(self, topic: str, position: int, durable: str | None = None, **begin: Any) -> None:
        stream = self.context.subscribe(PREFIX + topic, durable=durable, ack_mode="manual", **begin)
        reader = Reader(stream, topic, position, durable)
        self.readers.append(reader)
        # So that new messages are new to it.
        wait_until(lambda: stream.position is not None)

    @rule(topic=st.sampled_from(FILTERS))
    def subscribe_to_new_messages(self, topic: str) -> None:
        self._open(topic, len(self.topics))

    @rule(topic=st.sampled_from(FILTERS), share=st.floats(0, 1))
    def subscribe_after_a_position(self, topic: str, share: float) -> None:
        position = int(share * len(self.topics))
        self._open(topic, position, after=position)

    @precondition(lambda self: len(self.topics) > self.removed)
    @rule(topic=st.sampled_from(FILTERS), share=st.floats(0, 1))
    def subscribe_after_a_message(self, topic: str, share: float) -> None:
        position = min(len(self.topics), self.removed + 1 + int(share * (len(self.topics) - self.removed)))
        self._open(topic, position, after=self.ids[position - 1])

    @rule(topic=st.sampled_from(FILTERS), count=st.integers(0, 30))
    def subscribe_to_the_last(self, topic: str, count: int) -> None:
        stream = self.context.subscribe(PREFIX + topic, last=count, ack_mode="manual")
        wait_until(lambda: stream.position is not None)
        kept = [p for p in range(self.removed + 1, len(self.topics) + 1) if self._fits(topic, p)]
        position = kept[-count] - 1 if 0 < count <= len(kept) else self.removed if count else len(self.topics)
        self.readers.append(Reader(stream, topic, position, None))

    @rule(name=st.sampled_from(["x", "y"]), topic=st.sampled_from(FILTERS))
    def subscribe_with_a_name(self, name: str, topic: str) -> None:
        if not any(reader.durable == name for reader in self.readers):
            self._open(topic, self.cursors.get(name, 0), name, after="first")
            self.cursors.setdefault(name, 0)

    @rule(more=st.integers(1, 5))
    def subscribe_beyond_the_end(self, more: int) -> None:
        with self.context.subscribe(after=len(self.topics) + more) as stream, pytest.raises(PositionGone):
            stream.read(20)

    def _fits(self, topic: str, position: int) -> bool:
        return self.topics[position - 1].startswith(topic)

    def _stored_cursor(self, name: str | None) -> int:
        assert name is not None
        with StreamLog(self.bus.url) as log:
            cursor = log.cursor(name)
            return 0 if cursor is None else cursor.position

    @precondition(lambda self: self.readers)
    @rule(which=st.integers(0, 1000), count=st.integers(1, 40), acknowledges=st.booleans(), closes=st.booleans())
    def read(self, which: int, count: int, acknowledges: bool, closes: bool) -> None:
        reader = self.readers[which % len(self.readers)]
        message = None
        for _ in range(count):
            wanted = [p for p in range(reader.position + 1, len(self.topics) + 1) if self._fits(reader.topic, p)]
            # What was on its way when it was removed may come, or may not.
            if not [position for position in wanted if position > self.removed]:
                break
            message = reader.stream.read(20)
            assert message is not None
            assert message.position is not None
            assert message.position in wanted
            assert all(position <= self.removed for position in wanted if position < message.position)
            assert message[2] == PREFIX + self.topics[message.position - 1]
            assert message[3]["msg"] == {"n": message.position}
            assert message[3]["msg_id"] == self.ids[message.position - 1]
            reader.position = message.position
        if message is not None and acknowledges:
            message.ack()
            if reader.durable and message.position is not None:
                self.cursors[reader.durable] = message.position
                # Soon it is on disk; before that a kill of the relay may lose it, and messages come twice.
                wait_until(lambda: self._stored_cursor(reader.durable) == message.position)
        if closes:
            reader.stream.close()
            self.readers.remove(reader)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_bus_has_what_the_list_has(full_size: bool) -> None:
    run_state_machine_as_test(
        BusAndList,
        settings=settings(
            max_examples=300 if full_size else 4,
            stateful_step_count=40 if full_size else 25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
