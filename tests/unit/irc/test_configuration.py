# SPDX-License-Identifier: LGPL-2.1-or-later
"""The entries of the setting ``irc``: what they become, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fedmsg.config import settings
from fedmsg.exceptions import ConfigError
from fedmsg.irc import configuration


def test_the_defaults() -> None:
    bot = configuration.read({"channel": "news"})
    assert bot == configuration.Bot("#news")
    assert (bot.network, bot.port, bot.ssl, bot.nickname) == ("irc.libera.chat", 6667, False, "fedmsg-bot")
    assert (bot.timeout, bot.rate, bot.pretty, bot.terse, bot.short) == (120.0, 1.0, False, False, False)


def test_the_sample_bot_of_conf_is_in_order() -> None:
    bot = configuration.read(settings.TABLE["irc"].conf_default[0])
    assert (bot.channel, bot.network, bot.rate) == ("#my-fedmsg-channel", "irc.freenode.net", 0.9)
    assert (bot.pretty, bot.terse, bot.short) == (True, True, True)
    assert bot.filters == {"topic": [], "body": [re.compile("lub-dub")]}


@pytest.mark.parametrize(
    ("given", "is_called"), [("news", "#news"), ("#news", "#news"), ("##news", "##news"), ("&news", "&news")]
)
def test_channels(given: str, is_called: str) -> None:
    assert configuration.read({"channel": given}).channel == is_called


@pytest.mark.parametrize(("more", "port"), [({}, 6697), ({"port": 7000}, 7000), ({"port": "7000"}, 7000)])
def test_the_port_with_tls(more: dict[str, Any], port: int) -> None:
    assert configuration.read({"channel": "c", "ssl": True, **more}).port == port


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("network", "a b", "'a b' has a character that can't be in it"),
        ("network", 5, "write text in quotes"),
        ("port", 0, "0 is not a whole number from 1 to 65535"),
        ("port", "x", "'x' is not a whole number"),
        ("port", True, "True is not a whole number"),
        ("nickname", "two words", "is no name on IRC"),
        ("nickname", "x\r\nQUIT", "is no name on IRC"),
        ("nickname", "9lives", "is no name on IRC"),
        ("channel", "a,b", "can't be in it"),
        ("channel", "a\nQUIT", "can't be in it"),
        ("channel", "#a\x07", "can't be in it"),
        ("channel_key", "a b", "can't be in it"),
        ("timeout", 0, "more than 0 seconds"),
        ("timeout", "soon", "'soon' is not a number of seconds"),
        ("line_rate", -1, "-1 is not a number of seconds"),
        ("line_rate", float("nan"), "is not a number of seconds"),
        ("make_pretty", "yes", "write True or False"),
        ("make_short", "yes", "write True or False"),
        ("backlog", 0, "0 is not a whole number from 1"),
        ("filters", {"topic": ["("]}, "'(' is no regular expression"),
        ("filters", {"topic": [5]}, "5 is no regular expression"),
        ("nickserv_password", "a\r\nQUIT", "can't be in it"),
        ("nickserv_password_file", "/nowhere", "can't read /nowhere: No such file"),
        ("only", {"topic": ["a"], "colour": ["b"]}, "only: unknown key 'colour'; there are topics, users, "),
        ("only", {"where": ["=x"]}, "'=x' is not a condition"),
        ("only", "org.example", "only: it is not a dict; write {'topics': "),
        ("ssl_ca", "/nowhere", "no certificates can be read from /nowhere: No such file"),
        ("ssl_ca", __file__, "no certificates can be read from"),
        ("sasl_username", "x", "go together"),
    ],
)
def test_what_is_refused(key: str, value: Any, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configuration.read({"channel": "news", key: value})
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_unknown_is_told_and_counts_for_nothing() -> None:
    """1.x let it pass."""
    entry = {"channel": "news", "colour": "blue", "filters": {"topics": ["a"], "body": ["b"]}}
    bot = configuration.read(entry)
    assert bot == configuration.read({"channel": "news", "filters": {"body": ["b"]}})
    colour, topics = configuration.unknown(entry)
    assert colour.startswith("'colour' is unknown and ignored; known are: backlog, channel, ")
    assert topics == "filters: 'topics' is unknown and ignored; write 'topic' or 'body'"
    assert configuration.unknown({"channel": "news", "sasl_password_file": "x", "filters": None}) == []


def test_all_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        configuration.read({"channel": "news", "port": 0, "nickname": "a b", "line_rate": "x"})
    assert str(caught.value).startswith("the entry of 'irc' for 'news' can't be used: port: ")
    assert str(caught.value).count(";") >= 2


def test_a_server_may_ask_for_a_password_besides_the_login() -> None:
    bot = configuration.read({"channel": "c", "sasl_username": "a", "sasl_password": "b", "server_password": "c"})
    assert (bot.sasl_password, bot.server_password) == ("b", "c")


def test_none_is_the_default() -> None:
    assert configuration.read({"channel": "c", "port": None, "sasl_password": None}) == configuration.Bot("#c")


def test_a_password_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sesame\n", encoding="utf-8")
    bot = configuration.read({"channel": "c", "sasl_username": "a", "sasl_password_file": str(tmp_path / "secret")})
    assert bot.sasl_password == "sesame"
    assert bot.secrets


def test_passwords_are_not_shown() -> None:
    bot = configuration.Bot("#c", channel_key="s1", sasl_password="s2", nickserv_password="s3", server_password="s4")
    assert not re.search(r"s\d", repr(bot))


@pytest.mark.parametrize("nothing", [None, {}, {"topic": None}, {"topic": [], "body": []}])
def test_filters_may_be_empty(nothing: Any) -> None:
    assert configuration.compile_filters(nothing) == {"topic": [], "body": []}


def test_a_filter_may_be_a_single_text() -> None:
    assert configuration.compile_filters({"topic": "abc"})["topic"] == [re.compile("abc")]
