# SPDX-License-Identifier: LGPL-2.1-or-later
"""The index of subscriptions: which members a topic concerns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedmsg.websocket.subscription_index import SubscriptionIndex

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
    assert [index.add("a", topic) for topic in ("x", "x*", "y", "")] == [1, 1, 2, 3]
    assert index.prefixes == ("",)


def test_index_with_many_topics_accepts_everything() -> None:
    index: SubscriptionIndex[str] = SubscriptionIndex()
    for number in range(65):
        index.add("a", f"{number}.")
    assert index.prefixes == ("",)
    index.remove("a")
    assert not index.prefixes
