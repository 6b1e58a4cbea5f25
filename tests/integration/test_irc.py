# SPDX-License-Identifier: LGPL-2.1-or-later
"""The client of the IRC bot on a real server: it joins, speaks at its rate, and comes back."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedmsg.irc.bot import Bots, Client, Pace
from fedmsg.irc.configuration import read
from fedmsg.irc.session import QUIT_MESSAGE
from fedmsg.testing import free_port, wait_until
from tests.ircd import Ircd, User, Wiretap

SOON = Pace(apart=0.0, reconnect=0.1, rejoin=0.2, nickname=0.2, longest=0.5)

numbers = itertools.count(1)


@pytest.fixture(scope="module")
def ircd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ircd]:
    with Ircd(tmp_path_factory.mktemp("ircd") / "ircd") as server:
        yield server


@pytest.fixture(scope="module")
def ann(ircd: Ircd) -> Iterator[User]:
    with User(ircd.port, "ann") as user:
        yield user


@pytest.fixture
def channel(ann: User) -> str:
    """Give a channel of its own to each test, with ann as its operator."""
    name = f"#news{next(numbers)}"
    ann.join(name)
    return name


@pytest.fixture
def nick() -> str:
    return f"bot{next(numbers)}"


@pytest.fixture(autouse=True)
def _log_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fedmsg.consumers.ircbot")


def entry(server: int | Ircd, channel: str, nick: str, **more: Any) -> dict[str, Any]:
    port = server.port if isinstance(server, Ircd) else server
    return {"network": "127.0.0.1", "port": port, "channel": channel, "nickname": nick, "line_rate": 0, **more}


@contextmanager
def speaking(server: int | Ircd, channel: str, nick: str, **more: Any) -> Iterator[Client]:
    """Run a bot."""
    with Bots([read(entry(server, channel, nick, **more))], SOON) as bots:
        bots.start()
        yield bots.clients[0]
        bots.stop_within(3)
        assert bots.join(10)


def has_colours(client: Client) -> bool:
    """Return whether a bot has heard that its channel takes colours: until then the server rejects them."""
    assert client._session is not None
    return client._session._colours


def logged(caplog: pytest.LogCaptureFixture, text: str) -> Callable[[], bool]:
    return lambda: any(text in record.getMessage() for record in caplog.records)


def texts(user: User, channel: str, nick: str) -> list[str]:
    return [heard.line.split(" :", 1)[1] for heard in user.said_in(channel, nick)]


def wait_for_texts(user: User, channel: str, nick: str, wanted: list[str]) -> None:
    wait_until(lambda: texts(user, channel, nick) == wanted, what=lambda: str(texts(user, channel, nick)))


def test_it_joins_speaks_and_says_goodbye(ircd: Ircd, ann: User, channel: str, nick: str) -> None:
    with speaking(ircd, channel, nick) as client:
        client.notice(channel, "first")
        client.msg(channel, "second, with ünïcödé ☃ 😀")
        ann.wait_for(f"NOTICE {channel} :first")
        ann.wait_for(f"PRIVMSG {channel} :second, with ünïcödé ☃ 😀")
    ann.wait_for(lambda line: line.startswith(f":{nick}!") and f" QUIT :{QUIT_MESSAGE}" in line)
    assert client.waiting == 0


def test_it_never_speaks_faster_than_its_rate(ircd: Ircd, ann: User, channel: str, nick: str) -> None:
    rate = 0.25
    with speaking(ircd, channel, nick, line_rate=rate) as client:
        begun = time.monotonic()
        for number in range(10):
            client.notice(channel, f"line {number} {'x' * 500 if number == 4 else ''}")
        wait_until(lambda: len(ann.said_in(channel, nick)) == 11)
    times = [heard.at for heard in ann.said_in(channel, nick)]
    assert texts(ann, channel, nick)[:4] == [f"line {number} " for number in range(4)]
    # Between the bot and whoever listens a line may be held up, and the next then seems early; but none ever is.
    assert [number for number, at in enumerate(times) if at - begun < rate * number] == []


def test_colours_go_where_they_are_allowed(ircd: Ircd, ann: User, channel: str, nick: str) -> None:
    with speaking(ircd, channel, nick) as client:
        client.notice(channel, "\x034git\x03 -- one")
        ann.wait_for(f"NOTICE {channel} :\x034git\x03 -- one")
        ann.send(f"MODE {channel} +c")
        wait_until(lambda: not has_colours(client))
        client.notice(channel, "\x034git\x03 -- two")
        ann.wait_for(f"NOTICE {channel} :git -- two")
        ann.send(f"MODE {channel} -c")
        wait_until(lambda: has_colours(client))
        client.notice(channel, "\x034git\x03 -- three")
        ann.wait_for(f"NOTICE {channel} :\x034git\x03 -- three")


def test_a_channel_without_colours_never_sees_one(ircd: Ircd, ann: User, channel: str, nick: str) -> None:
    ann.send(f"MODE {channel} +c")
    ann.wait_for(f"MODE {channel} :+c")
    with speaking(ircd, channel, nick) as client:
        client.notice(channel, "\x0315389-ds\x03 -- one \x0310http://a.b\x03")
        wait_for_texts(ann, channel, nick, ["389-ds -- one http://a.b"])


@pytest.mark.parametrize("unit", ["x", "é", "😀", "word ", "☃ \x034red\x03 "])
def test_long_lines_are_split_and_arrive_whole(ircd: Ircd, ann: User, channel: str, nick: str, unit: str) -> None:
    said = unit * (3000 // len(unit.encode()))
    with speaking(ircd, channel, nick) as client:
        client.msg(channel, said)
        client.notice(channel, "end")
        ann.wait_for(f"NOTICE {channel} :end")
    heard = ann.said_in(channel, nick)[:-1]
    assert all(len(one.raw) <= 512 for one in heard)
    # No line is much shorter than it could be.
    assert all(len(one.raw) > 400 for one in heard[:-1])
    assert "".join(texts(ann, channel, nick)[:-1]).replace(" ", "") == said.replace(" ", "")


def test_it_comes_back_when_the_server_is_restarted(
    tmp_path: Path, nick: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Ircd(tmp_path / "ircd") as server,
        Wiretap(server.port) as wire,
        User(server.port, "ann", "#news") as ann,
        speaking(wire.port, "#news", nick) as client,
    ):
        client.notice("#news", "before")
        ann.wait_for_said("before")
        server.stop()
        wait_until(logged(caplog, "Server shutting down"))
        client.notice("#news", "meanwhile")
        wait_until(logged(caplog, "it closed the connection"))
        server.start()
        # Somebody who comes now may come too late for it.
        wait_until(lambda: b"NOTICE #news :meanwhile" in wire.lines())
        with User(server.port, "bob", "#news") as bob:
            client.notice("#news", "after")
            bob.wait_for_said("after")
        assert sum(line.startswith(b"NOTICE") for line in wire.lines()) == 3


def test_a_nickname_in_use(ircd: Ircd, ann: User, channel: str, nick: str, caplog: pytest.LogCaptureFixture) -> None:
    with User(ircd.port, nick) as other, speaking(ircd, channel, nick) as client:
        client.notice(channel, "it is me")
        ann.wait_for(lambda line: line.startswith(f":{nick}_!") and line.endswith(":it is me"))
        assert logged(caplog, "is already in use")()
        other.send("QUIT")
        # The name is free, and it takes it.
        ann.wait_for(lambda line: line.startswith(f":{nick}_!") and line.endswith(f" NICK :{nick}"))
        client.notice(channel, "me again")
        ann.wait_for(lambda line: line.startswith(f":{nick}!") and line.endswith(":me again"))


def test_a_nickname_that_is_too_long(ircd: Ircd, ann: User, channel: str, caplog: pytest.LogCaptureFixture) -> None:
    with speaking(ircd, channel, "n" * 40):
        wait_until(logged(caplog, "and what is like it are taken"))
        wait_until(logged(caplog, "the next try is in"))


def test_kicked_out_it_comes_back(
    ircd: Ircd, ann: User, channel: str, nick: str, caplog: pytest.LogCaptureFixture
) -> None:
    with speaking(ircd, channel, nick) as client:
        client.notice(channel, "one")
        ann.wait_for(f"NOTICE {channel} :one")
        ann.send(f"KICK {channel} {nick} :too loud")
        wait_until(logged(caplog, "ann kicked the bot out (too loud)"))
        client.notice(channel, "two")
        ann.wait_for(f"NOTICE {channel} :two")


@pytest.mark.parametrize(
    ("closed", "opened", "reason"),
    [
        ("+b {nick}!*@*", "-b {nick}!*@*", "banned"),
        ("+l 1", "-l", "full"),
        ("+i", "-i", "invite"),
        ("+k sesame", "-k sesame", "key"),
    ],
)
def test_a_channel_that_is_closed_is_tried_again(
    *,
    ircd: Ircd,
    ann: User,
    channel: str,
    nick: str,
    caplog: pytest.LogCaptureFixture,
    closed: str,
    opened: str,
    reason: str,
) -> None:
    ann.send(f"MODE {channel} {closed.format(nick=nick)}")
    ann.wait_for(f"MODE {channel} :+" if closed == "+i" else f"MODE {channel} +")
    with speaking(ircd, channel, nick) as client:
        client.notice(channel, "at last")
        wait_until(lambda: sum("can't join" in record.getMessage() for record in caplog.records) >= 3)
        refused = [record.getMessage() for record in caplog.records if "can't join" in record.getMessage()]
        assert all(reason in line.lower() and "tries to join in" in line for line in refused), refused
        ann.send(f"MODE {channel} {opened.format(nick=nick)}")
        ann.wait_for(f"NOTICE {channel} :at last")


def test_the_key_of_a_channel(ircd: Ircd, ann: User, channel: str, nick: str) -> None:
    ann.send(f"MODE {channel} +k sesame")
    ann.wait_for(f"MODE {channel} +k")
    with speaking(ircd, channel, nick, channel_key="sesame") as client:
        client.notice(channel, "inside")
        ann.wait_for(f"NOTICE {channel} :inside")


def test_a_line_that_is_refused_is_told(
    ircd: Ircd, ann: User, channel: str, nick: str, caplog: pytest.LogCaptureFixture
) -> None:
    with speaking(ircd, channel, nick) as client:
        client.notice(channel, "one")
        ann.wait_for(f"NOTICE {channel} :one")
        ann.send(f"MODE {channel} +m")
        ann.wait_for(f"MODE {channel} :+m")
        client.notice(channel, "two")
        wait_until(logged(caplog, "the server rejected a line"))


def test_killed_by_an_operator_it_comes_back(
    ircd: Ircd, ann: User, channel: str, nick: str, caplog: pytest.LogCaptureFixture
) -> None:
    ann.send("OPER boss boss")
    ann.wait_for(" 381 ")
    with speaking(ircd, channel, nick) as client:
        client.notice(channel, "one")
        ann.wait_for(f"NOTICE {channel} :one")
        ann.send(f"KILL {nick} :enough")
        wait_until(logged(caplog, "enough"))
        client.notice(channel, "two")
        ann.wait_for(f"NOTICE {channel} :two")


def test_too_much_to_say(ircd: Ircd, ann: User, channel: str, nick: str, caplog: pytest.LogCaptureFixture) -> None:
    with speaking(ircd, channel, nick, backlog=40, line_rate=0.02) as client:
        # More than it can say before it is connected.
        for number in range(50):
            client.notice(channel, f"message {number}")
        wait_until(lambda: f"message {49}" in texts(ann, channel, nick))
        said = texts(ann, channel, nick)
    assert said[0] == "* backlogged by 40 messages"
    assert "* dropped 10 messages" in said
    assert [line for line in said if not line.startswith("*")] == [f"message {number}" for number in range(10, 50)]
    assert logged(caplog, "too many messages wait: 1 dropped so far")()
    assert client.dropped == 10


def test_stopped_with_a_backlog_it_says_what_it_can_and_counts_the_rest(
    ircd: Ircd, ann: User, channel: str, nick: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Bots([read(entry(ircd, channel, nick, line_rate=0.4))], SOON) as bots:
        bots.start()
        client = bots.clients[0]
        for number in range(15):
            client.notice(channel, f"message {number}")
        ann.wait_for(f"NOTICE {channel} :message 0")
        bots.stop_within(3)
        assert bots.join(10)
        said = len(texts(ann, channel, nick))
        ann.wait_for(lambda line: line.startswith(f":{nick}!") and " QUIT :" in line)
    assert 1 < said < 15
    assert client.waiting == 15 - said
    assert logged(caplog, f"stopped with {15 - said} messages that were not sent")()


def test_stopped_while_it_waits_for_the_next_try(nick: str, caplog: pytest.LogCaptureFixture) -> None:
    with speaking(free_port(), "#news", nick) as client:
        client.notice("#news", "nobody hears it")
        wait_until(logged(caplog, "the next try is in"))
    assert client.waiting == 1


def test_it_speaks_in_no_other_channel(nick: str) -> None:
    with Bots([read({"channel": "news", "nickname": nick})]) as bots, pytest.raises(ValueError, match="#other"):
        bots.clients[0].notice("#other", "hello")
