# SPDX-License-Identifier: LGPL-2.1-or-later
"""The consumer that tells IRC channels what happens on the bus."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import fedmsg.crypto
from fedmsg import meta
from fedmsg._util import plugins
from fedmsg.config import settings
from fedmsg.consumers import FedmsgConsumer
from fedmsg.irc import configuration, forms, links, text
from fedmsg.irc.backoff import Turnstile
from fedmsg.irc.client import Client
from fedmsg.irc.session import Pace

__all__ = ["IRCBotConsumer", "ircprettify", "mirc_colors", "read_all"]

log = logging.getLogger(__name__)

#: The colours by name, with their numbers in mIRC.
mirc_colors = text.COLOURS

# What the way out takes besides speaking, in seconds.
_TO_SPARE = 0.2


def _default_link_shortener(url: str) -> str:
    """Have da.gd shorten a link; gives the link itself when that is not possible."""
    return links.ask(url)


def ircprettify(title: str, subtitle: str, link: str = "", config: Mapping[str, Any] | None = None) -> str:
    """Say a message with its title and its link in colour.

    Args:
        title: The title; its first word decides on its colour.
        subtitle: What happened.
        link: Where to read more.
        config: The configuration, of which ``irc_color_lookup`` and ``irc_default_color`` matter.
    """
    return forms.in_colour(title, subtitle, link, config or {})


class IRCBotConsumer(FedmsgConsumer):
    """Speaks in the channels of the setting ``irc``.

    On a running hub it connects to them; elsewhere it speaks to what it is given by
    `add_irc_client`: an object with ``notice(channel, text)`` and ``msg(channel, text)``, and
    ``factory`` with ``filters``, ``pretty``, ``terse``, ``short`` and ``channel``.

    Args:
        hub: The hub.

    Attributes:
        irc_clients: To whom it speaks.
        die: Whether it has been stopped.
        unsaid: How many messages were waiting to be said when it stopped.

    Raises:
        ConfigError: An entry of ``irc`` can't be used.
    """

    topic = "*"
    config_key = "fedmsg.consumers.ircbot.enabled"
    # It tells of invalid messages, without what they say.
    validate_signatures = False
    # Nobody wants to read tomorrow what happened today, and the bus must not wait for a channel.
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
        super().__init__(hub)
        if self._initialized:
            meta.make_processors(**hub.config)
            self._bots = read_all(hub.config)
            _warn(hub.config, self._bots)

    # ---------------------------------------------------------------- clients

    def _hub_prepare(self) -> None:
        """Start to connect, now that there is a hub that runs."""
        super()._hub_prepare()
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
        """Say what waits as far as there is time, and goodbye."""
        self.die = True
        until = getattr(self.hub, "stop_by", None)
        limit = float(settings.get(self.hub.config, "stop_timeout"))
        until = time.monotonic() + limit if until is None else until
        for client in self._own:
            client.stop(until - time.monotonic() - _TO_SPARE)
        for client in self._own:
            if not client.join(max(0.0, until - time.monotonic())):
                log.warning("%s: stopped while it was connecting", client.factory.name)
        self.unsaid = sum(client.waiting for client in self._own)
        super().stop()

    def _hub_totals(self) -> dict[str, int]:
        """Add how many messages wait to be said, and how many were left out."""
        waiting, left_out = (sum(getattr(one, name) for one in self._own) for name in ("waiting", "left_out"))
        return {**super()._hub_totals(), "backlog": waiting, "left_out": left_out}

    # ---------------------------------------------------------------- filters

    def compile_filters(self, filters: Mapping[str, Any] | None) -> dict[str, list[re.Pattern[str]]]:
        """Compile what is not to be said.

        Args:
            filters: Lists of regular expressions under ``topic`` and ``body``.

        Raises:
            ConfigError: One is not a regular expression.
        """
        return configuration.compile_filters(filters)

    def apply_filters(self, filters: Mapping[str, Any] | None, topic: str, msg: Any) -> bool:
        """Say whether a message is to be told.

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

    # ---------------------------------------------------------------- what is said

    def prettify(self, topic: str, msg: Any, pretty: bool = False, terse: bool = False, short: Any = False) -> str:
        """Give what to say of a message.

        Args:
            topic: The topic that it came under.
            msg: The envelope.
            pretty: Whether to use colours.
            terse: Whether to speak in English.
            short: Whether to shorten links; or a function that does.
        """
        return self._said(topic, msg, self._doubt(topic, msg), _Form(pretty, terse, short))

    def _doubt(self, topic: str, msg: Any) -> str:
        """Say in brackets why a message is not to be trusted; nothing when it is, or when nothing is checked."""
        config = self.hub.config
        if not settings.get(config, "validate_signatures"):
            return ""
        if "signature" not in msg:
            return "(unsigned)"
        if msg.get("topic") != topic or not fedmsg.crypto.validate(msg, **config):
            return "(invalid signature!)"
        return ""

    def _said(self, topic: str, msg: Any, doubt: str, form: _Form) -> str:
        config = self.hub.config
        if doubt:
            return forms.doubtful(topic, doubt, config, colours=form.pretty, terse=form.terse)
        if form.terse:
            return forms.in_words(msg, config, colours=form.pretty, shorten=self._shortener(form.short))
        return forms.whole(topic, msg, colours=form.pretty)

    def _shortener(self, short: Any) -> Callable[[str], str] | None:
        if not short:
            return None
        function = short if callable(short) else _default_link_shortener
        # Not by the function itself, which may be of any type.
        return self._shorteners.setdefault(id(function), links.Shortener(function, gives_up=not callable(short)))

    def consume(self, message: Any) -> None:
        """Tell all clients that want to know of a message.

        Args:
            message: The message, with ``topic`` and ``body``.
        """
        topic, body = message["topic"], message["body"]
        method = settings.get(self.hub.config, "irc_method")
        doubt: str | None = None
        said: dict[_Form, str] = {}
        for client in self.irc_clients:
            factory = client.factory
            if not self.apply_filters(factory.filters, topic, body):
                continue
            # A signature may be good for one look only, and a link is shortened once for all.
            if doubt is None:
                doubt = self._doubt(topic, body)
            form = _Form(factory.pretty, factory.terse, factory.short)
            if form not in said:
                said[form] = self._said(topic, body, doubt, form)
            getattr(client, method)(factory.channel, said[form])


