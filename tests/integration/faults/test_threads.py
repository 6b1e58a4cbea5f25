# SPDX-License-Identifier: LGPL-2.1-or-later
"""200 threads of one process publish, all at once or one after the other: nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

import fedmsg
from fedmsg.core import FedMsgContext
from fedmsg.testing import wait_until
from tests.integration.faults import ground
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import surroundings

WAYS = pytest.mark.parametrize("way", ["active", "bound"])
THREADS = 200


def in_threads(work: Callable[[int], None], *, at_once: bool) -> list[Exception]:
    """Do something in 200 threads.

    Returns:
        What went wrong in them.
    """
    errors: list[Exception] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except Exception as error:  # noqa: BLE001 whatever it is, the test shows it
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
        if not at_once:
            thread.join()
    for thread in threads:
        thread.join()
    return errors


@WAYS
@pytest.mark.soak
def test_threads_publish_at_once(way: str, figures: Figures, full_size: bool) -> None:
    each = 2000 if full_size else 25
    with surroundings(way) as (witness, settings):
        together = threading.Barrier(THREADS)

        def work(thread: int) -> None:
            with FedMsgContext(**settings) as context:
                together.wait()
                for number in range(each):
                    context.publish("threads", {"n": thread * each + number}, modname="test")

        errors = in_threads(work, at_once=True)
        witness.wait_for(THREADS * each, "threads")
        bodies = witness.bodies("threads")
    assert errors == []
    assert sorted(body["msg"]["n"] for body in bodies) == [*range(THREADS * each)]
    assert len({body["msg_id"] for body in bodies}) == THREADS * each
    figures(f"{THREADS} threads at once, {way}", sent=THREADS * each, arrived=len(bodies), lost=0, exits=0)


@WAYS
@pytest.mark.soak
def test_short_lived_threads_publish_one_after_the_other(way: str, figures: Figures, full_size: bool) -> None:
    rounds = 10 if full_size else 1
    before = ground.threads()
    with surroundings(way) as (witness, settings):

        def work(thread: int) -> None:
            # Nobody closes the context: it ends with its thread.
            fedmsg.init(**settings)
            fedmsg.publish("threads", {"n": thread}, modname="test")

        errors = [error for _ in range(rounds) for error in in_threads(work, at_once=False)]
        witness.wait_for(THREADS * rounds, "threads")
        numbers = witness.numbers("threads")
    assert errors == []
    assert sorted(numbers) == sorted([*range(THREADS)] * rounds)
    # One more at most: the thread that watches publishing sockets stays for the life of the process.
    wait_until(lambda: ground.threads() <= before + 1)
    figures(
        f"{THREADS * rounds} short-lived threads, {way}", sent=THREADS * rounds, arrived=len(numbers), lost=0, exits=0
    )
