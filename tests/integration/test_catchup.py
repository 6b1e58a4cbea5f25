# SPDX-License-Identifier: LGPL-2.1-or-later
"""A hub that was down gets what it missed from a real datagrepper, whatever happens to both of them."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg import crypto
from fedmsg.consumers import FedmsgConsumer
from fedmsg.testing import HubRunner, Process, wait_until
from tests.certificates import Holder, authority, put
from tests.datagrepper_server import DatagrepperServer, Handler, Query, message
from tests.hubs import Feed, HubProcess

PRINTER = """
import os, time
from fedmsg.consumers import FedmsgConsumer

def say(line):
    # In one go, since the log goes there too.
    os.write(1, f"{line}\\n".encode())

class Printer(FedmsgConsumer):
    topic = ["org.fedoraproject.dev.shop.*"]
    config_key = "test.enabled"

    def consume(self, message):
        number = message["body"]["i"]
        say(f"begun {number}")
        if str(number) == os.environ.get("HANG_AT"):
            time.sleep(1000)
        time.sleep(float(os.environ.get("PAUSE", "0")))
        say(f"handled {number}")
"""

#: When the first message was published; the last ones are of now.
BEGIN = int(time.time()) - 5000


class Scene:
    """A bus with a datagrepper that has what passes, and a hub that comes and goes.

    Args:
        folder: An empty folder.
        settings: More to configure.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "printing.py").write_text(PRINTER)
        self.server = DatagrepperServer()
        self.feed = Feed(status_directory=str(folder / "status"), datagrepper_url=self.server.url, **settings)
        self.handled: list[int] = []

    def hub(self, **environ: str) -> HubProcess:
        """Start the hub."""
        return HubProcess(self.folder, self.feed.config, "--with-consumers", "printing:Printer", environ=environ)

    def pass_by(self, *numbers: int, when: int | None = None) -> list[dict[str, Any]]:
        """Have messages pass: datagrepper stores them, and a hub that is there hears them."""
        passing = [message(number, BEGIN + number if when is None else when) for number in numbers]
        self.server.messages += passing
        self.feed.publish(*passing)
        return passing

    def take(self, hub: Process) -> list[int]:
        """Give the numbers of what an ended hub has handled."""
        return [int(line.split()[1]) for line in hub.out if line.startswith("handled ")]

    @property
    def missing(self) -> Path:
        """The note of what is missing."""
        return self.folder / "status" / "fedmsg-hub" / "Printer.missing"

    def close(self) -> None:
        """Stop what belongs to it."""
        self.feed.close()
        self.server.close()

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Scene(tmp_path / "scene") as found:
        yield found


def seen_to(scene: Scene, *numbers: int) -> None:
    """Let a hub handle these messages live and end."""
    with scene.hub() as hub:
        scene.feed.wait("shop.")
        scene.pass_by(*numbers)
        hub.wait_for(f"handled {numbers[-1]}")
        assert hub.stop() == 0
        assert scene.take(hub) == [*numbers]
    scene.feed.wait_until_gone()


def test_what_passed_while_it_was_down(scene: Scene) -> None:
    seen_to(scene, 0, 1, 2)
    scene.pass_by(*range(3, 250))
    scene.server.messages.append(message(9999, BEGIN + 100, "org.fedoraproject.dev.bank.order"))
    with scene.hub() as hub:
        hub.wait_for("handled 249")
        scene.feed.wait("shop.")
        scene.pass_by(250)
        hub.wait_for("handled 250")
        assert hub.stop() == 0
        assert scene.take(hub) == [*range(3, 251)]
    assert scene.server.pages == [1, 2, 3]
    assert scene.server.asked[0][1]["category"] == ["shop"]
    assert not scene.missing.exists()


@pytest.mark.parametrize("skip", [False, True])
def test_the_message_in_work_at_a_crash(tmp_path: Path, skip: bool) -> None:
    with Scene(tmp_path / "scene", skip_last_message=skip) as scene:
        with scene.hub(HANG_AT="5") as hub:
            scene.feed.wait("shop.")
            scene.pass_by(*range(10))
            hub.wait_for("begun 5")
            hub.popen.kill()
            hub.wait()
            assert scene.take(hub) == [*range(5)]
        scene.pass_by(*range(10, 20))
        with scene.hub() as hub:
            hub.wait_for("handled 19")
            assert hub.stop() == 0
            assert scene.take(hub) == [*range(6 if skip else 5, 20)]


