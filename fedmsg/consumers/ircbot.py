# SPDX-License-Identifier: LGPL-2.1-or-later
"""The consumer that shows in IRC channels what happens on the bus."""

from __future__ import annotations

import functools
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import fedmsg.crypto
from fedmsg import meta
from fedmsg._util import plugins
from fedmsg.config import settings
from fedmsg.consumers import FedmsgConsumer
from fedmsg.exceptions import FedmsgError
from fedmsg.hub.consumer import runner_of
from fedmsg.irc import configuration, text

if TYPE_CHECKING:  # it loads asyncio and the library, and every hub has this module
    from fedmsg.irc.bot import Bots, Pace

__all__ = ["IRCBotConsumer", "ircprettify", "mirc_colors", "read_all"]

log = logging.getLogger(__name__)

#: The colours by name, with their numbers in mIRC.
mirc_colors = text.COLOURS

# What stopping takes besides sending, in seconds.
_SPARE_SECONDS = 0.2

# The service that shortens links, how long it may take, and how long one that failed is not asked, in seconds.
_SERVICE = "https://da.gd/s"
_SERVICE_TIMEOUT = 3
_SERVICE_PAUSE = 60.0
# What is shortened, and what a service may return.
_LINK = re.compile(r"https?://[^\s\x00-\x20]+", re.IGNORECASE)


def _default_link_shortener(url: str, service: str = _SERVICE) -> str:
    """Return a link that a service has shortened, or the link itself when that fails."""
    try:
        answer: str = plugins.lazy("http").get_text(service, {"url": url}, _SERVICE_TIMEOUT).strip()
    except FedmsgError as error:
        log.warning("a link is not shortened: %s", error)
        return url
    if not _LINK.fullmatch(answer) or len(answer) > max(len(url), 50):
        log.warning("a link is not shortened: %s answers %a", service, answer[:100])
        return url
    return answer


class _NotShortened(Exception):
    """There is no shorter link now; this is not cached."""


class _Shortener:
    """Caches the links that a function has shortened; one that fails is not called for a while.

    Args:
        shorten: Returns a shorter link. When it raises, that is logged, and the link stays as it is.
        gives_up: Whether it returns the link itself when it fails.
    """

    def __init__(self, shorten: Callable[[str], Any], *, gives_up: bool) -> None:
        self._shorten = shorten
        self._gives_up = gives_up
        self._cached = functools.lru_cache(256)(self._asked)
        self._not_before = 0.0

    def __call__(self, link: str) -> str:
        """Return a shorter link; what is no link is returned as it is."""
        if not _LINK.fullmatch(link) or time.monotonic() < self._not_before:
            return link
        try:
            return self._cached(link)
        except _NotShortened:
            # Otherwise every message would wait for the timeout.
            self._not_before = time.monotonic() + _SERVICE_PAUSE
            return link

    def _asked(self, link: str) -> str:
        try:
            shorter = self._shorten(link)
        except Exception as error:
            log.warning("a link is not shortened: %r", error)
            raise _NotShortened from error
        if not isinstance(shorter, str) or (self._gives_up and shorter == link):
            raise _NotShortened
        return text.harmless(shorter)


def ircprettify(title: str, subtitle: str, link: str = "", config: Mapping[str, Any] | None = None) -> str:
    """Return a line with title and link in colour, as ``irc_color_lookup`` and ``irc_default_color`` have it."""
    return text.in_colour(title, subtitle, link, config or {})


