# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a subscription has received: it is taken in order, and its credit goes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fedmsg._util.service import Waker
from fedmsg.stream.inbox import Inbox, StreamDelivery


@pytest.fixture
def waker() -> Iterator[Waker]:
    with Waker() as waker:
        yield waker


@pytest.fixture
def inbox(waker: Waker) -> Iterator[Inbox]:
    with Inbox((5, 1000), waker) as inbox:
        yield inbox


def deliveries(inbox: Inbox, first: int, last: int) -> list[StreamDelivery]:
    return [StreamDelivery(inbox, "s", "tcp://a:1", number, 1.0, b"t", b"body") for number in range(first, last + 1)]


def test_take_returns_what_has_arrived_at_most_so_many(inbox: Inbox, waker: Waker) -> None:
    some = deliveries(inbox, 1, 4)
    inbox.put(some)
    assert (inbox.take(3), inbox.waiting()) == (some[:3], (1, 5))
    assert (inbox.take(3), inbox.waiting()) == (some[3:], (0, 0))
    assert (inbox.take(3), inbox.is_empty) == ([], True)
    # That was less than half of the window.
    assert not waker.clear()


def test_take_of_half_a_window_has_the_credit_returned(inbox: Inbox, waker: Waker) -> None:
    inbox.put(deliveries(inbox, 1, 10))
    inbox.take(4)
    assert not waker.clear()
    inbox.take(1)
    assert waker.clear()
    assert (inbox.returned(), inbox.returned()) == ((5, 25), (0, 0))


def test_take_does_not_wait_for_a_thread_that_has_ended(inbox: Inbox) -> None:
    some = deliveries(inbox, 1, 20)
    inbox.put(some)
    assert [inbox.take(5) for _ in range(4)] == [some[start : start + 5] for start in range(0, 20, 5)]
    assert inbox.returned() == (20, 100)
