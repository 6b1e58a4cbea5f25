# SPDX-License-Identifier: LGPL-2.1-or-later
"""A hub that is killed at any moment: what was on disk is handled at last, and no file is left half-written."""

from __future__ import annotations

import json
import random
import signal
import threading
from pathlib import Path

import pytest

from fedmsg.testing import wait_until
from tests.hubs import Feed, HubProcess, install
from tests.integration.faults.conftest import Figures

# Kills its own process at the stage and at the message that a file names, which is gone by then.
PLUGIN = """
import json, os, signal, threading
from fedmsg.consumers import FedmsgConsumer

def die(stage, number):
    path = f"{stage}-{number}"
    if os.path.exists(path):
        os.unlink(path)
        os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()

class Killed(FedmsgConsumer):
    topic = "*"
    config_key = "killed.enabled"

    def __init__(self, hub):
        super().__init__(hub)
        self.pace = float(os.environ.get("PACE", "0"))
        self.failing = os.environ.get("FAILING") == "1"
        hub.subscribe("", lambda message: print("has", json.loads(message.body)["msg"], flush=True))

    def note(self, number):
        with open("handled", "a") as file:
            file.write(f"{number}\\n")

    def validate(self, message):
        die("validate", message["body"]["msg"])
        super().validate(message)

    def pre_consume(self, message):
        die("before", message["body"]["msg"])

    def consume(self, message):
        number = message["body"]["msg"]
        die("in", number)
        threading.Event().wait(self.pace)
        if self.failing:
            self.note(f"tried {number}")
            raise ValueError(f"can't handle {number}")
        self.note(number)

    def post_consume(self, message):
        die("after", message["body"]["msg"])
"""

POINTS = {"moksha.consumer": ["killed = killed:Killed"]}
STAGES = ["validate", "before", "in", "after"]


class Ground:
    """A folder with the plugin, its state, and what it has handled.

    Args:
        folder: An empty folder.
        feed: What the hub listens to.
    """

    def __init__(self, folder: Path, feed: Feed) -> None:
        self.home = install(folder / "home", "killed", {"killed.py": PLUGIN}, POINTS)
        self.state = folder / "state"
        self.dead = folder / "dead"
        self.config = {
            **feed.config,
            "killed.enabled": True,
            "state_directory": str(self.state),
            "dead_letter_directory": str(self.dead),
            "stop_timeout": 0.5,
        }

    def start(self, *arguments: str, pace: float = 0.0, failing: bool = False) -> HubProcess:
        """Start a hub."""
        return HubProcess(self.home, self.config, *arguments, environ={"PACE": str(pace), "FAILING": str(int(failing))})

    def die(self, stage: str, number: int) -> None:
        """Have the next hub die there."""
        (self.home / f"{stage}-{number}").write_text("")

    def handled(self) -> list[str]:
        """Give what was handled, in that order."""
        path = self.home / "handled"
        return path.read_text().splitlines() if path.exists() else []

    def rows(self, folder: Path) -> list[int]:
        """Give the messages in files; every line of them has to be whole."""
        lines = [line for path in sorted(folder.rglob("*.jsonl*")) for line in path.read_text().splitlines()]
        return [json.loads(json.loads(line)["body"])["msg"] for line in lines]

    def leave_behind(self, feed: Feed, count: int) -> list[int]:
        """Have a hub stop with messages left; gives them."""
        with self.start(pace=60).wait_ready() as hub:
            feed.wait()
            for number in range(count):
                feed.send("shop", number)
            # What it does not have when it is stopped it can't keep.
            hub.wait_for(f"has {count - 1}")
            assert hub.stop() == 0
        feed.wait_until_gone()
        return self.rows(self.state)


