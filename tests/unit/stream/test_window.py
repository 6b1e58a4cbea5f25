# SPDX-License-Identifier: LGPL-2.1-or-later
"""The newest messages in memory: bounded in messages and bytes, and without a gap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedmsg.stream.records import Entry
from fedmsg.stream.window import Window


def entry(position: int, size: int = 1) -> Entry:
    return Entry(position, 0.0, b"", b"x" * size, ())


def read(window: Window, after: int, limit: int = 10_000) -> list[int] | None:
    found = window.read(after, limit)
    return None if found is None else [one.position for one in found]


def test_window_begins_empty() -> None:
    window = Window(7)
    assert (window.low, window.newest) == (7, 7)
    assert read(window, 7) == []
    assert read(window, 6) is None


@given(st.lists(st.integers(0, 30), max_size=3000), st.integers(1, 50), st.integers(1, 300))
def test_window_is_bounded(sizes: list[int], messages: int, size: int) -> None:
    window = Window(3, messages, size)
    for position, one in enumerate(sizes, 4):
        window.append([entry(position, one)])
    kept = read(window, window.low)
    assert kept is not None
    assert len(kept) <= messages
    assert window.size <= size or len(kept) == 1
    assert kept == list(range(window.low + 1, window.newest + 1))
    assert read(window, window.low - 1) is None
    assert window.newest == 3 + len(sizes)


def test_window_drops_what_it_has_and_begins_again_after_a_gap() -> None:
    window = Window(0)
    window.append([entry(1), entry(2), entry(2), entry(1), entry(5), entry(6)])
    assert (window.low, read(window, 4)) == (4, [5, 6])
    assert read(window, 5, 1) == [6]
    assert read(window, 9) == []
