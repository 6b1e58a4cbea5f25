# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program that publishes, forks in the middle, and goes on publishing.

Its arguments are the way to fork, the settings as JSON, how many children, and how many
messages each process sends. Its output is a JSON object: what came of each child.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from typing import Any

import fedmsg


def publish(who: str, count: int) -> None:
    """Publish numbered messages that say who sent them."""
    for number in range(count):
        fedmsg.publish("forked", {"n": f"{who}-{number}"}, modname="test")


def child_by_fork(who: str, count: int) -> int:
    """Publish in a child of ``os.fork``, which ends at once, without Python's ending."""
    pid = os.fork()
    if not pid:
        try:
            publish(who, count)
            fedmsg.destroy()
        except OSError as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return pid


def by_fork(settings: dict[str, Any], children: int, count: int) -> list[int]:
    """Fork children while a thread publishes, so that locks are held at a fork; give their exit statuses."""

    def publish_in_thread() -> None:
        fedmsg.init(**settings)
        publish("parent", count)
        fedmsg.destroy()

    thread = threading.Thread(target=publish_in_thread)
    thread.start()
    pids = [child_by_fork(f"child{number}", count) for number in range(children)]
    thread.join()
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def by_multiprocessing(_settings: dict[str, Any], children: int, count: int) -> list[Any]:
    """The same through multiprocessing, whose children end with their target function."""
    method = multiprocessing.get_context("fork")
    processes = [method.Process(target=publish, args=(f"child{number}", count)) for number in range(children)]
    for process in processes:
        process.start()
    publish("parent", count)
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def main() -> None:
    """Run as the arguments say."""
    how, settings, children, count = sys.argv[1:]
    fedmsg.init(**json.loads(settings))
    publish("before", int(count))
    fork = {"fork": by_fork, "multiprocessing": by_multiprocessing}[how]
    statuses = fork(json.loads(settings), int(children), int(count))
    publish("after", int(count))
    fedmsg.destroy()
    print(json.dumps({"children": statuses}))


if __name__ == "__main__":
    main()
