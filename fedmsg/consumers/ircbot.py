# SPDX-License-Identifier: LGPL-2.1-or-later
"""The consumer that shows in IRC channels what happens on the bus."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import fedmsg.crypto
from fedmsg import meta
from fedmsg._util import plugins
from fedmsg.config import settings
from fedmsg.consumers import FedmsgConsumer
from fedmsg.exceptions import ConfigError
from fedmsg.hub.consumer import runner_of
from fedmsg.irc import configuration, forms, links, text
from fedmsg.irc.client import Client
from fedmsg.irc.session import Pace, Turnstile

__all__ = ["IRCBotConsumer", "ircprettify", "mirc_colors", "read_all"]

log = logging.getLogger(__name__)

#: The colours by name, with their numbers in mIRC.
mirc_colors = text.COLOURS

# What stopping takes besides speaking, in seconds.
_SPARE_SECONDS = 0.2


def _default_link_shortener(url: str) -> str:
    """Return a link that da.gd has shortened, or the link itself when that is not possible."""
    return links.ask(url)


def ircprettify(title: str, subtitle: str, link: str = "", config: Mapping[str, Any] | None = None) -> str:
    """Return a line with title and link in colour.

    Args:
        title: The title; its first word decides on its colour.
        subtitle: What happened.
        link: Where to read more.
        config: The configuration, of which ``irc_color_lookup`` and ``irc_default_color`` matter.
    """
    return forms.in_colour(title, subtitle, link, config or {})


class IRCBotConsumer(FedmsgConsumer):
    """Speaks in the channels of the setting ``irc``.

    On a running hub it connects to them; elsewhere it speaks to the clients of
    `add_irc_client`: an object with ``notice(channel, text)`` and ``msg(channel, text)``, and
    ``factory`` with ``filters``, ``pretty``, ``terse``, ``short`` and ``channel``.

    Args:
        hub: The hub.

    Attributes:
        irc_clients: The clients that it speaks to.
        die: Whether it has been stopped.
        unsaid: How many messages waited to be sent when it stopped.

    Raises:
        ConfigError: An entry of ``irc`` can't be used.
    """

    topic = "*"
    config_key = "fedmsg.consumers.ircbot.enabled"
    # It reports invalid messages, without their content.
    validate_signatures = False
    # Old news is of no use, and the bus must not wait for a channel.
    queue_policy = "drop"

    log = log
    _pace = Pace()

    def __init__(self, hub: Any) -> None:
        self.irc_clients: list[Any] = []
        self.die = False
        self.unsaid = 0
        self._bots: list[configuration.Bot] = []
        self._own: list[Client] = []
        self._shorteners: dict[int, links.Shortener] = {}
        # The last signature that was checked, by thread.
        self._checked = threading.local()
        super().__init__(hub)
        if self._initialized:
            meta.make_processors(**hub.config)
            self._bots = read_all(hub.config)
            _warn(hub.config, self._bots)
            runner_of(self).on_start.append(self._connect)
            runner_of(self).more_totals.append(self._backlogs)

    # ---------------------------------------------------------------- clients

    def _connect(self) -> None:
        """Start to connect, now that there is a hub that runs."""
        if settings.get(self.hub.config, "validate_signatures"):
            fedmsg.crypto.checker(self.hub.config)
        turnstile = Turnstile(self._pace.apart)
        for bot in self._bots:
            client = Client(bot, turnstile, self._pace)
            self._own.append(client)
            self.add_irc_client(client)
        for client in self._own:
            client.start()

    def add_irc_client(self, client: Any) -> None:
        """Speak to a client from now on.

        Args:
            client: The client.
        """
        self.irc_clients = [*self.irc_clients, client]

    def del_irc_clients(self, client: Any = None, factory: Any = None) -> None:
        """Speak no more to some clients.

        Args:
            client: The client.
            factory: Or the factory of the clients.
        """
        self.irc_clients = [
            one for one in self.irc_clients if one is not client and (factory is None or one.factory is not factory)
        ]

    def stop(self) -> None:
        """Send what waits as far as there is time, and quit."""
        self.die = True
        until = getattr(self.hub, "stop_by", None)
        limit = float(settings.get(self.hub.config, "stop_timeout"))
        until = time.monotonic() + limit if until is None else until
        for client in self._own:
            client.stop_within(until - time.monotonic() - _SPARE_SECONDS)
        for client in self._own:
            if client.join(max(0.0, until - time.monotonic())):
                client.close()
            else:
                log.warning("%s: stopped while it was connecting", client.factory.name)
        self.unsaid = sum(client.waiting for client in self._own)
        super().stop()

    def _backlogs(self) -> dict[str, int]:
        """Return how many messages wait to be sent, and how many were dropped."""
        waiting, left_out = (sum(getattr(one, name) for one in self._own) for name in ("waiting", "left_out"))
        return {"backlog": waiting, "left_out": left_out}

    # ---------------------------------------------------------------- filters

    def compile_filters(self, filters: Mapping[str, Any] | None) -> dict[str, list[re.Pattern[str]]]:
        """Compile the expressions for what is not sent.

        Args:
            filters: Lists of regular expressions under ``topic`` and ``body``.

        Raises:
            ConfigError: One is not a regular expression.
        """
        return configuration.compile_filters(filters)

    def apply_filters(self, filters: Mapping[str, Any] | None, topic: str, msg: Any) -> bool:
        """Return whether a message is to be shown.

        Args:
            filters: What `compile_filters` returned.
            topic: The topic, in which the expressions for it are searched.
            msg: The body, in whose repr the others are searched.
        """
        filters = filters or {}
        if any(expression.search(topic) for expression in filters.get("topic") or ()):
            return False
        in_body = filters.get("body") or ()
        if not in_body:
            return True
        shown = repr(msg)
        return not any(expression.search(shown) for expression in in_body)

    # ---------------------------------------------------------------- what is sent

    def prettify(self, topic: str, msg: Any, pretty: bool = False, terse: bool = False, short: Any = False) -> str:
        """Return the line for a message.

        Args:
            topic: The topic that it came under.
            msg: The envelope.
            pretty: Whether to use colours.
            terse: Whether in English.
            short: Whether to shorten links, or a function that does.
        """
        config = self.hub.config
        doubt = self._doubt(topic, msg)
        if doubt:
            return forms.doubtful(topic, doubt, config, colours=bool(pretty), terse=bool(terse))
        if terse:
            return forms.in_words(msg, config, colours=bool(pretty), shorten=self._shortener(short))
        return forms.whole(topic, msg, colours=bool(pretty))

    def _doubt(self, topic: str, msg: Any) -> str:
        """Return in brackets why a message is not trusted; an empty text when it is, or when nothing is checked."""
        config = self.hub.config
        if not settings.get(config, "validate_signatures"):
            return ""
        # A message is sent in several forms, but its signature is checked once.
        checked = getattr(self._checked, "last", None)
        if checked is not None and checked[0] is msg and checked[1] == topic:
            return str(checked[2])
        if "signature" not in msg:
            return "(unsigned)"
        if msg.get("topic") != topic or not fedmsg.crypto.validate(msg, **config):
            return "(invalid signature!)"
        return ""

    def _shortener(self, short: Any) -> Callable[[str], str] | None:
        if not short:
            return None
        function = short if callable(short) else _default_link_shortener
        # Not by the function itself, which may be of any type.
        return self._shorteners.setdefault(id(function), links.Shortener(function, gives_up=not callable(short)))

    def consume(self, message: Any) -> None:
        """Send a message to all clients whose filters let it pass.

        Args:
            message: The message, with ``topic`` and ``body``.
        """
        topic, body = message["topic"], message["body"]
        method = settings.get(self.hub.config, "irc_method")
        lines: dict[tuple[bool, bool, Any], str] = {}
        try:
            for client in self.irc_clients:
                factory = client.factory
                if not self.apply_filters(factory.filters, topic, body) or not _is_wanted(factory, body):
                    continue
                short = factory.short
                form = (bool(factory.pretty), bool(factory.terse), id(short) if callable(short) else bool(short))
                if form not in lines:
                    self._checked.last = (body, topic, self._doubt(topic, body))
                    lines[form] = self.prettify(topic, body, factory.pretty, factory.terse, short)
                getattr(client, method)(factory.channel, lines[form])
        finally:
            self._checked.last = None


def _is_wanted(factory: Any, envelope: Any) -> bool:
    """Return whether the filter ``only`` of a channel selects a message; other programs' clients have none."""
    only = getattr(factory, "only", None)
    return only is None or bool(only.matches(envelope))


