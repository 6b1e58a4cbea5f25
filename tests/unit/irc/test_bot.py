# SPDX-License-Identifier: LGPL-2.1-or-later
"""What waits to be said: in order, bounded, with its own news; and how long to wait."""

from __future__ import annotations

import threading

from fedmsg.irc.bot import Backoff, Bots, LineQueue, Pace


def filled(limit: int, messages: int) -> LineQueue:
    waiting = LineQueue(limit)
    for number in range(messages):
        waiting.add("NOTICE", f"message {number}")
    return waiting


def lines(waiting: LineQueue, room: int = 400) -> list[str]:
    found = []
    while line := waiting.next_line(room):
        found.append(line[1])
    return found


def test_first_in_first_out() -> None:
    waiting = filled(100, 5)
    assert len(waiting) == 5
    assert lines(waiting) == [f"message {number}" for number in range(5)]
    assert len(waiting) == 0


def test_commands_are_kept() -> None:
    waiting = LineQueue(5)
    waiting.add("PRIVMSG", "a")
    waiting.add("NOTICE", "b")
    assert waiting.next_line(400) == ("PRIVMSG", "a")
    assert waiting.next_line(400) == ("NOTICE", "b")


def test_a_long_message_is_several_lines() -> None:
    waiting = LineQueue(5)
    waiting.add("NOTICE", "one two three four")
    assert waiting.next_line(8) == ("NOTICE", "one two")
    assert len(waiting) == 1
    assert lines(waiting, 8) == ["three", "four"]


def test_growth_is_said_every_twenty() -> None:
    waiting = filled(1000, 19)
    assert lines(waiting)[0] == "message 0"
    waiting = filled(1000, 20)
    assert lines(waiting)[0] == "* backlogged by 20 messages"
    waiting = filled(1000, 45)
    assert [line for line in lines(waiting) if line.startswith("*")] == ["* backlogged by 45 messages"]


def test_growth_is_said_again_when_it_goes_on() -> None:
    waiting = filled(1000, 20)
    assert waiting.next_line(400) == ("NOTICE", "* backlogged by 20 messages")
    for number in range(25):
        waiting.add("NOTICE", f"more {number}")
    assert waiting.next_line(400) == ("NOTICE", "* backlogged by 45 messages")
    # Going up and down around the same height is no growth.
    for _ in range(10):
        line = waiting.next_line(400)
        assert line is not None
        assert not line[1].startswith("*")
        waiting.add("NOTICE", "again")


def test_growth_is_said_anew_after_all_was_said() -> None:
    waiting = filled(1000, 20)
    lines(waiting)
    for number in range(20):
        waiting.add("NOTICE", f"more {number}")
    assert lines(waiting)[0] == "* backlogged by 20 messages"


def test_the_oldest_is_dropped_and_counted() -> None:
    waiting = filled(10, 13)
    assert waiting.dropped == 3
    assert not LineQueue(10).add("NOTICE", "x")
    assert waiting.add("NOTICE", "x")
    said = lines(waiting)
    assert said[:2] == ["message 4", "* dropped 4 messages"]
    assert len(said) == 11


def test_what_is_dropped_is_not_every_other_line() -> None:
    waiting = filled(10, 10)
    said = []
    for number in range(100):
        waiting.add("NOTICE", f"more {number}")
        line = waiting.next_line(400)
        assert line is not None
        said.append(line[1])
    assert sum(line.startswith("* dropped") for line in said) <= 10


def test_threads_may_add() -> None:
    waiting = LineQueue(10000)

    def add() -> None:
        for number in range(1000):
            waiting.add("NOTICE", str(number))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waiting) == 4000


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(1, 10)
    for planned in (1, 2, 4, 8, 10, 10):
        assert 0.8 * planned <= backoff.wait() <= planned
    backoff.reset()
    assert backoff.wait() <= 1


def test_turns_come_one_after_the_other() -> None:
    with Bots([], Pace(apart=5)) as bots:
        first, second, third = bots.turn(), bots.turn(), bots.turn()
    assert first == 0
    assert 4 < second <= 5
    assert 9 < third <= 10
