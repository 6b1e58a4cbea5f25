# SPDX-License-Identifier: LGPL-2.1-or-later
"""The context of a process: made for the first who asks, ended by the last, left alone by children."""

from __future__ import annotations

import os

import pytest
import zmq

from fedmsg.transport.zmq import contexts


def test_it_is_shared_and_ends_with_its_last_user() -> None:
    first = contexts.acquire()
    second = contexts.acquire()
    assert first is second
    contexts.release(contexts.generation)
    assert not first.closed
    contexts.release(contexts.generation)
    assert first.closed


def test_another_one_is_made_afterwards() -> None:
    first = contexts.acquire()
    contexts.release(contexts.generation)
    second = contexts.acquire()
    try:
        assert (second is first, second.closed) == (False, False)
    finally:
        contexts.release(contexts.generation)


def test_the_first_user_says_how_many_threads_it_has() -> None:
    context = contexts.acquire(io_threads=3)
    try:
        assert context.get(zmq.IO_THREADS) == 3
        assert contexts.acquire(io_threads=1).get(zmq.IO_THREADS) == 3
        contexts.release(contexts.generation)
    finally:
        contexts.release(contexts.generation)


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
    context = contexts.acquire()
    generation = contexts.generation
    try:
        expression = (
            f"(contexts.generation - {generation}, id(contexts.acquire()) == {id(context)}, "
            # A use from before the fork is not the child's to give up.
            f"contexts.release({generation}), contexts._users)"
        )
        assert in_child(expression) == "(1, False, None, 1)"
        assert (contexts.generation, context.closed) == (generation, False)
    finally:
        contexts.release(generation)
    assert context.closed


told: list[str] = []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_who_has_registered_is_told_in_the_child_alone() -> None:
    contexts.after_fork(lambda: told.append("it is a child"))
    try:
        assert in_child("told") == "['it is a child']"
    finally:
        contexts._after_fork.pop()
    assert told == []
