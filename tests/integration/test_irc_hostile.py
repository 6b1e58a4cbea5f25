# SPDX-License-Identifier: LGPL-2.1-or-later
"""No message makes the IRC bot say anything but that message; no server makes it fall over."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmsg.consumers.ircbot import IRCBotConsumer
from fedmsg.irc.bot import Bots, Client, Pace
from fedmsg.irc.configuration import read
from fedmsg.testing import wait_until
from tests.ircd import Ircd, User, Wiretap

SOON = Pace(apart=0.0, reconnect=0.1, rejoin=0.2, nickname=0.2, longest=0.5)

# What could mean something to a server, to a client, or to whatever encodes it.
PIECES = ["\r\n", "\n", "\r", "\x00", "\x01", "\x03", "\x0f", "\x1b[2J", "\u2028", "\x85", "\ud800", "\u202e", ":", " ",
          "QUIT :x", "\r\nPART #news", "PRIVMSG #news :", "JOIN 0", "\x01ACTION x\x01", "\x01DCC SEND x\x01",
          "@+tag=1 ", "é", "😀", "x" * 600, "http://a.b/", "%s", "\x0304", ",5", "NICK boss", "\x7f"]  # fmt: skip
hostile = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.text(st.characters(exclude_categories=[]), max_size=100),
)

END = "that was it"


class Ground(NamedTuple):
    """A bot on a real server, somebody who listens, and a wiretap in between."""

    client: Client
    consumer: IRCBotConsumer
    ann: User
    wire: Wiretap


class StandIn:
    """A hub that has a configuration, and nothing else."""

    config: ClassVar[Any] = {"fedmsg.consumers.ircbot.enabled": True}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with (
        Ircd(tmp_path_factory.mktemp("hostile") / "ircd") as server,
        Wiretap(server.port) as wire,
        User(server.port, "ann", "#news") as ann,
    ):
        entry = {"network": "127.0.0.1", "port": wire.port, "channel": "news", "nickname": "bot", "line_rate": 0}
        # Neither side asks the other whether it is still there.
        with Bots([read({**entry, "timeout": 3600})], SOON) as bots:
            bots.start()
            client = bots.clients[0]
            consumer = IRCBotConsumer(StandIn())
            consumer.add_irc_client(client)
            client.notice("#news", "hello")
            ann.wait_for_said("hello")
            yield Ground(client, consumer, ann, wire)
            bots.stop_within(3)
            assert bots.join(10)


def everything_since(ground: Ground, lines: int, heard: int) -> list[str]:
    """Look at all that has come from the bot; gives what was said."""
    ground.client.notice("#news", END)
    ground.ann.wait_for(f"NOTICE #news :{END}", after=heard)
    sent = ground.wire.lines()[lines:]
    texts = []
    for line in sent[:-1]:
        # Only this command, once, and nothing in it that ends a line, a word or a text.
        assert re.fullmatch(rb"(?:NOTICE|PRIVMSG) #news :[^\x00\x01\r\n]+", line), line
        texts.append(line.split(b" :", 1)[1].decode())
    assert sent[-1] == b""
    others = [one for one in ground.ann.heard[heard:] if not re.match(rb":bot!\S+ (NOTICE|PRIVMSG) #news :", one.raw)]
    assert others == []
    assert all(len(one.raw) <= 512 for one in ground.ann.heard[heard:])
    assert len(ground.ann.heard) - heard == len(texts)
    assert texts.pop() == END
    return texts


def often(full_size: bool) -> settings:
    return settings(max_examples=3000 if full_size else 60, deadline=None)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_what_a_program_has_a_client_say(ground: Ground, full_size: bool) -> None:
    @given(st.lists(hostile, min_size=1, max_size=5))
    @often(full_size)
    def check(said: list[str]) -> None:
        lines, heard = len(ground.wire.lines()) - 1, len(ground.ann.heard)
        for text in said:
            ground.client.msg("#news", text)
        texts = everything_since(ground, lines, heard)
        # A message of nothing but blanks is none.
        assert bool(texts) == any(text.translate({0: " ", 1: " "}).strip() for text in said)

    check()


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_what_comes_over_the_bus(ground: Ground, full_size: bool) -> None:
    @given(hostile, hostile, hostile, st.sampled_from([(True, True), (True, False), (False, True), (False, False)]))
    @often(full_size)
    def check(topic: str, said: str, link: str, form: tuple[bool, bool]) -> None:
        lines, heard = len(ground.wire.lines()) - 1, len(ground.ann.heard)
        msg = {"message": said, "link": link, said: [topic]}
        body = {"topic": topic, "msg": msg, "username": said, "timestamp": 1}
        announcement = {**body, "topic": "org.fedoraproject.dev.announce.announcement"}
        for envelope in (body, announcement):
            text = ground.consumer.prettify(topic, envelope, pretty=form[0], terse=form[1])
            # The only control characters are those of its own colours.
            assert not re.search(r"[\x00-\x01\x04-\x1f\x7f-\x9f]", text)
            ground.client.notice("#news", text)
        texts = everything_since(ground, lines, heard)
        assert len(texts) >= 2

    check()


# ---------------------------------------------------------------- servers


@contextmanager
def serving(*answers: bytes, endless: bytes = b"", close: bool = False) -> Iterator[tuple[int, list[bytes]]]:
    """Be a server that says the same to everybody; gives its port and what it was sent."""
    received: list[bytes] = []
    connections: list[socket.socket] = []

    def talk(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            for answer in answers:
                connection.sendall(answer)
            while endless:
                connection.sendall(endless)
            if close:
                return
            while data := connection.recv(65536):
                received.append(data)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1], received
        listener.shutdown(socket.SHUT_RDWR)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@contextmanager
def visiting(port: int, **more: Any) -> Iterator[Client]:
    entry = {"network": "127.0.0.1", "port": port, "channel": "news", "nickname": "bot", "timeout": 0.4, **more}
    with Bots([read(entry)], SOON) as bots:
        bots.start()
        yield bots.clients[0]
        bots.stop_within(2)
        assert bots.join(10)


WELCOME = b":s 001 bot :Welcome\r\n:bot!bot@host JOIN #news\r\n:s 324 bot #news +n\r\n"


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([], "it sent nothing of use for 0.4 seconds"),
        ([b"\r\n" * 1000], "nothing of use"),
        ([b"\xff\xfe\x00\x01" * 500, b"\r\n"], "nothing of use"),
        ([b":s 001\r\n:s 433\r\n:s\r\n: \r\n:s PRIVMSG\r\nQUIT\r\n:x NICK\r\n"], "nothing of use"),
        ([b":s 433 * bot :in use\r\n" * 20], "and what is like it are taken"),
        ([b"ERROR :Closing link: you are \x02not\x02 welcome\r\n"], r"Closing link: you are \x02not\x02 welcome"),
        ([WELCOME], "nothing of use"),
        ([WELCOME, b":s 005 bot PREFIX=( CHANMODES=, X=\xff A= :are supported\r\n"], None),
        ([WELCOME, b":bot MODE #news +c-+--\r\n:bot MODE\r\n:x KICK #news\r\n:x KICK #news bot\r\n"], "nothing of use"),
        ([b"PING\r\nPING :\r\nPING x y z\r\nCAP * LS\r\nAUTHENTICATE +\r\n:s 903 bot :ok\r\n"], "nothing of use"),
    ],
)
def test_a_server_that_is_strange(answers: list[bytes], reason: str | None, caplog: pytest.LogCaptureFixture) -> None:
    with serving(*answers) as (port, _), visiting(port):
        wait_until(lambda: sum("the connection ended" in record.getMessage() for record in caplog.records) >= 2)
    assert reason is None or reason in caplog.text
    assert "Traceback" not in caplog.text


def test_a_server_that_closes_at_once(caplog: pytest.LogCaptureFixture) -> None:
    with serving(close=True) as (port, _), visiting(port):
        wait_until(lambda: sum("the connection ended" in record.getMessage() for record in caplog.records) >= 3)


@pytest.mark.parametrize("endless", [b"x" * 65536, b":s NOTICE bot :" + b"y" * 400 + b"\r\n"])
def test_a_server_that_never_stops_talking(endless: bytes, caplog: pytest.LogCaptureFixture) -> None:
    process = psutil.Process()
    with serving(WELCOME, endless=endless) as (port, _), visiting(port, timeout=5, line_rate=0) as client:
        before = process.memory_info().rss
        for number in range(50):
            client.notice("#news", f"message {number}")
        if b"\n" in endless:
            # The bot gets a word in.
            wait_until(lambda: client.waiting == 0)
        else:
            wait_until(lambda: "lines without an end" in caplog.text)
        assert process.memory_info().rss - before < 50 * 2**20


def test_passwords_are_not_written_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = {"nickserv_password": "sesame1", "server_password": "sesame2", "channel_key": "sesame3"}
    answers = b":s 001 bot :Welcome\r\n:s 900 bot bot!bot@host bot :You are now logged in\r\n"
    with serving(answers) as (port, received), visiting(port, **secrets):
        wait_until(lambda: all(secret.encode() in b"".join(received) for secret in secrets.values()), timeout=10)
    assert "sesame" not in caplog.text
    assert "TO SERVER" in caplog.text


def test_a_server_that_falls_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Ircd(tmp_path / "ircd") as server, visiting(server.port, timeout=1.5, line_rate=0) as client:
        wait_until(lambda: "joined" in caplog.text)
        with server.frozen():
            wait_until(lambda: "it sent nothing of use for 1.5 seconds" in caplog.text)
        client.notice("#news", "still there")
        wait_until(lambda: client.waiting == 0)
