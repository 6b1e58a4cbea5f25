# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processors that are declared in YAML files, without code."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from fedmsg._util import plugins
from fedmsg._util.bounded import LRU
from fedmsg.config import settings
from fedmsg.meta import _guard
from fedmsg.meta._template import BadTemplate, Template
from fedmsg.meta.base import BaseProcessor

__all__ = ["BadDeclaration", "DeclaredProcessor", "load"]

_log = logging.getLogger("fedmsg.meta")

_TEXTS = ("title", "subtitle", "long_form", "link", "icon", "secondary_icon")
_SETS = ("usernames", "packages", "objects")
_ABOUT = ("name", "description", "link", "docs", "obj", "icon", "topic_prefix_re")
_ENDINGS = (".yaml", ".yml")
# For so many topics the rule is cached: it is asked for several times for each message.
_CACHED_TOPICS = 1000
_CACHED_LENGTH = 200
_ADDRESSES = ("link", "icon", "secondary_icon")


class BadDeclaration(ValueError):
    """A file that declares no processor; the text is where in the file and what is wrong."""


class TopicPattern:
    """Matches topics against a pattern, in which ``*`` is any text without a dot and ``**`` any text.

    It steps through the topic once, with all places of the pattern that are reached as bits of a
    number: so the time is linear in the length of the topic, which strangers choose.
    """

    def __init__(self, pattern: str) -> None:
        # Bit n of a mask stands for part n of the pattern, a character or a star.
        self._masks: dict[str, int] = {}
        self._any = self._within_word = 0
        bit = 1
        for part in re.findall(r"\*\*?|[^*]", pattern, re.DOTALL):
            if part == "**":
                self._any |= bit
            elif part == "*":
                self._within_word |= bit
            else:
                self._masks[part] = self._masks.get(part, 0) | bit
            bit <<= 1
        self._end = bit

    def matches(self, topic: str) -> bool:
        """Return whether the pattern matches a whole topic."""
        masks, stars, every = self._masks, self._any | self._within_word, self._any
        reached = _skip(1, stars)
        for character in topic:
            staying = reached & (every if character == "." else stars)
            reached = _skip((reached & masks.get(character, 0)) << 1 | staying, stars)
            if not reached:
                return False
        return bool(reached & self._end)


def _skip(reached: int, stars: int) -> int:
    """Add the places behind stars, each of which may stand for nothing."""
    while (more := reached | (reached & stars) << 1) != reached:
        reached = more
    return reached


class _Rule(NamedTuple):
    """What is declared for the messages whose topic matches a pattern."""

    pattern: TopicPattern
    texts: dict[str, Template]
    sets: dict[str, list[Template]]


