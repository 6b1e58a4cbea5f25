# SPDX-License-Identifier: LGPL-2.1-or-later
"""The small parts of fedmsg.aio: threads beside a loop, waits, and what looks like a coroutine function."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest

from fedmsg.aio._context import like_a_coroutine_function
from fedmsg.aio._threads import Waiter, Work, call_in_loop, in_thread, readable
from fedmsg.exceptions import TransportError


def test_a_thread_gives_what_its_function_returns_or_raises() -> None:
    async def scenario() -> None:
        assert await in_thread(threading.current_thread) is not threading.current_thread()
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 / 0)
        with pytest.raises(KeyboardInterrupt):
            await in_thread(_interrupted)

    asyncio.run(scenario(), debug=True)


def _interrupted() -> None:
    raise KeyboardInterrupt


def test_a_thread_goes_on_when_nobody_waits_for_it_any_more() -> None:
    go_on = threading.Event()
    outcome = Work(lambda: go_on.wait(20))

    async def scenario() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(outcome.result(), 0.01)
        assert not outcome.done
        go_on.set()
        # Another one may wait for the same.
        assert await outcome.result()

    asyncio.run(scenario(), debug=True)


def test_a_thread_may_end_after_its_loop(caplog: pytest.LogCaptureFixture) -> None:
    go_on = threading.Event()
    outcome = Work(lambda: go_on.wait(20))

    async def scenario() -> None:
        waiting = asyncio.ensure_future(outcome.result())
        await asyncio.wait({waiting}, timeout=0.01)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(scenario())
    pending = asyncio.all_tasks(loop)
    loop.close()
    go_on.set()
    assert outcome.wait(20)
    for task in pending:
        # Python itself would complain of these.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    assert not caplog.records


def test_work_of_the_parent_is_not_waited_for_in_a_child() -> None:
    go_on = threading.Event()
    under_way, ended = Work(lambda: go_on.wait(20)), Work(lambda: 5)
    assert ended.wait(20)
    # As at a fork in the very moment in which the thread reports its end.
    holding, held = threading.Event(), threading.Event()

    def hold() -> None:
        with ended._changed.lock:
            holding.set()
            held.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(20)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert (under_way.lost, ended.lost) == (True, False)
            assert (under_way.wait(), ended.wait()) == (False, True)
            assert asyncio.new_event_loop().run_until_complete(ended.result()) == 5
            with pytest.raises(TransportError, match="before a fork"):
                asyncio.new_event_loop().run_until_complete(under_way.result())
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    held.set()
    holder.join()
    assert not under_way.lost
    go_on.set()
    assert under_way.wait(20)


def test_a_function_is_called_in_the_loop() -> None:
    called: list[tuple[threading.Thread, str]] = []

    def function(argument: str) -> None:
        called.append((threading.current_thread(), argument))
        if argument == "raise":
            raise ZeroDivisionError

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        await in_thread(lambda: call_in_loop(loop, function, "a"))
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: call_in_loop(loop, function, "raise"))

    asyncio.run(scenario(), debug=True)
    assert called == [(threading.current_thread(), "a"), (threading.current_thread(), "raise")]


def test_a_loop_that_has_stopped_calls_nothing() -> None:
    loop = asyncio.new_event_loop()
    called: list[str] = []
    with pytest.raises(TransportError, match="the event loop has stopped"):
        call_in_loop(loop, called.append, "a")
    loop.run_until_complete(asyncio.wait_for(_nothing(), 1))
    loop.close()
    with pytest.raises(TransportError, match="the event loop has stopped"):
        call_in_loop(loop, called.append, "a")
    assert called == []


async def _nothing() -> None:
    """Let the loop come round."""


@pytest.mark.parametrize("how", ["from a thread", "from the loop", "in time"])
def test_a_wait_ends(how: str) -> None:
    async def scenario() -> Waiter:
        loop = asyncio.get_running_loop()
        waiter = Waiter(loop)
        if how == "from a thread":
            Work(waiter.release)
        elif how == "from the loop":
            loop.call_soon(waiter.wake)
        await waiter.wait(0.01 if how == "in time" else None)
        waiter.wake()
        return waiter

    waiter = asyncio.run(scenario(), debug=True)
    # Told when its loop is closed, nobody hears it.
    waiter.release()


def test_a_wait_for_something_to_read_leaves_no_reader_behind() -> None:
    async def scenario() -> None:
        there, here = os.pipe()
        try:
            await readable(there, 0.01)
            waiting = asyncio.create_task(readable(there, None))
            await asyncio.wait({waiting}, timeout=0)
            waiting.cancel()
            await asyncio.wait({waiting})
            assert not asyncio.get_running_loop().remove_reader(there)
            os.write(here, b"x")
            await readable(there, None)
        finally:
            os.close(there)
            os.close(here)

    asyncio.run(scenario(), debug=True)


def test_what_looks_like_a_coroutine_function() -> None:
    def plain() -> Any:
        """Do nothing."""

    class Some:
        @like_a_coroutine_function
        def method(self) -> Any:
            """Do nothing."""

    assert not asyncio.iscoroutinefunction(plain)
    assert asyncio.iscoroutinefunction(like_a_coroutine_function(plain))
    assert asyncio.iscoroutinefunction(Some().method)
