# SPDX-License-Identifier: LGPL-2.1-or-later
"""The index of subscriptions: which members a topic concerns."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from fedmsg.filters import SubscriptionIndex

topics = st.text("ab.*", max_size=6)


@given(st.lists(st.tuples(st.integers(0, 3), topics), max_size=12), st.text("ab.", max_size=8), st.booleans())
def test_index_finds_what_a_search_finds(added: list[tuple[int, str]], topic: str, strict: bool) -> None:
    index: SubscriptionIndex[int] = SubscriptionIndex(strict=strict)
    for member, wanted in added:
        index.add(member, wanted)
    index.remove(3)

    def matches(wanted: str) -> bool:
        start = wanted.replace("*", "")
        return topic == start or not start if strict else topic.startswith(start)

    expected = {member for member, wanted in added if member != 3 and matches(wanted)}
    for _ in range(2):  # the second answer comes from the cache
        assert set(index.matching(topic)) == expected
    assert topic.startswith(index.prefixes) or not expected
    assert bool(index.prefixes) == any(member != 3 for member, _ in added)


def test_index_counts_subscriptions_of_a_member_once() -> None:
    index: SubscriptionIndex[str] = SubscriptionIndex()
    assert [index.add("a", topic) for topic in ("x*", "x*", "y", "")] == [1, 1, 2, 3]
    assert index.prefixes == ("",)
    assert index.topics == {"x*": ["a"], "y": ["a"], "": ["a"]}


def test_index_with_many_topics_accepts_everything() -> None:
    index: SubscriptionIndex[str] = SubscriptionIndex(prefixes_max=64)
    for number in range(65):
        index.add("a", f"{number}.")
    assert index.prefixes == ("",)
    index.remove("a")
    assert index.prefixes == index.members == ()


def test_index_is_read_while_it_changes() -> None:
    index: SubscriptionIndex[str] = SubscriptionIndex()
    index.add("steady", "a")
    wrong: list[object] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            found = index.matching("a.b")
            if "steady" not in found or (index.prefixes and not "a.b".startswith(index.prefixes)):
                wrong.append(found)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(300):
        index.add(f"passing {number}", "a.b")
        assert f"passing {number}" in index.matching("a.b")
        index.remove(f"passing {number}")
        assert index.matching("a.b") == ("steady",)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_index_does_not_grow_with_topics_that_are_made_up() -> None:
    index: SubscriptionIndex[str] = SubscriptionIndex()
    index.add("every", "")
    for number in range(5000):
        assert index.matching(f"made.up.{number}") == ("every",)
    assert len(index._cache) <= 4096