class DeclaredProcessor(BaseProcessor):
    """Describes messages by the templates of a declaration.

    Raises:
        BadDeclaration: It makes no sense.
    """

    def __init__(self, declaration: Any, internationalization_callable: Callable[[str], str], **config: Any) -> None:
        about = _checked(declaration, "the file", {*_ABOUT, "messages"})
        name = _text(about, "name", "")
        if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", name):
            raise BadDeclaration(f"name: {name!r} is not a word of a topic, such as 'shop'")
        self.__name__ = name
        self.__description__ = _text(about, "description", name)
        self.__link__ = _text(about, "link", "")
        self.__docs__ = _text(about, "docs", self.__link__)
        self.__obj__ = _text(about, "obj", name)
        self.__icon__ = _text(about, "icon", "") or None
        self.topic_prefix_re = _text(about, "topic_prefix_re", "") or None
        try:
            super().__init__(internationalization_callable, **config)
        except re.error as error:
            raise BadDeclaration(f"topic_prefix_re: it is not a regular expression: {error}") from error
        rules = about.get("messages") or []
        if not isinstance(rules, list):
            raise BadDeclaration("messages: it is not a list")
        self._rule_cache: LRU[str, _Rule] = LRU(_CACHED_TOPICS)
        self._rules = [self._rule(rule, f"messages[{number}]") for number, rule in enumerate(rules)]

    def _rule(self, declared: Any, where: str) -> _Rule:
        rule = _checked(declared, where, {"topic", *_TEXTS, *_SETS})
        try:
            texts = {key: self._template(rule[key], key in _ADDRESSES) for key in _TEXTS if key in rule}
            sets = {
                key: [self._template(one) for one in (rule[key] if isinstance(rule[key], list) else [rule[key]])]
                for key in _SETS
                if key in rule
            }
        except BadTemplate as error:
            raise BadDeclaration(f"{where}: {error}") from error
        return _Rule(TopicPattern(_text(rule, "topic", "**", where)), texts, sets)

    def _template(self, text: Any, address: bool = False) -> Template:
        # The translation of an empty text is the head of the catalogue.
        return Template(self._(text) if isinstance(text, str) and text else text, address=address)

    def _said(self, msg: dict[str, Any], what: str) -> str | None:
        template = self._rule_of(msg).texts.get(what)
        return None if template is None else template.fill(msg)

    def _rule_of(self, msg: dict[str, Any]) -> _Rule:
        rest = self.handle_msg(msg)
        if rest is None:
            return _NO_RULE
        rule = self._rule_cache.get(rest)
        if rule is None:
            rule = next((rule for rule in self._rules if rule.pattern.matches(rest)), _NO_RULE)
            if len(rest) <= _CACHED_LENGTH:
                self._rule_cache.put(rest, rule)
        return rule

    def _named(self, msg: dict[str, Any], what: str) -> set[str]:
        return {name for template in self._rule_of(msg).sets.get(what, ()) for name in template.values(msg)}

    @_guard.without_config
    def title(self, msg: dict[str, Any], **config: Any) -> str:
        """Return the heading that is declared, or the topic."""
        said = self._said(msg, "title")
        return super().title(msg, **config) if said is None else said

    @_guard.without_config
    def subtitle(self, msg: dict[str, Any], **config: Any) -> str:  # noqa: ARG002 the signature of all processors
        """Return the line that is declared."""
        return self._said(msg, "subtitle") or ""

    @_guard.without_config
    def long_form(self, msg: dict[str, Any], **config: Any) -> str:  # noqa: ARG002 the signature of all processors
        """Return the text that is declared."""
        return self._said(msg, "long_form") or ""

    @_guard.without_config
    def link(self, msg: dict[str, Any], **config: Any) -> str:  # noqa: ARG002 the signature of all processors
        """Return the link that is declared."""
        return self._said(msg, "link") or ""

    @_guard.without_config
    def icon(self, msg: dict[str, Any], **config: Any) -> str | None:
        """Return the icon that is declared for the message, or for all of them."""
        return self._said(msg, "icon") or super().icon(msg, **config)

    @_guard.without_config
    def secondary_icon(self, msg: dict[str, Any], **config: Any) -> str | None:  # noqa: ARG002 likewise
        """Return the second icon that is declared."""
        return self._said(msg, "secondary_icon")

    @_guard.without_config
    def usernames(self, msg: dict[str, Any], **config: Any) -> set[str]:  # noqa: ARG002 likewise
        """Return the names of the users in the declared fields."""
        return self._named(msg, "usernames")

    @_guard.without_config
    def packages(self, msg: dict[str, Any], **config: Any) -> set[str]:  # noqa: ARG002 likewise
        """Return the packages that the declared fields name."""
        return self._named(msg, "packages")

    @_guard.without_config
    def objects(self, msg: dict[str, Any], **config: Any) -> set[str]:  # noqa: ARG002 likewise
        """Return the things that the declared fields name."""
        return self._named(msg, "objects")


_NO_RULE = _Rule(TopicPattern(""), {}, {})


def _checked(value: Any, where: str, known: set[str]) -> dict[str, Any]:
    """Return a part of the file, if it is a mapping with known keys alone."""
    if not isinstance(value, dict):
        raise BadDeclaration(f"{where}: it is not a mapping of keys and values")
    unknown = sorted(map(str, value.keys() - known))
    if unknown:
        raise BadDeclaration(f"{where}: unknown key {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return value


def _text(value: Mapping[str, Any], key: str, default: str, where: str = "") -> str:
    found = value.get(key, default)
    if not isinstance(found, str):
        raise BadDeclaration(f"{where}{'.' if where else ''}{key}: {found!r} is not text")
    return found


def load(internationalization_callable: Callable[[str], str], config: Mapping[str, Any]) -> list[BaseProcessor]:
    """Make the processors that ``meta_processors`` declare; a file that can't be used is logged and skipped."""
    made: list[BaseProcessor] = []
    for path in _files(settings.get(config, "meta_processors") or ()):
        try:
            with open(path, encoding="utf-8") as file:
                declaration = plugins.lazy("yaml").load(file.read())
            made.append(DeclaredProcessor(declaration, internationalization_callable, **config))
        except (OSError, ValueError) as error:
            line = f"{error.line}:" if hasattr(error, "line") else ""
            _log.error("%s:%s %s; the processor is not loaded", path, line, error)
    return made


def _files(places: Any) -> Iterator[str]:
    """Return the files in places: those of folders, in the order of their names, and single files."""
    for place in [places] if isinstance(places, str) else places:
        path = os.path.expanduser(place)
        if os.path.isdir(path):
            yield from (os.path.join(path, name) for name in sorted(os.listdir(path)) if name.endswith(_ENDINGS))
        # A folder may be missing, as the default one mostly is; a file that was named may not.
        elif os.path.exists(path) or path.endswith(_ENDINGS):
            yield path