class IRCBotConsumer(FedmsgConsumer):
    """Speaks in the channels of the setting ``irc``.

    On a running hub it connects to them; elsewhere it speaks to the clients of
    `add_irc_client`: an object with ``notice(channel, text)`` and ``msg(channel, text)``, and
    ``factory`` with ``filters``, ``pretty``, ``terse``, ``short`` and ``channel``.

    Attributes:
        irc_clients: The clients that it speaks to.
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
    _pace: Pace | None = None

    def __init__(self, hub: Any) -> None:
        self.irc_clients: list[Any] = []
        self.die = False
        self.unsaid = 0
        self._bots: Bots | None = None
        self._shorteners: dict[int, _Shortener] = {}
        # The last signature that was checked, by thread.
        self._checked = threading.local()
        super().__init__(hub)
        if self._initialized:
            meta.make_processors(**hub.config)
            self._settings = read_all(hub.config)
            _warn(hub.config, self._settings)
            runner_of(self).on_start.append(self._connect)
            runner_of(self).more_totals.append(self._backlogs)

    # ---------------------------------------------------------------- clients

    def _connect(self) -> None:
        """Start to connect, now that there is a hub that runs."""
        if settings.get(self.hub.config, "validate_signatures"):
            fedmsg.crypto.checker(self.hub.config)
        if self._settings:
            self._bots = bots = plugins.lazy("irc").Bots(self._settings, self._pace)
            for client in bots.clients:
                self.add_irc_client(client)
            bots.start()

    def add_irc_client(self, client: Any) -> None:
        """Speak to a client from now on."""
        self.irc_clients = [*self.irc_clients, client]

    def del_irc_clients(self, client: Any = None, factory: Any = None) -> None:
        """Speak no more to a client, or to the clients of a factory."""
        self.irc_clients = [
            one for one in self.irc_clients if one is not client and (factory is None or one.factory is not factory)
        ]

    def stop(self) -> None:
        """Send what waits as far as there is time, and quit."""
        self.die = True
        if self._bots is not None:
            until = getattr(self.hub, "stop_by", None)
            if until is None:
                until = time.monotonic() + float(settings.get(self.hub.config, "stop_timeout"))
            self._bots.stop_within(until - time.monotonic() - _SPARE_SECONDS)
            self._bots.join(max(0.0, until - time.monotonic()))
            self.unsaid = sum(client.waiting for client in self._bots.clients)
            self._bots.abandon()
        super().stop()

    def _backlogs(self) -> dict[str, int]:
        """Return how many messages wait to be sent, and how many were dropped."""
        clients = self._bots.clients if self._bots is not None else []
        return {
            "backlog": sum(client.waiting for client in clients),
            "left_out": sum(client.dropped for client in clients),
        }

    # ---------------------------------------------------------------- filters

    def compile_filters(self, filters: Mapping[str, Any] | None) -> dict[str, list[re.Pattern[str]]]:
        """Compile the regular expressions under ``topic`` and ``body`` for what is not sent."""
        return configuration.compile_filters(filters)

    def apply_filters(self, filters: Mapping[str, Any] | None, topic: str, msg: Any) -> bool:
        """Return whether a message passes compiled filters: those for its topic and those for the repr of its body."""
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
        """Return the line for a message: with colours, in English, with a shorter link (True, or a function)."""
        config = self.hub.config
        doubt = self._doubt(topic, msg)
        if doubt:
            return text.doubtful(topic, doubt, config, colours=bool(pretty), terse=bool(terse))
        if terse:
            return text.in_words(msg, config, colours=bool(pretty), shorten=self._shortener(short))
        return text.whole(topic, msg, colours=bool(pretty))

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
        return self._shorteners.setdefault(id(function), _Shortener(function, gives_up=not callable(short)))

    def consume(self, message: Any) -> None:
        """Send a message to all clients whose filters let it pass."""
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
    """Read the setting ``irc``, except entries without a channel, and load what the bots need.

    Raises:
        ConfigError: An entry can't be used, or a library is missing.
    """
    options = {
        "users_of": lambda envelope: meta.msg2usernames(envelope, **config),
        "packages_of": lambda envelope: meta.msg2packages(envelope, **config),
    }
    bots = [configuration.read(entry, options) for entry in configuration.entries(config) if entry.get("channel")]
    # At start, not when the first message comes.
    if bots:
        plugins.lazy("irc")
    return bots


def _warn(config: Mapping[str, Any], bots: list[configuration.Bot]) -> None:
    """Log which entries are ignored, and what is dangerous."""
    for number, entry in enumerate(configuration.entries(config), 1):
        if not entry.get("channel"):
            log.error("irc: the entry %d has no channel and is ignored", number)
            continue
        for line in configuration.unknown(entry):
            log.warning("irc: the entry for %r: %s", entry["channel"], line)
    for bot in bots:
        if bot.secrets and not bot.ssl:
            log.warning("%s: a password is sent without encryption; set ssl to True", bot.name)
