# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stream against a list: whatever is appended, removed and opened again, both have the same."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fedmsg.stream.log import Cursor, Entry, Incoming, StreamLog
from tests.unit.stream.messages import body, everything, positions

# So few that messages leave the memory.
MEMORY = 8
TOPICS = [b"a.b", b"a.c", b"a.bc", b"", b"\xff\xff", b"\xff\xfe", b"z"]
# With an id of its own, with the id of another one, without an id, no JSON.
BODIES = [
    *(body(number) for number in range(12)), body(20, msg_id="one"), body(21, msg_id="one"), body(22, msg_id=None),
    b"", b"\x00\xff",
]  # fmt: skip

messages = st.builds(
    Incoming,
    topic=st.sampled_from(TOPICS),
    body=st.sampled_from(BODIES),
    via=st.sampled_from([(), ("s1",), ("s1", "s2")]),
    again=st.booleans(),
)


class StreamAndList(RuleBasedStateMachine):
    """A stream, and a list of what it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="fedmsg-stream-"))
        self.model: list[Entry] = []
        self.removed = 0
        self.named: dict[str, Cursor] = {}

    @initialize()
    def open(self) -> None:
        self.stream = StreamLog(f"sqlite:///{self.folder}/stream.db", memory=MEMORY)
        self.id = self.stream.stream

    @rule(batch=st.lists(messages, max_size=12))
    def append(self, batch: list[Incoming]) -> None:
        for message, stored in zip(batch, self.stream.append(batch), strict=True):
            same = [one.position for one in self.model if (one.topic, one.body) == message[:2]]
            if stored.is_new:
                assert stored.position == len(self.model) + 1
                # Only one that is no longer in memory may be stored twice.
                assert not same or (not message.again and same[-1] <= len(self.model) - MEMORY)
                self.model.append(Entry(stored.position, 0.0, *message[:3]))
            else:
                assert stored.position in same

    @rule()
    def open_again(self) -> None:
        self.stream.close()
        self.open()
        assert self.stream.stream == self.id

    @rule(keep=st.integers(1, 30), rows=st.integers(1, 5))
    def prune_by_number(self, keep: int, rows: int) -> None:
        while removed := self.stream.prune(age=0, max_bytes=0, messages=keep, rows=rows):
            assert removed <= rows
        self.removed = max(self.removed, len(self.model) - keep)

    @rule(keep=st.integers(1, 3000), rows=st.integers(1, 5))
    def prune_by_bytes(self, keep: int, rows: int) -> None:
        while self.stream.prune(age=0, max_bytes=keep, messages=0, rows=rows):
            pass
        while self.size() > keep:
            self.removed += 1

    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        until = data.draw(st.integers(0, len(self.model) + 2))
        expected = max(0, min(until, len(self.model)) - self.removed)
        assert self.stream.trim(until) == expected
        self.removed += expected

    @rule(data=st.data(), rows=st.integers(1, 7), max_bytes=st.integers(1, 2000))
    def read(self, data: st.DataObject, rows: int, max_bytes: int) -> None:
        after = data.draw(st.integers(0, len(self.model) + 1))
        prefixes = data.draw(st.lists(st.sampled_from([*TOPICS, b"a."]), max_size=2))
        found = everything(self.stream, after, prefixes, rows=rows, max_bytes=max_bytes)
        wanted = [
            entry for entry in self.kept()
            if entry.position > after and (not prefixes or entry.topic.startswith(tuple(prefixes)))
        ]  # fmt: skip
        assert [entry._replace(stored=0.0) for entry in found] == wanted
        chunk = self.stream.read(after, prefixes, rows=rows, max_bytes=max_bytes)
        assert len(chunk.entries) <= rows
        sizes = [len(entry.topic) + len(entry.body) for entry in chunk.entries]
        assert len(sizes) <= 1 or sum(sizes) <= max_bytes

    @rule(name=st.sampled_from("abc"), position=st.integers(0, 50))
    def save_cursor(self, name: str, position: int) -> None:
        self.named[name] = Cursor(name, position, 1.5, "tcp://127.0.0.1:1")
        self.stream.save_cursors([self.named[name]])

    @rule(name=st.sampled_from("abc"))
    def remove_cursor(self, name: str) -> None:
        assert self.stream.remove_cursor(name) == (self.named.pop(name, None) is not None)

    @precondition(lambda self: self.model)
    @rule()
    def find(self) -> None:
        for number in range(12):
            same = [one.position for one in self.model if one.body == BODIES[number]]
            found = self.stream.find(f"2026-{number:08}-aaaa-4aaa-8aaa-aaaaaaaaaaaa")
            assert found == (same[0] if same else None)

    def kept(self) -> list[Entry]:
        return self.model[self.removed :]

    def size(self) -> int:
        return sum(len(entry.topic) + len(entry.body) for entry in self.kept())

    @invariant()
    def counts_are_right(self) -> None:
        expected = {
            "first": self.removed + 1, "newest": len(self.model), "messages": len(self.kept()), "bytes": self.size(),
        }  # fmt: skip
        assert expected.items() <= self.stream.statistics().items()
        assert (self.stream.first(), self.stream.newest()) == (self.removed + 1, len(self.model))
        assert self.stream.cursors() == [self.named[name] for name in sorted(self.named)]

    @invariant()
    def positions_have_no_gaps(self) -> None:
        entries = everything(self.stream)
        assert positions(entries) == [*range(self.removed + 1, len(self.model) + 1)]
        times = [entry.stored for entry in entries]
        assert times == sorted(times)

    def teardown(self) -> None:
        self.stream.close()
        shutil.rmtree(self.folder)


TestStreamAndList = StreamAndList.TestCase
TestStreamAndList.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
