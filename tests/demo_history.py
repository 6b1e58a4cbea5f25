# SPDX-License-Identifier: LGPL-2.1-or-later
"""A bus with all of its history, to click through: a relay that keeps a stream, what stores it, and what shows it.

``make demo-history`` runs it, until Ctrl-C. Everything is real; the addresses are free ones, so that a bus on this
machine is not disturbed, and all files are in one folder, which is named and stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedmsg.core import FedMsgContext
from fedmsg.testing import Process, command_path, free_address, run

_PREFIX = "org.example.demo"
_USERS = ["ann", "bea", "carl", "dora", "emil", "fred", "gina", "hans"]
_PACKAGES = ["bash", "curl", "gimp", "kernel", "nginx", "python3", "vim", "zlib"]
# Application and topic of each kind of message, and how often it comes.
_KINDS = {
    ("build", "task.started"): 8, ("build", "task.finished"): 7, ("build", "task.failed"): 1,
    ("git", "push"): 6, ("wiki", "page.edited"): 4, ("shop", "order.placed"): 3, ("shop", "order.paid"): 2,
}  # fmt: skip
# Of the past a week is made up, of which the relay does not know.
_PAST_MESSAGES = 1000
_PAST_SECONDS = 7 * 86400
# Seconds between two live messages.
_PAUSE = 0.5

_WORDS = """\
name: {name}
description: Sample messages of the demonstration
obj: Things
link: https://{name}.example.org/
icon: https://{name}.example.org/icon.png
messages:
  - topic: "**"
    subtitle: "{{msg.user}}: {{msg.what}} of {{msg.package}}"
    usernames: ["{{msg.user}}"]
    packages: ["{{msg.package}}"]
"""


def message(dice: random.Random) -> dict[str, Any]:
    """Make a message, as the arguments of ``publish``."""
    (modname, topic), *_ = dice.choices([*_KINDS], [*_KINDS.values()])
    # The first ones are the busiest.
    user = _USERS[min(dice.randrange(len(_USERS)), dice.randrange(len(_USERS)))]
    package = _PACKAGES[min(dice.randrange(len(_PACKAGES)), dice.randrange(len(_PACKAGES)))]
    msg = {"user": user, "package": package, "what": topic.replace(".", " "), "number": dice.randrange(10_000)}
    return {"modname": modname, "topic": topic, "msg": msg}


def past(dice: random.Random, now: float) -> Iterator[dict[str, Any]]:
    """Yield the envelopes of a week, the oldest first."""
    ages = sorted((dice.uniform(60, _PAST_SECONDS) for _ in range(_PAST_MESSAGES)), reverse=True)
    for number, age in enumerate(ages):
        made, when = message(dice), int(now - age)
        yield {
            "topic": f"{_PREFIX}.{made['modname']}.{made['topic']}", "msg": made["msg"], "i": number, "timestamp": when,
            "msg_id": f"{time.gmtime(when).tm_year}-{uuid.UUID(int=dice.getrandbits(128))}",
            "username": made["msg"]["user"],
        }  # fmt: skip


def prepare(folder: Path) -> dict[str, Any]:
    """Write the configuration, and words for the messages; return the configuration."""
    words = folder / "words"
    words.mkdir()
    for name in sorted({modname for modname, _ in _KINDS}):
        (words / f"{name}.yaml").write_text(_WORDS.format(name=name))
    port = free_address().rpartition(":")[2]
    config: dict[str, Any] = {
        "topic_prefix": "org.example", "environment": "demo",
        "relay_inbound": [free_address()], "endpoints": {"relay_outbound": [free_address()]},
        "relay_store": f"sqlite:///{folder}/stream.db", "relay_confirmed": [free_address()],
        "relay_stream": [free_address()],
        "meta_processors": [str(words)], "sign_messages": False, "validate_signatures": False,
        "state_directory": str(folder),
        "datanommer.enabled": True, "datanommer.durable": True,
        "datanommer.sqlalchemy.url": f"sqlite:///{folder}/history.db",
        "datagrepper.port": int(port), "datagrepper_url": f"http://127.0.0.1:{port}/",
    }  # fmt: skip
    (folder / "fedmsg.py").write_text(f"config = {config!r}\n")
    return config


def load_past(folder: Path, environ: dict[str, str]) -> None:
    """Store a week of messages.

    Raises:
        ChildProcessError: They can't be stored.
    """
    file = folder / "past.ndjson"
    file.write_text("".join(f"{json.dumps(one)}\n" for one in past(random.Random(1), time.time())))
    done = run(["datanommer-load", str(file)], env=environ, timeout=60)
    if done.returncode:
        raise ChildProcessError(f"datanommer-load ended with status {done.returncode}: {done.stderr}")
    file.unlink()


def demonstrate(folder: Path, stop: threading.Event) -> None:
    """Run all of it until the stop.

    Raises:
        OSError: Something can't be started, or has ended.
        TimeoutError: Something does not get ready.
    """
    config, environ = prepare(folder), {"FEDMSG_CONFIG": str(folder / "fedmsg.py")}
    load_past(folder, environ)
    with contextlib.ExitStack() as stack:
        running = []
        for argv in (["fedmsg-relay"], ["datagrepper"], ["fedmsg-hub", "--first"]):
            print(f"$ {' '.join(argv)} &", flush=True)
            running.append(stack.enter_context(Process(argv, env=environ)))
        for process in running:
            process.wait_ready(60)
        print(f"\nThe history, with what comes live: {config['datagrepper_url']}")
        tail = f"FEDMSG_CONFIG={folder}/fedmsg.py {command_path('fedmsg-tail')}"
        print(f"A day of it, and on, in a terminal: {tail} --since 1d --terse")
        print(f"All files are in {folder}; end it with Ctrl-C.", flush=True)
        with FedMsgContext(**config, active=True, name="relay_inbound") as context:
            dice = random.Random()
            while not stop.wait(_PAUSE):
                context.publish(**message(dice))
                for process in running:
                    if process.popen.poll() is not None:
                        raise ChildProcessError(f"{process.popen.args!r} has ended: {process.report()}")
        # One after the other, so that what was published last is stored.
        for process in (running[2], running[1], running[0]):
            process.stop()


def main() -> int:
    """Run the demonstration without any configuration of this machine.

    Returns:
        The exit status.
    """
    for name in [name for name in os.environ if name.startswith("FEDMSG_")]:
        del os.environ[name]
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    folder = Path(tempfile.mkdtemp(prefix="fedmsg-history-"))
    try:
        demonstrate(folder, stop)
    except (OSError, TimeoutError) as error:
        print(f"The demonstration failed: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"\nAll has stopped; the history is in {folder}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
