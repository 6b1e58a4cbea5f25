# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the IRC bot makes of messages, on either side; prints a JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

from fedmsg.consumers import ircbot  # noqa: E402 what it warns of is nobody's business here

CONFIG: Any = {
    "fedmsg.consumers.ircbot.enabled": True,
    "topic_prefix": "org.fedoraproject",
    "topic_prefix_re": r"org\.fedoraproject\.[a-z]+",
    "environment": "dev",
    "irc": [],
    "irc_color_lookup": {"git": "red", "logger": "orange", "announce": "light blue"},
    "irc_default_color": "light grey",
    "irc_method": "notice",
    "validate_signatures": False,
    "moksha.blocking_mode": True,
    "zmq_enabled": True,
}
STAMP = 1400000000
TITLES = ["git", "git.receive", "gitlab.push", "wiki.edit", "logger.log", "", "a.git", "announce.x.y"]
FILTERS: list[Any] = [
    {"topic": [], "body": []},
    {"topic": ["logger"], "body": []},
    {"topic": ["^logger"], "body": []},
    {"topic": [], "body": ["hey", "nothing"]},
    {"topic": [], "body": ["threebean"]},
    {"topic": [], "body": ["'log': 'h"]},
    {"topic": ["x$"], "body": ["^{"]},
]


class Hub:
    """A hub that has a configuration, and little else."""

    def __init__(self) -> None:
        self.config = CONFIG
        self.topics: dict[str, Any] = {}

    def subscribe(self, *_: Any) -> None:
        """Do nothing."""


class Factory:
    """What a client is to be told."""

    channel = "#news"
    pretty = terse = short = False
    filters: Any = None


class Client:
    """Somebody who is to say something."""

    def __init__(self, filters: Any) -> None:
        self.factory = Factory()
        self.factory.filters = filters
        self.said: list[Any] = []

    def notice(self, channel: str, text: Any) -> None:
        """Write down what is to be said."""
        self.said.append([channel, text.decode() if isinstance(text, bytes) else text])


def envelope(topic: str, msg: Any) -> dict[str, Any]:
    """Make a message."""
    return {"topic": topic, "msg": msg, "timestamp": STAMP, "i": 1, "username": "threebean", "msg_id": "2014-abc"}


def main() -> None:
    """Print what the bot says."""
    # There is nobody to connect to, and at 1.1.7 there has to be a channel.
    vars(ircbot)["reactor"] = type("Reactor", (), {"__getattr__": lambda self, name: lambda *a, **k: None})()
    CONFIG["irc"] = [{"channel": "c", "network": "127.0.0.1", "port": 1, "filters": FILTERS[0]}]
    bot: Any = ircbot.IRCBotConsumer(Hub())
    show("colours", ircbot.mirc_colors)
    for title in TITLES:
        show("ircprettify", [ircbot.ircprettify(title, "said", link, config=CONFIG) for link in ("", "http://a.b")])
    messages = [
        envelope("org.fedoraproject.dev.logger.log", {"log": "hey"}),
        envelope("org.fedoraproject.prod.announce.announcement", {"message": "hello", "link": "http://a.b"}),
    ]
    for message in messages:
        topic = message["topic"]
        for form in ({"terse": True}, {"terse": True, "pretty": True}, {}):
            show("prettify", bot.prettify(topic, dict(message), **form))
        show("short", bot.prettify(topic, dict(message), terse=True, pretty=True, short=lambda link: link[::-1]))
        for filters in FILTERS:
            compiled = bot.compile_filters(filters)
            show("filters", bot.apply_filters(compiled, topic, dict(message)))
            client = Client(compiled)
            bot.irc_clients = [client]
            bot.consume({"topic": topic, "body": dict(message)})
            show("consume", client.said)


def show(what: str, value: Any) -> None:
    """Print a line."""
    sys.stdout.write(json.dumps([what, value]) + "\n")


main()
