# SPDX-License-Identifier: LGPL-2.1-or-later
"""The consumer of the IRC bot in a hub that runs: connections, forms, and the way it ends."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from fedmsg.consumers.ircbot import IRCBotConsumer
from fedmsg.irc.bot import Pace
from fedmsg.testing import HubRunner, free_port, wait_until
from tests.ircd import Ircd, User

APART = 0.4


class QuickBot(IRCBotConsumer):
    """The same, with less patience."""

    _pace = Pace(apart=APART, reconnect=0.1, rejoin=0.2, nickname=0.2, longest=0.5)


def entry(port: int, channel: str, **more: Any) -> dict[str, Any]:
    nickname = f"bot-{channel}"
    return {"network": "127.0.0.1", "port": port, "channel": channel, "nickname": nickname, "line_rate": 0, **more}


def test_each_channel_in_its_own_form(tmp_path: Path) -> None:
    with Ircd(tmp_path / "ircd") as server, User(server.port, "ann", "#one") as ann:
        ann.join("#two")
        entries = [entry(server.port, "one", make_terse=True), entry(server.port, "two", filters={"topic": ["log$"]})]
        with HubRunner(QuickBot, config={"irc": entries}) as hub:
            hub.publish("org.fedoraproject.dev.logger.log", {"log": "hello"})
            hub.publish("org.fedoraproject.dev.logger.other", {"log": "goodbye"})
            ann.wait_for("NOTICE #one :logger.log -- hello")
            line = ann.wait_for("NOTICE #two :org.fedoraproject.dev.logger.other {")
            assert "'msg': {'log': 'goodbye'}" in line
        assert sum(" QUIT :fedmsg-irc is stopped" in heard.line for heard in ann.heard) == 2
        assert not any("#two" in heard.line and "hello" in heard.line for heard in ann.heard)


def test_a_channel_with_only_shows_nothing_else(tmp_path: Path) -> None:
    only = {"topics": ["org.*.logger"], "where": ["msg.level=error"], "not_users": ["bob"]}
    messages = [
        ("logger.log", {"log": "wrong level", "level": "info"}, "ann"),
        ("announce.announcement", {"message": "wrong topic", "level": "error"}, "ann"),
        ("logger.log", {"log": "wrong user", "level": "error"}, "bob"),
        ("logger.log", {"log": "the one", "level": "error"}, "ann"),
    ]
    with Ircd(tmp_path / "ircd") as server, User(server.port, "ann", "#one") as ann:
        ann.join("#all")
        entries = [entry(server.port, "one", only=only, make_terse=True), entry(server.port, "all", make_terse=True)]
        with HubRunner(QuickBot, config={"irc": entries}) as hub:
            for topic, msg, username in messages:
                hub.publish(f"org.fedoraproject.dev.{topic}", msg, username=username)
            ann.wait_for("NOTICE #one :logger.log -- the one")
            ann.wait_for("NOTICE #all :logger.log -- the one")
        # The control: without `only` everything is shown.
        assert sum("NOTICE #all :" in heard.line for heard in ann.heard) == 4
        assert sum("NOTICE #one :" in heard.line for heard in ann.heard) == 1


def test_connections_are_started_apart() -> None:
    times: list[float] = []
    connections: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                connections.append(listener.accept()[0])
                times.append(time.monotonic())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        port = listener.getsockname()[1]
        with HubRunner(QuickBot, config={"irc": [entry(port, f"c{number}") for number in range(4)]}):
            wait_until(lambda: len(times) == 4)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in connections:
        connection.close()
    assert all(later - earlier > 0.8 * APART for earlier, later in itertools.pairwise(times))


def wait_until_said(bot: IRCBotConsumer) -> None:
    """Wait until a message was said where there is a server, and waits where there is none."""
    wait_until(lambda: [client.waiting for client in bot.irc_clients] == [0, 1])


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    process = psutil.Process()
    with Ircd(tmp_path / "ircd") as server:
        counts = []
        for _ in range(4):
            with HubRunner(QuickBot, config={"irc": [entry(server.port, "one"), entry(free_port(), "two")]}) as hub:
                hub.publish("org.example.dev.a.b", {})
                wait_until_said(hub.consumers[0])
            assert hub.consumers[0].unsaid == 1
            counts.append((process.num_fds(), threading.active_count()))
    assert counts[-1] == counts[1], counts
