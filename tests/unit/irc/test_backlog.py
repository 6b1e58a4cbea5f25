# SPDX-License-Identifier: LGPL-2.1-or-later
"""What waits to be said: in order, bounded, with its own news; and how long to wait."""

from __future__ import annotations

import threading

from fedmsg.irc.bot import Backlog, Backoff, Bots, Pace


def filled(limit: int, messages: int) -> Backlog:
    backlog = Backlog(limit)
    for number in range(messages):
        backlog.add("NOTICE", f"message {number}")
    return backlog


def lines(backlog: Backlog, room: int = 400) -> list[str]:
    found = []
    while line := backlog.next_line(room):
        found.append(line[1])
    return found


def test_first_in_first_out() -> None:
    backlog = filled(100, 5)
    assert len(backlog) == 5
    assert lines(backlog) == [f"message {number}" for number in range(5)]
    assert len(backlog) == 0


def test_commands_are_kept() -> None:
    backlog = Backlog(5)
    backlog.add("PRIVMSG", "a")
    backlog.add("NOTICE", "b")
    assert backlog.next_line(400) == ("PRIVMSG", "a")
    assert backlog.next_line(400) == ("NOTICE", "b")


def test_a_long_message_is_several_lines() -> None:
    backlog = Backlog(5)
    backlog.add("NOTICE", "one two three four")
    assert backlog.next_line(8) == ("NOTICE", "one two")
    assert len(backlog) == 1
    assert lines(backlog, 8) == ["three", "four"]


def test_growth_is_said_every_twenty() -> None:
    backlog = filled(1000, 19)
    assert lines(backlog)[0] == "message 0"
    backlog = filled(1000, 20)
    assert lines(backlog)[0] == "* backlogged by 20 messages"
    backlog = filled(1000, 45)
    assert [line for line in lines(backlog) if line.startswith("*")] == ["* backlogged by 45 messages"]


def test_growth_is_said_again_when_it_goes_on() -> None:
    backlog = filled(1000, 20)
    assert backlog.next_line(400) == ("NOTICE", "* backlogged by 20 messages")
    for number in range(25):
        backlog.add("NOTICE", f"more {number}")
    assert backlog.next_line(400) == ("NOTICE", "* backlogged by 45 messages")
    # Going up and down around the same height is no growth.
    for _ in range(10):
        line = backlog.next_line(400)
        assert line is not None
        assert not line[1].startswith("*")
        backlog.add("NOTICE", "again")


def test_growth_is_said_anew_after_all_was_said() -> None:
    backlog = filled(1000, 20)
    lines(backlog)
    for number in range(20):
        backlog.add("NOTICE", f"more {number}")
    assert lines(backlog)[0] == "* backlogged by 20 messages"


def test_the_oldest_is_left_out_and_counted() -> None:
    backlog = filled(10, 13)
    assert backlog.dropped == 3
    assert not Backlog(10).add("NOTICE", "x")
    assert backlog.add("NOTICE", "x")
    said = lines(backlog)
    assert said[:2] == ["message 4", "* left out 4 messages"]
    assert len(said) == 11


def test_what_is_left_out_is_not_every_other_line() -> None:
    backlog = filled(10, 10)
    said = []
    for number in range(100):
        backlog.add("NOTICE", f"more {number}")
        line = backlog.next_line(400)
        assert line is not None
        said.append(line[1])
    assert sum(line.startswith("* left out") for line in said) <= 10


def test_threads_may_add() -> None:
    backlog = Backlog(10000)

    def add() -> None:
        for number in range(1000):
            backlog.add("NOTICE", str(number))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(backlog) == 4000


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
