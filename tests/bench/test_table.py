# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table says "yes" only where a goal is reached, and shows the figures that were measured."""

from __future__ import annotations

import sys

import pytest

from tests.bench.table import Goal, Row, render


@pytest.mark.parametrize(
    ("goal", "ours", "limit", "reached"),
    [
        (Goal("at most", 0.9), [8.0, 9.0, 30.0], [10.0, 10.0, 40.0], True),
        (Goal("at most", 0.9), [9.1, 9.1, 1.0], [10.0, 10.0, 10.0], False),
        (Goal("at least", 1.5), [15.0, 16.0, 1.0], [10.0, 10.0, 10.0], True),
        (Goal("at least", 1.5), [14.0, 14.0, 99.0], [10.0, 10.0, 10.0], False),
        (Goal("plus", 1.0), [10.9, 50.9, 7.0], [10.0, 50.0, 5.0], True),
        (Goal("plus", 1.0), [11.1, 51.1, 5.0], [10.0, 50.0, 5.0], False),
        (Goal("max", 25.0), [24.0, 25.0, 26.0], [], True),
        (Goal("max", 25.0), [24.0, 25.1, 26.0], [], False),
        (Goal("min", 1000.0), [1000.0], [], True),
        (Goal("min", 1000.0), [999.0], [], False),
    ],
)
def test_goal(goal: Goal, ours: list[float], limit: list[float], reached: bool) -> None:
    assert goal.reached(ours, limit) is reached
    assert Row("a row", "us", goal, ours, [], limit).cells()[-1].split()[0] == ("yes" if reached else "no")


def test_cells() -> None:
    row = Row("a row", "us", Goal("at most", 0.9), [1.0, 2.5, 4.0], [1234.4], [4.0, 5.0, 4.0])
    assert row.cells() == ["a row", "us", "2.50", "1..4", "1,234", "4", "0.50", "<= 0.9 x", "yes"]


def test_cells_of_what_was_not_measured() -> None:
    assert Row("a row", "us", limit=[3.0]).cells() == ["a row", "us", "-", "", "-", "3", "", "", ""]


def test_render() -> None:
    text = render(
        [Row("a row", "us", None, [1.5]), Row("another", "s", None, [0.25], [0.5], [0.125])], sys.executable, 3
    )
    lines = text.splitlines()
    assert all(line == line.rstrip() for line in lines)
    assert [line.split() for line in lines if line.startswith(("a row", "another"))] == [
        ["a", "row", "us", "1.50", "-", "-"],
        ["another", "s", "0.250", "0.500", "0.125", "2.00"],
    ]