def read_all(config: Mapping[str, Any]) -> list[configuration.Bot]:
    """Read the setting ``irc``, leaving out entries without a channel, and load what the bots need.

    Args:
        config: The configuration.

    Raises:
        ConfigError: An entry can't be used, or a library is missing.
    """
    options = {
        "users_of": lambda envelope: meta.msg2usernames(envelope, **config),
        "packages_of": lambda envelope: meta.msg2packages(envelope, **config),
    }
    entries = [entry for entry in _entries(config) if entry.get("channel")]
    bots = [configuration.read(entry, options) for entry in entries]
    # At start, not when the first message comes.
    if bots:
        plugins.lazy("irc")
    return bots


def _entries(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of ``irc``; an error does not show them, since they may hold passwords."""
    entries = settings.get(config, "irc") or []
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ConfigError("irc: it is not a list of dicts; write [{'network': 'irc.libera.chat', 'channel': 'news'}]")
    return list(entries)


def _warn(config: Mapping[str, Any], bots: list[configuration.Bot]) -> None:
    """Warn of what is left out, and of what is dangerous."""
    for number, entry in enumerate(_entries(config), 1):
        if not entry.get("channel"):
            log.error("irc: the entry %d has no channel, and is left out", number)
            continue
        for line in configuration.unknown(entry):
            log.warning("irc: the entry for %r: %s", entry["channel"], line)
    for bot in bots:
        if bot.secrets and not bot.ssl:
            log.warning("%s: a password is sent without encryption; set ssl to True", bot.name)
