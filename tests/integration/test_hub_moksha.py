# SPDX-License-Identifier: LGPL-2.1-or-later
"""Daemons written for moksha's hub: they call its `main`, look at its hub, and stop its reactor."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmsg.testing import Process
from tests.hubs import Feed, install

# As third-party daemons do it; the command is theirs.
DAEMON = """
import sys
from fedmsg.commands import BaseCommand
from fedmsg.consumers import FedmsgConsumer

class Seer(FedmsgConsumer):
    topic = "*"
    config_key = "seer.enabled"

    def consume(self, message):
        import moksha.hub
        from moksha.hub.reactor import reactor
        print("saw", message["body"]["msg"], flush=True)
        if message["body"]["msg"] == "look":
            hub = moksha.hub._hub
            print("hub", [type(one).__name__ for one in hub.consumers], hub is self.hub, flush=True)
            print("producers", [one.__class__.__name__ for one in hub.producers], flush=True)
        if message["body"]["msg"] == "end":
            reactor.callFromThread(reactor.stop)

class SeerCommand(BaseCommand):
    name = "seer"
    extra_args = []
    daemonizable = True

    def run(self):
        self.config["seer.enabled"] = True
        from moksha.hub import main
        from moksha.hub.api import PollingProducer

        class Ticker(PollingProducer):
            frequency = 60
            def poll(self):
                pass

        assert "zmq_publish_endpoints" not in self.config, self.config["zmq_publish_endpoints"]
        main(options=self.config, consumers=[Seer], producers=[Ticker], framework=False)
        print("main has returned", flush=True)

SeerCommand().execute()
"""

# Fails as soon as anything of it is imported.
OTHER_MOKSHA = {"moksha/__init__.py": "", "moksha/hub/__init__.py": "raise RuntimeError('that is the other moksha')\n"}


@pytest.fixture(params=["moksha is not installed", "moksha is installed"])
def daemon(request: pytest.FixtureRequest, tmp_path: Path, feed: Feed) -> Iterator[Process]:
    modules = OTHER_MOKSHA if request.param == "moksha is installed" else {}
    home = install(tmp_path / "home", "seer", {"seer.py": DAEMON, **modules})
    (home / "config.py").write_text(f"config = {feed.config!r}\n")
    env = {"PYTHONPATH": str(home), "FEDMSG_CONFIG": str(home / "config.py")}
    with Process([sys.executable, str(home / "seer.py")], env=env, cwd=home) as process:
        yield process.wait_ready()


@pytest.fixture
def feed() -> Iterator[Feed]:
    with Feed() as made:
        yield made


def test_moksha_main_runs_the_given_classes_until_sigterm(daemon: Process, feed: Feed) -> None:
    feed.wait()
    feed.send("shop", "look")
    daemon.wait_for("saw look")
    daemon.wait_for("hub ['Seer'] True")
    daemon.wait_for("producers ['Ticker']")
    assert daemon.stop() == 0
    assert "main has returned" in daemon.out[-1]


def test_reactor_stop_ends_a_daemon(daemon: Process, feed: Feed) -> None:
    feed.wait()
    feed.send("shop", "end")
    daemon.wait_for("main has returned")
    assert daemon.wait() == 0