def test_live_messages_come_after_and_once(scene: Scene) -> None:
    """What passes during the catch-up comes from both sides."""
    seen_to(scene, 0)
    scene.pass_by(*range(1, 150))
    asked = len(scene.server.asked)

    def misbehave(handler: Handler, query: Query, number: int) -> bool:
        if query["page"] == ["2"]:
            # The hub listens by now. These are on page 2 or 3, and live.
            scene.feed.wait("shop.")
            scene.pass_by(*range(150, 250))
        return False

    scene.server.misbehave = misbehave
    with scene.hub() as hub:
        hub.wait_for("handled 249")
        scene.pass_by(250)
        hub.wait_for("handled 250")
        assert hub.stop() == 0
        assert scene.take(hub) == [*range(1, 251)]
    assert scene.server.pages[asked:] == [1, 2, 3]


def test_many_messages_of_one_second(scene: Scene) -> None:
    with scene.hub() as hub:
        scene.feed.wait("shop.")
        scene.pass_by(*range(30), when=BEGIN)
        hub.wait_for("handled 29")
        hub.popen.kill()
        hub.wait()
    scene.pass_by(*range(30, 60), when=BEGIN)
    with scene.hub() as hub:
        hub.wait_for("handled 59")
        assert hub.stop() == 0
        assert scene.take(hub)[-30:] == [*range(30, 60)]
        # It was killed just after the last line was printed, perhaps before that was noted.
        assert set(scene.take(hub)) <= {29, *range(30, 60)}


def test_a_datagrepper_that_is_down_is_asked_at_the_next_start(scene: Scene) -> None:
    seen_to(scene, 0)
    scene.pass_by(*range(1, 150))
    scene.server.misbehave = lambda handler, query, number: bool(query["page"] == ["2"]) and _refuse(handler)
    with scene.hub() as hub:
        hub.wait_for("What passed from", stream="out")
        scene.feed.wait("shop.")
        scene.pass_by(200)
        hub.wait_for("handled 200")
        assert hub.stop() == 0
        assert scene.take(hub) == [*range(1, 100), 200]
    assert scene.missing.exists()
    scene.server.misbehave = None
    with scene.hub() as hub:
        hub.wait_for("handled 149")
        scene.feed.wait("shop.")
        scene.pass_by(201)
        hub.wait_for("handled 201")
        assert hub.stop() == 0
        assert scene.take(hub) == [*range(100, 150), 201]
    assert not scene.missing.exists()


class _Nth:
    """Fits the so manieth line that says that a message was handled, and those after it."""

    def __init__(self, number: int) -> None:
        self._left = number

    def __call__(self, line: str) -> bool:
        self._left -= line.startswith("handled ")
        return self._left <= 0


def _refuse(handler: Handler) -> bool:
    handler.answer(403, b"")
    return True


def test_it_is_stopped_in_the_middle(scene: Scene) -> None:
    seen_to(scene, 0)
    scene.pass_by(*range(1, 150))

    def misbehave(handler: Handler, query: Query, number: int) -> bool:
        return query["page"] == ["2"] and scene.server.stopped.wait()

    scene.server.misbehave = misbehave
    with scene.hub() as hub:
        hub.wait_for("handled 99")
        start = time.monotonic()
        assert hub.stop(signal.SIGINT) == 0
        # The time-out of a page would be a minute.
        assert time.monotonic() - start < 20
    scene.server.misbehave = None
    with scene.hub() as again:
        again.wait_for("handled 149")
        assert again.stop() == 0
    assert sorted(scene.take(hub) + scene.take(again)) == [*range(1, 150)]


