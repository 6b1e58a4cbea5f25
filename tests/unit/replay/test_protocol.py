# SPDX-License-Identifier: LGPL-2.1-or-later
"""Answers as frames, and the way through a range."""

from __future__ import annotations

import pytest

from fedmsg.exceptions import QueryError
from fedmsg.replay.protocol import AT_ONCE, Walk, check, error_frame


def test_errors_are_told_from_messages() -> None:
    assert check([b"{}"]) == [b"{}"]
    assert check([b"error: 'x'", b"{}"]) == [b"error: 'x'", b"{}"]
    with pytest.raises(QueryError, match=r"^error: 'no'$"):
        check([error_frame("no")])
    with pytest.raises(QueryError, match="error:"):
        check([b"error:\xff"])


def parts(walk: Walk, first_there: int, most: int = 10**9) -> list[tuple[int, int, str]]:
    """Walk a range of which all numbers from one on are there; give what was asked and answered."""
    asked = []
    while (part := walk.part) is not None:
        there = part[1] - max(part[0], first_there) + 1
        if there > most:
            asked.append((*part, "less"))
            assert walk.narrow()
        else:
            asked.append((*part, "some" if there > 0 else "none"))
            walk.step(found=there > 0)
    return asked


def test_a_walk_in_parts() -> None:
    assert parts(Walk(5, 5), 1) == [(5, 5, "some")]
    assert parts(Walk(5, 4), 1) == []
    assert parts(Walk(1, 2500), 1) == [(1, 1000, "some"), (1001, 2000, "some"), (2001, 2500, "some")]


def test_a_hole_takes_few_questions() -> None:
    asked = parts(Walk(1, 10**15), 10**15 + 1)
    assert len(asked) < 20
    assert {answer for *_, answer in asked} == {"none"}


def test_what_lies_behind_a_hole_comes_in_parts() -> None:
    asked = parts(Walk(1, 60_000), 50_001, most=10_000)
    assert [last for first, last, answer in asked if answer == "some"][-1] == 60_000
    assert len(asked) < 40


def test_a_server_that_gives_little_at_a_time() -> None:
    asked = parts(Walk(1, 1000), 1, most=100)
    assert [last - first + 1 for first, last, answer in asked if answer == "less"] == [1000, 500, 250, 125]
    assert max(last - first + 1 for first, last, answer in asked if answer == "some") <= 100
    walk = Walk(1, AT_ONCE)
    while walk.narrow():
        pass
    assert walk.part == (1, 1)


def test_a_walk_of_which_each_number_is_written_down_does_not_grow() -> None:
    walk = Walk(1, 50_000, grows=False)
    walk.step(found=False)
    assert walk.part == (1001, 2000)
