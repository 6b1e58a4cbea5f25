# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hubs and databases that are killed again and again while messages are published."""

from __future__ import annotations

import random
from collections.abc import Callable

from fedmsg.testing import Process, wait_until
from tests.postgres import Cluster
from tests.stream_relays import Flow

__all__ = ["kill_database", "kill_hubs"]


def kill_hubs(start: Callable[[], Process], count: Callable[[], int], times: int) -> None:
    """Start hubs, one after the other, and kill each when it has done some of its work.

    Args:
        start: Starts a hub.
        count: Returns how many messages are done.
        times: How many hubs there are.
    """
    dice = random.Random(1)
    for _ in range(times):
        with start().wait_ready() as hub:
            _wait_for(count, dice.randrange(300))
            hub.popen.kill()
            hub.wait()


def kill_database(cluster: Cluster, flow: Flow, count: Callable[[], int], times: int) -> None:
    """Kill a database under a hub, and start it again when more messages were published; the same `count`."""
    for _ in range(times):
        _wait_for(count, 20)
        cluster.kill()
        flow.wait_for(20)
        cluster.start_again()


def _wait_for(count: Callable[[], int], more: int) -> None:
    goal = count() + more
    wait_until(lambda: count() >= goal, 60, what=lambda: f"{goal}; there are {count()}")