@pytest.mark.soak
def test_it_is_killed_again_and_again(scene: Scene, full_size: bool) -> None:
    kills, count = (100, 3000) if full_size else (2, 400)
    seen_to(scene, 0)
    scene.pass_by(*range(1, count))
    dice, handled, killed = random.Random(1), Counter[int](), 0
    while True:
        with scene.hub(PAUSE="0.001") as hub:
            if killed == kills:
                wait_until(lambda: len(set(handled) | set(scene.take(hub))) == count - 1, timeout=60)
                assert hub.stop() == 0
                handled.update(scene.take(hub))
                break
            some = dice.randrange(1, max(2, count // kills))
            hub.wait_for(_Nth(some))
            hub.popen.kill()
            hub.wait()
            killed += 1
            handled.update(scene.take(hub))
    assert sorted(handled) == [*range(1, count)]
    # The message in work comes again, and no other.
    assert sum(handled.values()) <= count - 1 + kills
    assert max(handled.values()) <= 2


def test_a_server_that_sends_rubbish_for_ever_harms_nobody(scene: Scene) -> None:
    seen_to(scene, 0)

    def misbehave(handler: Handler, query: Query, number: int) -> bool:
        page = int(query["page"][0])
        rows = [{"topic": 3}, None, message(10_000 + page, BEGIN, msg_id=f"x{page}"), "text", {"topic": "x" * 1000}]
        handler.answer(200, {"raw_messages": rows * 50, "pages": page + 1_000_000})
        return True

    scene.server.misbehave = misbehave
    with scene.hub() as hub:
        hub.wait_for("What passed from")
        scene.feed.wait("shop.")
        scene.pass_by(1)
        hub.wait_for("handled 1")
        assert hub.memory() < 200_000
        assert hub.stop() == 0


def test_what_is_not_validly_signed_is_left_out_and_leaves_no_trace(tmp_path: Path) -> None:
    ca, folder = authority("Catch-up CA"), tmp_path / "keys"
    folder.mkdir()
    Holder("shell.test", ca).write(folder)
    keys = {
        "ssldir": str(folder),
        "ca_cert_location": str(put(folder / "ca.crt", ca.pem)),
        "certname": "shell.test",
    }
    with Scene(tmp_path / "scene", validate_signatures=True, **keys) as scene:
        signed = [crypto.sign(message(number, BEGIN + number), **keys) for number in range(4)]
        # With the keys that datagrepper adds to others.
        more = {"source_name": "datanommer", "source_version": "1.5.0"}
        signed.append(crypto.sign({**message(4, BEGIN + 4), **more}, **keys))
        forged = {**crypto.sign(message(9, BEGIN + 9), **keys), "msg": {"number": "forged"}}
        with scene.hub() as hub:
            scene.feed.wait("shop.")
            scene.feed.publish(signed[0])
            hub.wait_for("handled 0")
            assert hub.stop() == 0
        scene.server.messages = [*signed, forged]
        with scene.hub() as hub:
            hub.wait_for("Received invalid message")
            assert hub.stop() == 0
            assert scene.take(hub) == [1, 2, 3, 4]
        assert not scene.missing.exists()
        # The next start goes on from the last one that was valid.
        noted = json.loads(scene.missing.with_name("Printer").read_bytes())
        assert noted["message"]["body"] == signed[4]


def test_what_a_stop_has_left_comes_before_what_was_missed(tmp_path: Path) -> None:
    with Scene(tmp_path / "scene", state_directory=str(tmp_path / "state"), stop_timeout=1) as scene:
        with scene.hub(PAUSE="0.3") as hub:
            scene.feed.wait("shop.")
            scene.pass_by(*range(20))
            # Known to the hub alone: a message that is lost now can't come from elsewhere.
            scene.server.messages = [one for one in scene.server.messages if one["i"] != 19]
            hub.wait_for("handled 0")
            assert hub.stop() == 0
            before = scene.take(hub)
            assert 0 < len(before) < 19
        scene.feed.wait_until_gone()
        scene.pass_by(*range(20, 25))
        with scene.hub() as hub:
            hub.wait_for("handled 24")
            assert hub.stop() == 0
            assert before + scene.take(hub) == [*range(25)]


class Keeper(FedmsgConsumer):
    """Keeps the numbers of what it has handled."""

    topic = "org.fedoraproject.dev.shop"
    config_key = "test.enabled"

    def __init__(self, hub: Any) -> None:
        self.numbers: list[int] = []
        super().__init__(hub)

    def consume(self, message: Any) -> None:
        self.numbers.append(message["body"]["i"])


def test_what_a_program_asks_for_itself_is_handled(tmp_path: Path) -> None:
    with DatagrepperServer(message(number, BEGIN + number) for number in range(10)) as server:
        settings = {"status_directory": str(tmp_path), "datagrepper_url": server.url}
        with HubRunner(Keeper, config=settings) as runner:
            keeper = runner.hub.consumers[0]
            last = message(4, BEGIN + 4)
            keeper._backlog(json.dumps({"message": {"topic": last["topic"], "body": last}, "status": "post"}))
            wait_until(lambda: keeper.numbers == [*range(5, 10)])