class _Form:
    """How a message is to be said; equal forms say the same.

    Args:
        pretty: Whether in colours.
        terse: Whether in English.
        short: Whether with shortened links, or what shortens them.
    """

    def __init__(self, pretty: Any, terse: Any, short: Any) -> None:
        self.pretty, self.terse, self.short = bool(pretty), bool(terse), short
        self._key = (self.pretty, self.terse, id(short) if callable(short) else bool(short))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Form) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def read_all(config: Mapping[str, Any]) -> list[configuration.Bot]:
    """Read the setting ``irc``, leaving out entries without a channel, and load what the bots need.

    Args:
        config: The configuration.

    Raises:
        ConfigError: An entry can't be used, or a library is missing.
    """
    bots = [configuration.read(entry) for entry in settings.get(config, "irc") or () if entry.get("channel")]
    # Better now than when the first message comes.
    if bots:
        plugins.lazy("irc")
    if any(bot.pretty and not bot.terse for bot in bots):
        plugins.lazy("irc_json")
    return bots


def _warn(config: Mapping[str, Any], bots: list[configuration.Bot]) -> None:
    """Say what is left out, and what is dangerous."""
    for number, entry in enumerate(settings.get(config, "irc") or (), 1):
        if not entry.get("channel"):
            log.error("irc: the entry %d has no channel, and is left out", number)
            continue
        for line in configuration.unknown(entry):
            log.warning("irc: the entry for %r: %s", entry["channel"], line)
    for bot in bots:
        if bot.secrets and not bot.ssl:
            log.warning("%s: a password is sent without encryption; set ssl to True", bot.name)