@pytest.mark.soak
def test_it_dies_at_every_stage_of_a_message(tmp_path: Path, figures: Figures, full_size: bool) -> None:
    count, kills = (100, 25) if full_size else (20, 1)
    with Feed() as feed:
        ground = Ground(tmp_path, feed)
        left = ground.leave_behind(feed, count)
        assert left == list(range(count))
        died = 0
        for stage in STAGES:
            for _ in range(kills):
                # What was left is begun with again, as long as not all of it has been handled.
                ground.die(stage, random.randrange(count))
                with ground.start() as hub:
                    assert hub.wait() == -signal.SIGKILL
                died += 1
                assert sorted(ground.rows(ground.state)) == left
        with ground.start().wait_ready() as hub:
            wait_until(lambda: not ground.rows(ground.state))
            assert hub.stop() == 0
        handled = ground.handled()
    assert sorted(set(handled), key=int) == [str(number) for number in range(count)]
    # The last hub has handled them all, in order.
    assert handled[-count:] == [str(number) for number in range(count)]
    figures("hub killed at each stage of a message", sent=count, arrived=len(set(handled)), lost=0, exits=died)


@pytest.mark.soak
def test_it_dies_while_messages_fail(tmp_path: Path, figures: Figures, full_size: bool) -> None:
    count, kills = (200, 100) if full_size else (40, 3)
    with Feed() as feed:
        ground = Ground(tmp_path, feed)
        left = ground.leave_behind(feed, count)
        for _ in range(kills):
            ground.die(random.choice(STAGES), random.randrange(count))
            with ground.start(failing=True) as hub:
                assert hub.wait() == -signal.SIGKILL
        # One of them was killed while it wrote.
        (path,) = ground.dead.rglob("*.jsonl")
        whole = path.read_text()
        path.write_text(whole + whole[: random.randrange(1, len(whole.splitlines()[0]))])
        with ground.start(failing=True).wait_ready() as hub:
            wait_until(lambda: not list(ground.state.rglob("*.jsonl")))
            assert hub.stop() == 0
        lines = path.read_text().splitlines()
        bad = [line for line in lines if not line.endswith("}")]
        assert len(bad) == 1
        dead = {json.loads(json.loads(line)["body"])["msg"] for line in lines if line not in bad}
        assert dead == set(left)
        # All are handled in the end, however often it dies over that.
        (ground.home / "handled").unlink()
        for _ in range(kills):
            # They were found good before.
            ground.die(random.choice(STAGES[1:]), random.randrange(count))
            with ground.start("--retry-dead-letters") as hub:
                assert hub.wait() == -signal.SIGKILL
        with ground.start("--retry-dead-letters").wait_ready() as hub:
            wait_until(lambda: not list(ground.dead.rglob("*.jsonl*")))
            assert hub.stop() == 0
        handled = set(ground.handled())
    assert handled == {str(number) for number in range(count)}
    figures("hub killed while messages fail", sent=count, arrived=len(handled), lost=0, exits=2 * kills)


@pytest.mark.soak
def test_it_dies_while_it_stops(tmp_path: Path, figures: Figures, full_size: bool) -> None:
    count, kills = (300, 100) if full_size else (100, 3)
    with Feed() as feed:
        ground = Ground(tmp_path, feed)
        left = ground.leave_behind(feed, count)
        died = 0
        for _ in range(kills):
            before = set(ground.rows(ground.state))
            done = len(ground.handled())
            with ground.start(pace=0.01).wait_ready() as hub:
                hub.popen.send_signal(signal.SIGTERM)
                threading.Event().wait(random.random())
                hub.popen.kill()
                died += hub.wait() == -signal.SIGKILL
            # A file of the old messages or one of the new rest, whole: each was handled or is there.
            handled = {int(number) for number in ground.handled()[done:]}
            assert before <= handled | set(ground.rows(ground.state))
        with ground.start().wait_ready() as hub:
            wait_until(lambda: not ground.rows(ground.state))
            assert hub.stop() == 0
    assert {int(number) for number in ground.handled()} == set(left)
    figures("hub killed while it stops", sent=count, arrived=len(left), lost=0, exits=died)
