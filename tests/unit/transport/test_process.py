# SPDX-License-Identifier: LGPL-2.1-or-later
"""The context of a process: made for the first who asks, ended by the last, left alone by children."""

from __future__ import annotations

import os

import pytest
import zmq

from fedmsg.transport import process


def test_it_is_shared_and_ends_with_its_last_user() -> None:
    first = process.acquire()
    second = process.acquire()
    assert first is second
    process.release(process.generation)
    assert not first.closed
    process.release(process.generation)
    assert first.closed


def test_another_one_is_made_afterwards() -> None:
    first = process.acquire()
    process.release(process.generation)
    second = process.acquire()
    try:
        assert (second is first, second.closed) == (False, False)
    finally:
        process.release(process.generation)


def test_the_first_user_says_how_many_threads_it_has() -> None:
    context = process.acquire(io_threads=3)
    try:
        assert context.get(zmq.IO_THREADS) == 3
        assert process.acquire(io_threads=1).get(zmq.IO_THREADS) == 3
        process.release(process.generation)
    finally:
        process.release(process.generation)


def in_child(answer: str) -> str:
    """Fork, evaluate an expression in the child, and give what came of it as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, repr(eval(answer)).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    text = os.read(reader, 1000).decode()
    os.close(reader)
    return text


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_has_its_own_and_leaves_that_of_its_parent_alone() -> None:
    context = process.acquire()
    generation = process.generation
    try:
        expression = (
            f"(process.generation - {generation}, id(process.acquire()) == {id(context)}, "
            # A use from before the fork is not the child's to give up.
            f"process.release({generation}), process._users)"
        )
        assert in_child(expression) == "(1, False, None, 1)"
        assert (process.generation, context.closed) == (generation, False)
    finally:
        process.release(generation)
    assert context.closed


told: list[str] = []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_who_has_registered_is_told_in_the_child_alone() -> None:
    process.after_fork(lambda: told.append("it is a child"))
    try:
        assert in_child("told") == "['it is a child']"
    finally:
        process._after_fork.pop()
    assert told == []
