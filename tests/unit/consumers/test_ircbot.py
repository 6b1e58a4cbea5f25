# SPDX-License-Identifier: LGPL-2.1-or-later
"""The consumer of the IRC bot on a stand-in hub: what it says of a message, and to whom."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import fedmsg.crypto
from fedmsg.consumers import ircbot
from fedmsg.exceptions import ConfigError
from tests.certificates import Bench

TOPIC = "org.fedoraproject.dev.logger.log"
STAMP = 1400000000


class StandIn:
    """A hub that has a configuration, and nothing else."""

    def __init__(self, **config: Any) -> None:
        self.config = {"fedmsg.consumers.ircbot.enabled": True, **config}


class Factory:
    """What a client is to be told, as programs make it that have clients of their own."""

    def __init__(self, channel: str = "#news", **how: Any) -> None:
        self.channel = channel
        self.filters: Any = how.get("filters")
        self.pretty, self.terse, self.short = how.get("pretty"), how.get("terse"), how.get("short")


class Listener:
    """A client that writes down what it is to say."""

    def __init__(self, **how: Any) -> None:
        self.factory = Factory(**how)
        self.said: list[tuple[str, str, str]] = []

    def notice(self, channel: str, text: str) -> None:
        self.said.append(("notice", channel, text))

    def msg(self, channel: str, text: str) -> None:
        self.said.append(("msg", channel, text))


@pytest.fixture
def bot() -> ircbot.IRCBotConsumer:
    return ircbot.IRCBotConsumer(StandIn(irc_color_lookup={"logger": "orange"}))


def envelope(**more: Any) -> dict[str, Any]:
    return {"topic": TOPIC, "msg": {"log": "hey"}, "timestamp": STAMP, "i": 1, "username": "threebean", **more}


def announcement(link: str) -> dict[str, Any]:
    topic = "org.fedoraproject.dev.announce.announcement"
    return {"topic": topic, "msg": {"message": "hello", "link": link}, "timestamp": STAMP, "i": 1}


def test_disabled_it_is_not_ready() -> None:
    consumer = ircbot.IRCBotConsumer(StandIn(**{"fedmsg.consumers.ircbot.enabled": False}))
    assert not consumer._initialized
    assert consumer.irc_clients == []


def test_on_a_stand_in_hub_no_connection_is_opened() -> None:
    before = threading.active_count()
    consumer = ircbot.IRCBotConsumer(StandIn(irc=[{"channel": "news", "network": "127.0.0.1", "port": 1}]))
    assert (consumer.irc_clients, consumer.die) == ([], False)
    assert threading.active_count() == before
    consumer.stop()
    assert (consumer.die, consumer.unsaid) == (True, 0)


def test_an_entry_without_a_channel_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    ircbot.IRCBotConsumer(StandIn(irc=[{"channel": "news", "colour": "blue"}, {"network": "irc.libera.chat"}]))
    assert "irc: the entry 2 has no channel and is ignored" in caplog.text
    assert "irc: the entry for 'news': 'colour' is unknown and ignored" in caplog.text


def test_a_password_without_encryption_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    entry = {"channel": "news", "nickserv_password": "sesame"}
    ircbot.IRCBotConsumer(StandIn(irc=[entry, {**entry, "ssl": True}]))
    assert caplog.text.count("a password is sent without encryption") == 1
    assert "sesame" not in caplog.text


def test_a_bad_entry_is_refused() -> None:
    with pytest.raises(ConfigError, match="'news'"):
        ircbot.IRCBotConsumer(StandIn(irc=[{"channel": "news", "port": "x"}]))


# ---------------------------------------------------------------- forms


def test_colours_have_the_numbers_of_mirc() -> None:
    assert ircbot.mirc_colors["white"] == 0
    assert ircbot.mirc_colors["light grey"] == 15
    assert sorted(ircbot.mirc_colors.values()) == list(range(16))


def test_ircprettify() -> None:
    config = {"irc_color_lookup": {"git": "red"}, "irc_default_color": "pink"}
    assert ircbot.ircprettify("git.receive", "something", "http://a.b", config) == (
        "\x034git.receive\x03 -- something \x0310http://a.b\x03"
    )
    assert ircbot.ircprettify("wiki", "something", config=config) == "\x0313wiki\x03 -- something "
    assert ircbot.ircprettify("wiki", "something") == "\x0315wiki\x03 -- something "


def test_terse_and_pretty(bot: ircbot.IRCBotConsumer) -> None:
    assert bot.prettify(TOPIC, envelope(), pretty=True, terse=True) == "\x037logger.log\x03 -- hey (threebean) "


def test_terse(bot: ircbot.IRCBotConsumer) -> None:
    assert bot.prettify(TOPIC, envelope(), terse=True) == "logger.log -- hey (threebean) "


def test_neither(bot: ircbot.IRCBotConsumer) -> None:
    line = bot.prettify("a.b.c", envelope(topic="a.b.c"))
    topic, shown = line[:31], line[31:]
    assert topic == f"{'a.b.c':<30} "
    assert shown == repr({"msg": {"log": "hey"}, "timestamp": time.ctime(STAMP), "i": 1, "username": "threebean"})


def test_pretty_is_json_in_colour(bot: ircbot.IRCBotConsumer) -> None:
    shown = envelope(topic="a.b.c", timestamp=time.ctime(STAMP))
    line = bot.prettify("a.b.c", envelope(topic="a.b.c"), pretty=True)
    assert re.search(r"\x03\d\d", line)
    plain = re.sub(r"\x03(\d\d)?", "", line)
    assert plain.startswith("a.b.c ")
    assert json.loads(plain[30:]) == {key: value for key, value in shown.items() if key != "topic"}


@pytest.mark.parametrize("pretty", [True, False])
def test_credentials_are_not_said(bot: ircbot.IRCBotConsumer, pretty: bool) -> None:
    signed = envelope(signature="c2ln", certificate="Y2VydA==", crypto="x509")
    assert bot.prettify(TOPIC, signed, pretty=pretty) == bot.prettify(TOPIC, envelope(), pretty=pretty)


@pytest.mark.parametrize("stamp", [None, "now", 1e300, float("nan"), -1e20])
def test_a_time_that_is_none(bot: ircbot.IRCBotConsumer, stamp: Any) -> None:
    assert "hey" in bot.prettify(TOPIC, envelope(timestamp=stamp))


@pytest.mark.parametrize("form", [{}, {"pretty": True}, {"terse": True}, {"pretty": True, "terse": True}])
def test_hostile_text_is_said_and_not_obeyed(bot: ircbot.IRCBotConsumer, form: dict[str, bool]) -> None:
    hostile = "\x01ACTION dies\x01\r\nQUIT :gone\x00\x034red\x03\x0f\u202e\ud800"
    line = bot.prettify(f"a.b.c.{hostile}", envelope(topic=f"a.b.c.{hostile}", msg={"log": hostile}), **form)
    assert not re.search("[\x00\x01\r\n\x0f\u202e\ud800]", line)
    assert "\x034red" not in line
    assert "QUIT :gone" in line


# ---------------------------------------------------------------- signatures


@pytest.fixture
def checking(tmp_path: Path) -> ircbot.IRCBotConsumer:
    return ircbot.IRCBotConsumer(StandIn(**Bench(tmp_path).config, validate_signatures=True))


FORMS = [({"terse": True, "pretty": True}, "\x0315{}\x03 -- {} "), ({"terse": True}, "{} -- {} "),
         ({}, "{:<30} {}"), ({"pretty": True}, "{:<30} {}")]  # fmt: skip


@pytest.mark.parametrize(("form", "line"), FORMS)
def test_an_unsigned_message_is_marked(checking: ircbot.IRCBotConsumer, form: dict[str, bool], line: str) -> None:
    assert checking.prettify(TOPIC, envelope(), **form) == line.format(TOPIC, "(unsigned)")


@pytest.mark.parametrize(("form", "line"), FORMS)
def test_an_invalid_signature_is_marked(checking: ircbot.IRCBotConsumer, form: dict[str, bool], line: str) -> None:
    signed = fedmsg.crypto.sign(envelope(), **checking.hub.config)
    forged = {**signed, "msg": {"log": "believe me"}}
    assert checking.prettify(TOPIC, forged, **form) == line.format(TOPIC, "(invalid signature!)")
    assert "hey" in checking.prettify(TOPIC, signed, **form)


def test_a_topic_that_nobody_signed_is_marked(checking: ircbot.IRCBotConsumer) -> None:
    signed = fedmsg.crypto.sign(envelope(), **checking.hub.config)
    assert "(invalid signature!)" in checking.prettify("another.topic", signed, terse=True)


def test_a_signature_is_looked_at_once(tmp_path: Path) -> None:
    # One that comes again is refused then.
    config = {**Bench(tmp_path).config, "validate_signatures": True, "max_seen_ids": 100}
    consumer = ircbot.IRCBotConsumer(StandIn(**config))
    listeners = [Listener(terse=True), Listener(terse=True, pretty=True), Listener()]
    for listener in listeners:
        consumer.add_irc_client(listener)
    signed = fedmsg.crypto.sign(envelope(msg_id="2014-abc"), **consumer.hub.config)
    consumer.consume({"topic": TOPIC, "body": signed})
    assert all("hey" in listener.said[0][2] for listener in listeners)


# ---------------------------------------------------------------- filters


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        (None, True),
        ({}, True),
        ({"topic": ["logger"]}, False),
        ({"topic": ["^logger"]}, True),
        ({"body": ["he+y"]}, False),
        ({"body": ["threebean"]}, False),
        ({"body": ["'log': 'hey'"]}, False),
        ({"topic": ["git"], "body": ["nobody"]}, True),
        ({"topic": ["git"], "body": ["hey"]}, False),
    ],
)
def test_filters(bot: ircbot.IRCBotConsumer, filters: Any, shown: bool) -> None:
    assert bot.apply_filters(bot.compile_filters(filters), TOPIC, envelope()) is shown


# ---------------------------------------------------------------- clients


def test_everybody_is_told_in_their_own_form(bot: ircbot.IRCBotConsumer) -> None:
    one, two = Listener(terse=True), Listener(channel="#two", pretty=True, terse=True)
    quiet = Listener(filters=bot.compile_filters({"topic": ["logger"]}))
    for listener in (one, two, quiet):
        bot.add_irc_client(listener)
    bot.consume({"topic": TOPIC, "body": envelope()})
    assert one.said == [("notice", "#news", "logger.log -- hey (threebean) ")]
    assert two.said == [("notice", "#two", "\x037logger.log\x03 -- hey (threebean) ")]
    assert quiet.said == []


def test_the_way_of_speaking() -> None:
    consumer = ircbot.IRCBotConsumer(StandIn(irc_method="msg"))
    listener = Listener(terse=True)
    consumer.add_irc_client(listener)
    consumer.consume({"topic": TOPIC, "body": envelope()})
    assert listener.said[0][0] == "msg"


def test_clients_come_and_go(bot: ircbot.IRCBotConsumer) -> None:
    one, two, three = Listener(), Listener(), Listener()
    for listener in (one, two, three):
        bot.add_irc_client(listener)
    bot.del_irc_clients(client=one)
    bot.del_irc_clients(factory=three.factory)
    bot.del_irc_clients()
    assert bot.irc_clients == [two]


# ---------------------------------------------------------------- links


def test_a_link_is_shortened_once_for_all(bot: ircbot.IRCBotConsumer) -> None:
    asked = []

    def shorten(link: str) -> str:
        asked.append(link)
        return "http://s"

    listeners = [Listener(terse=True, short=shorten), Listener(terse=True, pretty=True, short=shorten)]
    for listener in listeners:
        bot.add_irc_client(listener)
    for _ in range(2):
        bot.consume({"topic": "t", "body": announcement("https://a.b/c")})
    assert asked == ["https://a.b/c"]
    assert [listener.said[0][2] for listener in listeners] == [
        "announce.announcement -- hello http://s",
        "\x0315announce.announcement\x03 -- hello \x0310http://s\x03",
    ]


def test_a_shortener_that_fails(bot: ircbot.IRCBotConsumer, caplog: pytest.LogCaptureFixture) -> None:
    asked = []

    def fail(link: str) -> str:
        asked.append(link)
        raise OSError("nobody there")

    for number in range(3):
        line = bot.prettify("t", announcement(f"https://a.b/{number}"), terse=True, short=fail)
        assert line == f"announce.announcement -- hello https://a.b/{number}"
    # It is left alone for a while then.
    assert len(asked) == 1
    assert "a link is not shortened" in caplog.text


@pytest.mark.parametrize("answer", [None, 5, "http://s\r\nQUIT", "http://s\x01"])
def test_a_shortener_that_answers_nonsense(bot: ircbot.IRCBotConsumer, answer: Any) -> None:
    line = bot.prettify("t", announcement("https://a.b/c"), terse=True, short=lambda link: answer)
    assert not re.search("[\x00\x01\r\n]", line)


@pytest.mark.parametrize("link", ["", "javascript:alert()", "file:///etc/passwd", "no link", "http://a b"])
def test_what_is_no_link_is_not_shortened(
    bot: ircbot.IRCBotConsumer, caplog: pytest.LogCaptureFixture, link: str
) -> None:
    def never(_link: str) -> str:
        raise AssertionError("it was asked for")

    bot.prettify("t", announcement(link), terse=True, short=never)
    assert "not shortened" not in caplog.text


def test_it_tells_what_waits(bot: ircbot.IRCBotConsumer) -> None:
    totals = bot.__json__()["totals"]
    assert (totals["backlog"], totals["left_out"]) == (0, 0)


def test_it_never_holds_up_the_bus() -> None:
    assert ircbot.IRCBotConsumer.queue_policy == "drop"
    assert ircbot.IRCBotConsumer.validate_signatures is False


def test_names_of_the_log() -> None:
    assert ircbot.log is logging.getLogger("fedmsg.consumers.ircbot")
