# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg._util.service: threads, wake-ups, and what survives a signal handler that raises."""

from __future__ import annotations

import gc
import queue
import threading
import time
from typing import Any

import pytest

from fedmsg._util import service
from fedmsg._util.service import SafeCondition, ServiceThread, Waker, start_thread


def test_condition_wakes_a_waiter_that_was_notified_before_it_waits() -> None:
    condition = SafeCondition()
    with condition.lock:
        waiter = condition.expect()
        condition.notify_all()
    condition.wait(waiter, 1000.0)


def test_condition_wakes_all_waiters() -> None:
    condition = SafeCondition()
    waiting, woken = threading.Barrier(6), []

    def wait(number: int) -> None:
        with condition.lock:
            waiter = condition.expect()
        waiting.wait()
        condition.wait(waiter, 1000.0)
        woken.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    waiting.wait()
    with condition.lock:
        condition.notify_all()
    for thread in threads:
        thread.join()
    assert sorted(woken) == [*range(5)]


def test_condition_keeps_no_waiter_that_waited_in_vain() -> None:
    condition = SafeCondition()
    for _ in range(3):
        with condition.lock:
            waiter = condition.expect()
        condition.wait(waiter, 0.0)
    assert condition._waiters == []


def test_condition_waits_for_what_another_thread_changes() -> None:
    condition, found = SafeCondition(), []

    def change() -> None:
        for number in range(3):
            with condition.lock:
                found.append(number)
                condition.notify_all()

    assert not condition.wait_for(lambda: found, 0.01)
    thread = threading.Thread(target=change)
    thread.start()
    assert condition.wait_for(lambda: len(found) == 3, 1000.0)
    assert condition.wait_for(lambda: found)
    thread.join()
    assert condition._waiters == []


def test_conditions_can_share_a_lock() -> None:
    lock = threading.RLock()
    first, second = SafeCondition(lock), SafeCondition(lock)
    with lock:
        waiters = first.expect(), second.expect()
        second.notify_all()
    assert waiters[0].locked()
    assert not waiters[1].locked()


class Echo(ServiceThread):
    """Raises what it is asked to."""

    def __init__(self, at_start: BaseException | None = None) -> None:
        super().__init__("echo")
        self.at_start = at_start
        self.later: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def run(self) -> None:
        if self.at_start is not None:
            raise self.at_start
        self.ready()
        while not self.stopping:
            if self.waker.wait(10) and not self.later.empty():
                raise self.later.get()


def test_service_thread_starts_and_stops() -> None:
    before = threading.active_count()
    with Echo() as echo:
        echo.start()
        assert echo.alive
        assert not echo.is_current
        assert not echo.join(0.01)
        alive = echo
    assert alive.closed
    assert not alive.alive
    assert alive.failure is None
    assert threading.active_count() == before


def test_service_thread_raises_what_kept_it_from_starting() -> None:
    echo = Echo(at_start=OSError("no"))
    with pytest.raises(OSError, match="no"):
        echo.start()
    assert echo.closed
    assert not echo.alive


def test_service_thread_keeps_what_ended_it(caplog: pytest.LogCaptureFixture) -> None:
    with Echo() as echo:
        echo.start()
        echo.later.put(ValueError("later"))
        echo.waker.wake()
        assert echo.join(10)
        assert isinstance(echo.failure, ValueError)
    assert "the thread echo has ended" in caplog.text


def test_service_thread_that_was_not_started_closes_at_once() -> None:
    echo = Echo()
    start = time.monotonic()
    echo.close()
    assert time.monotonic() - start < 1
    assert echo.join(0)


def test_service_thread_warns_when_it_is_leaked() -> None:
    echoes = [Echo()]
    assert not echoes[0].waker.closed
    vars(echoes[0])["self"] = echoes[0]  # a cycle, so that only the collection below can free it
    echoes.clear()
    with pytest.warns(ResourceWarning, match="unclosed Echo"):
        gc.collect()


def test_start_thread_names_the_thread() -> None:
    names: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()
    start_thread(lambda: names.put((threading.current_thread().name, threading.current_thread().daemon)), "it")
    assert names.get(timeout=10) == ("it", True)


def test_start_thread_reports_that_there_can_be_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        start_thread(lambda: None, "it")
    errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
    start_thread(lambda: None, "it", on_failure=errors.put)
    assert isinstance(errors.get(timeout=10), RuntimeError)
    thread = Echo()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        thread.start()
    assert thread.closed


def test_waker_wakes_and_clears() -> None:
    with Waker() as waker:
        assert not waker.wait(0)
        waker.wake()
        waker.wake()
        assert waker.wait(10)
        assert not waker.clear()
    waker.wake()  # closed: nothing happens


class Waiting(ServiceThread):
    """Waits until it is stopped."""

    has_run = False

    def run(self) -> None:
        self.has_run = True
        self.ready()
        while not self.stopping:
            self.waker.wait()


@pytest.mark.parametrize("runs_later", [False, True])
def test_service_thread_whose_start_is_interrupted_is_not_waited_for(
    runs_later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets: list[Any] = []

    def interrupted(target: Any, *_: object, **__: object) -> None:
        targets.append(target)
        raise KeyboardInterrupt

    monkeypatch.setattr(service, "start_thread", interrupted)
    thread = Waiting("test")
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        thread.start()
    assert (thread.join(5), thread.alive) == (True, False)
    assert time.monotonic() - start < 5
    if runs_later:  # as one does that was about to
        other = threading.Thread(target=targets[0])
        other.start()
        other.join()
        assert not thread.has_run
        assert thread.join(5)
    monkeypatch.undo()
    with Waiting("test") as control:
        control.start()
        assert control.alive
        assert control.has_run
