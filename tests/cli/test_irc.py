# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-irc as a process: from a publisher to a channel, and to a good end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fedmsg.testing import Bus, Process, free_address, free_port, run
from tests.ircd import Ircd, User
from tests.unit.configs import write


@pytest.fixture(scope="module")
def ircd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ircd]:
    with Ircd(tmp_path_factory.mktemp("ircd") / "ircd") as server:
        yield server


@pytest.fixture
def ann(ircd: Ircd) -> Iterator[User]:
    with User(ircd.port, "ann", "#news") as user:
        yield user


def entry(ircd: Ircd, **more: Any) -> dict[str, Any]:
    return {"network": "127.0.0.1", "port": ircd.port, "channel": "news", "nickname": "bot", "line_rate": 0, **more}


@contextmanager
def speaking(command: str, *entries: dict[str, Any], **settings: Any) -> Iterator[tuple[Bus, Process]]:
    """Run the bot on a bus, with settings that the relay doesn't share."""
    with Bus() as bus:
        bus.start_relay()
        path = write("irc-config.py", {**bus.config, "irc": list(entries), **settings})
        with Process([command, "--config-filename", path]) as process:
            process.wait_ready()
            yield bus, process


def publish_until_heard(bus: Bus, ann: User, text: str, heard: str = "") -> None:
    """Publish until the bot's subscription has reached the relay."""
    with bus.context() as context:
        for _ in range(200):
            context.publish(topic="log", modname="logger", msg={"log": text})
            try:
                ann.wait_for(heard or text, timeout=0.3)
            except TimeoutError:
                continue
            return
    raise AssertionError(f"{text!r} was never said: {ann.heard[-5:]}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_tells_what_happens_until_it_is_told_to_stop(ircd: Ircd, ann: User, number: int) -> None:
    with speaking("fedmsg-irc", entry(ircd, make_terse=True, make_pretty=True)) as (bus, process):
        said = "NOTICE #news :\x0315logger.log\x03 -- hello QUIT :everybody ("
        publish_until_heard(bus, ann, "hello\r\nQUIT :everybody", said)
        line = ann.wait_for(said)
        assert line.startswith(":bot!")
        assert process.stop(number) == 0
        assert "STOPPING=1" in process.notifications()
        assert process.err == []
        process.wait_for("#news on 127.0.0.1")
        process.wait_for("stopped")
    ann.wait_for(" QUIT :fedmsg-irc is stopped")


def test_a_hub_runs_it_where_it_is_enabled(ircd: Ircd, ann: User) -> None:
    settings = {"fedmsg.consumers.ircbot.enabled": True, "irc_method": "msg"}
    with speaking("fedmsg-hub", entry(ircd), **settings) as (bus, process):
        publish_until_heard(bus, ann, "PRIVMSG #news :org.fedoraproject.dev.logger.log")
        assert process.stop() == 0


def test_filters(ircd: Ircd, ann: User) -> None:
    filtered = entry(ircd, make_terse=True, filters={"topic": [], "body": ["secret"]})
    with speaking("fedmsg-irc", filtered) as (bus, process):
        publish_until_heard(bus, ann, "for all")
        with bus.context() as context:
            for text in ("a secret", "not one", "the end"):
                context.publish(topic="log", modname="logger", msg={"log": text})
        ann.wait_for("the end")
        assert process.stop() == 0
    assert not any("a secret" in heard.line for heard in ann.heard)
    assert any("not one" in heard.line for heard in ann.heard)


def test_stopped_before_all_was_said_is_status_8(ircd: Ircd, ann: User) -> None:
    slow, quick = entry(ircd, make_terse=True, line_rate=30), entry(ircd, nickname="quick")
    with speaking("fedmsg-irc", slow, quick, stop_timeout=3) as (bus, process):
        publish_until_heard(bus, ann, "first")
        with bus.context() as context:
            for number in range(30):
                context.publish(topic="log", modname="logger", msg={"log": f"message {number}"})
        # What the quick one has said the other one has, too.
        ann.wait_for("message 29")
        process.popen.send_signal(signal.SIGTERM)
        process.wait_for("were not sent")
        assert process.wait() == 8
    assert process.err[-1].startswith("fedmsg-irc: stopped with ")
    assert process.err[-1].endswith(" messages that were not sent")
    ann.wait_for(" QUIT :")


def test_a_server_that_is_away_is_no_reason_to_end(ircd: Ircd) -> None:
    with speaking("fedmsg-irc", entry(ircd, port=free_port())) as (_, process):
        process.wait_for("the connection ended: Connection refused")
        process.wait_for("the next try is in")
        assert process.stop() == 0


def test_a_server_that_does_not_answer_does_not_hold_it_up(ircd: Ircd) -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = full.getsockname()[1]
        # Nobody accepts; once its queue is full, the system answers no more.
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        with speaking("fedmsg-irc", entry(ircd, port=port), stop_timeout=20) as (_, process):
            assert process.stop(timeout=10) == 0
            process.wait_for("stopped while it was connecting")


def test_it_can_be_monitored(ircd: Ircd, ann: User) -> None:
    with speaking("fedmsg-irc", entry(ircd), **{"moksha.monitoring.socket": free_address()}) as (bus, process):
        publish_until_heard(bus, ann, "NOTICE #news")
        bus.environ["FEDMSG_CONFIG"] = os.path.abspath("irc-config.py")
        checked = bus.run("fedmsg-check", "--consumer", "IRCBotConsumer")
        assert checked.returncode == 0, checked.stderr
        assert '"left_out": 0' in checked.stdout
        assert process.stop() == 0


def test_it_leaves_the_port_for_websockets_to_the_hub(ircd: Ircd) -> None:
    """Both may read one configuration."""
    with socket.create_server(("127.0.0.1", 0)) as hub:
        port = hub.getsockname()[1]
        with speaking("fedmsg-irc", entry(ircd), **{"moksha.livesocket.websocket.port": port}) as (_, process):
            assert process.stop() == 0


@pytest.mark.parametrize(
    ("settings", "status", "reason"),
    [
        ({}, 5, "there is no channel to speak in: list one in irc"),
        ({"irc": [{"network": "irc.libera.chat"}]}, 5, "there is no channel to speak in"),
        ({"irc": [{"channel": "a b"}]}, 5, "the entry of 'irc' for 'a b' can't be used: channel: "),
        ({"irc": "news"}, 5, "irc"),
        ({"irc": [{"channel": "c", "sasl_username": "x", "sasl_password_file": "/nowhere"}]}, 5, "can't read /nowhere"),
        ({"irc": [{"channel": "c"}], "validate_signatures": True, "ca_cert_location": "/nowhere"}, 7, "/nowhere"),
        ({"irc": [{"channel": "c"}], "zmq_enabled": False}, 5, "zmq_enabled"),
    ],
)
def test_what_can_not_work_is_one_line(settings: dict[str, Any], status: int, reason: str) -> None:
    path = write("irc-config.py", {"endpoints": {"relay_outbound": [free_address()]}, **settings})
    ended = run(["fedmsg-irc", "--config-filename", path])
    assert ended.returncode == status, ended.stderr
    assert reason in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
