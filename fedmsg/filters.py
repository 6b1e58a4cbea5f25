# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one filter language: which messages a program wants, by topic, users, packages and fields.

All parts of a filter must match (AND); of several values of one part, one must match (OR), but
all ``where`` terms must. The ``not_…`` twin of a part excludes what the part would select.

==============  ====================================================================================
``topics``      beginnings of topics; ``*`` stands for any text, dots too: ``org.*.bodhi``
``users``       names; the message is about at least one of these users
``packages``    names; the message is about at least one of these packages
``where``       terms about fields of the message, see `Term`: ``msg.update.status=testing``
==============  ====================================================================================
"""

from __future__ import annotations

import math
import operator
import re
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from fedmsg._util.bounded import LRU
from fedmsg.exceptions import ConfigError, UsageError

__all__ = ["MessageFilter", "NamesOf", "SubscriptionIndex", "Term", "TopicFilter"]

#: Returns the users or the packages that a message is about.
NamesOf = Callable[[Mapping[str, Any]], Iterable[str]]

# The text before the first ``*`` of a glob, and the texts between and after its stars.
_Glob = tuple[str, tuple[str, ...]]

_PARTS = ("topics", "users", "packages", "where")
# The key in a configuration or on a command line, and the part that it stands for.
_KEYS = {
    negation + name: negation + part
    for negation in ("", "not_")
    for part in _PARTS
    for name in (part, part.removesuffix("s"))
}
_HTTP_NAMES = {"topics": "topic", "users": "user", "packages": "package", "where": "where"}
_SEPARATED_BY_COMMAS = ("users", "packages")

# A regular expression of the user searches so much of a field; messages may be of any length.
_SEARCHED_CHARACTERS = 65_536

_TERM = re.compile(r"\s*([^\s=!~<>]+)\s*(?:(!=|>=|<=|=|~|>|<)(.*)|exists\s*)?", re.DOTALL)
_FORMS = "write PATH=VALUE (or !=, ~, >, >=, <, <=), or 'PATH exists', as in msg.update.status=testing"
# For so many topics of at most so many characters the members of an index are cached.
_CACHED_TOPICS = 4096
_CACHED_TOPIC_LENGTH = 250

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


class TopicFilter:
    """Matches topics against beginnings and globs, in time linear in the length of the topic.

    Args:
        topics: What to match; without any, and with the empty one, every topic matches.
        strict: Whether a topic has to match as a whole, as with ``zmq_strict``.
        globs: Whether ``*`` stands for any text. Otherwise it is removed, wherever it stands: so
            the topics of hub consumers and WebSocket clients have always been read.
    """

    def __init__(self, topics: Iterable[str] = (), *, strict: bool = False, globs: bool = True) -> None:
        wanted = [topic if globs else topic.replace("*", "") for topic in topics]
        self._strict = strict
        self.everything = not wanted or any(not topic.strip("*") for topic in wanted)
        beginnings: list[str] = []
        whole: set[str] = set()
        self._globs: list[_Glob] = []
        for topic in wanted:
            first, *rest = topic.split("*")
            if any(rest):
                self._globs.append((first, tuple(rest)))
            elif strict and not rest:
                whole.add(first)
            else:
                beginnings.append(first)
        self._whole = frozenset(whole)
        self._beginnings = tuple(beginnings)

    def __call__(self, topic: str) -> bool:
        """Return whether a topic matches."""
        return self.matches(topic)

    def matches(self, topic: str) -> bool:
        """Return whether a topic matches."""
        if self.everything or topic in self._whole or topic.startswith(self._beginnings):
            return True
        return any(_glob_matches(first, rest, topic, self._strict) for first, rest in self._globs)

    def prefixes(self) -> tuple[str, ...]:
        """Return what to subscribe to at the transport: every topic that matches begins with one of these."""
        if self.everything:
            return ("",)
        found: list[str] = []
        for prefix in sorted({*self._whole, *self._beginnings, *(first for first, _ in self._globs)}):
            if not found or not prefix.startswith(found[-1]):
                found.append(prefix)
        return tuple(found)


def _glob_matches(first: str, rest: tuple[str, ...], topic: str, strict: bool) -> bool:
    """Return whether a topic matches a glob; the leftmost place for each part is always the best."""
    if not topic.startswith(first):
        return False
    position = len(first)
    middle, last = (rest[:-1], rest[-1]) if strict else (rest, "")
    for part in middle:
        found = topic.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return len(topic) - len(last) >= position and topic.endswith(last)


Member = TypeVar("Member", bound=Hashable)


class SubscriptionIndex(Generic[Member]):
    """Finds the members that have subscribed to a topic; any thread may read while one changes it.

    A subscription is the beginning of topics; a ``*`` in it is removed, and the empty one is every topic.

    Args:
        strict: Whether a topic has to match as a whole, as with ``zmq_strict``.
        prefixes_max: With more subscriptions that differ, ``prefixes`` is the empty one, which costs less.

    Attributes:
        prefixes: Every topic that a member has subscribed to begins with one of these; for `str.startswith`.
    """

    def __init__(self, *, strict: bool = False, prefixes_max: int | None = None) -> None:
        self.prefixes: tuple[str, ...] = ()
        self._strict, self._prefixes_max = strict, prefixes_max
        self._lock = threading.Lock()
        # By member: topics as they were subscribed to, without their stars, and what matches them. A change
        # replaces the filters, since other threads go through them.
        self._topics: dict[Member, dict[str, str]] = {}
        self._filters: dict[Member, TopicFilter] = {}
        self._counts: Counter[str] = Counter()
        self._cache: LRU[str, tuple[Member, ...]] = LRU(_CACHED_TOPICS)

    def add(self, member: Member, topic: str) -> int:
        """Add a subscription; return how many the member has."""
        with self._lock:
            topics = self._topics.setdefault(member, {})
            if topic not in topics:
                topics[topic] = prefix = topic.replace("*", "")
                self._counts[prefix] += 1
                self._change({**self._filters, member: TopicFilter(topics.values(), strict=self._strict)})
            return len(topics)

    def remove(self, member: Member) -> None:
        """Remove a member, if it is there."""
        with self._lock:
            topics = self._topics.pop(member, {})
            for prefix in topics.values():
                self._counts[prefix] -= 1
                if not self._counts[prefix]:
                    del self._counts[prefix]
            if topics:
                self._change({one: wanted for one, wanted in self._filters.items() if one != member})

    def matching(self, topic: str) -> tuple[Member, ...]:
        """Return the members that have subscribed to a topic, each once."""
        # Before the filters: what is found in old ones goes into the old cache.
        cache = self._cache
        found = cache.get(topic)
        if found is None:
            found = tuple(member for member, wanted in self._filters.items() if wanted.matches(topic))
            if len(topic) <= _CACHED_TOPIC_LENGTH:
                cache.put(topic, found)
        return found

    @property
    def members(self) -> tuple[Member, ...]:
        """All members, in the order of their first subscription."""
        return tuple(self._filters)

    @property
    def topics(self) -> dict[str, list[Member]]:
        """The members of each topic, as it was subscribed to."""
        found: dict[str, list[Member]] = {}
        with self._lock:
            for member, topics in self._topics.items():
                for topic in topics:
                    found.setdefault(topic, []).append(member)
        return found

    def _change(self, filters: dict[Member, TopicFilter]) -> None:
        self._filters = filters
        self._cache = LRU(_CACHED_TOPICS)
        if self._prefixes_max is not None and len(self._counts) > self._prefixes_max:
            self.prefixes = ("",)
        else:
            self.prefixes = TopicFilter(self._counts).prefixes() if self._counts else ()


class Term:
    """One condition on a field of a message, such as ``msg.update.status=testing``.

    The path consists of keys, and of numbers for the items of a list; a key after a list is looked
    up in each of its items. Where a path leads to several values, or to a list, one of them must match.

    ============  ==================================================================================
    ``=``         equal: text, a number, ``true``, ``false`` or ``null``
    ``!=``        the opposite of ``=``; it matches where the field is missing, too
    ``~``         a regular expression that is found somewhere in the value
    ``> >= < <=`` numbers with numbers; other text by the order of its characters
    ``exists``    the field is there, whatever it holds; a path alone means the same
    ============  ==================================================================================

    Attributes:
        is_pattern: Whether it is a regular expression, which can take for ever to search.
        path: The keys of the field.
        sign: The sign; None for one that only has to exist.
        value: What it is compared with, as text.
        number: The same as a number; None where it is none.

    Raises:
        UsageError: It is none.
    """

    def __init__(self, text: str) -> None:
        found = _TERM.fullmatch(text)
        if found is None:
            raise UsageError(f"{text!r} is not a condition; {_FORMS}")
        path, sign, value = found.groups()
        self.text = text
        self.path, self.sign = path.split("."), sign
        self.value = (value or "").strip()
        self.number = _number(self.value)
        if not all(self.path):
            raise UsageError(f"{text!r}: the path {path!r} has an empty key; {_FORMS}")
        self._opposite = sign == "!="
        self.is_pattern = sign == "~"
        self._test = _test(text, sign, self.value)

    def matches(self, envelope: Mapping[str, Any]) -> bool:
        """Return whether a message meets the condition."""
        return self._opposite != any(map(self._test, _values(envelope, self.path)))

    def __repr__(self) -> str:
        return f"Term({self.text!r})"


def _test(text: str, sign: str | None, value: str) -> Callable[[Any], bool]:
    """Return the test of one value for the sign of a condition."""
    if sign is None:
        return lambda _found: True
    if sign == "~":
        expression = _compile(text, value)
        return lambda found: (
            not isinstance(found, dict) and expression.search(_as_text(found)[:_SEARCHED_CHARACTERS]) is not None
        )
    number = _number(value)
    if sign in _COMPARISONS:
        return _comparison(_COMPARISONS[sign], value, number)
    if number is None:
        return lambda found: not isinstance(found, dict) and _as_text(found) == value
    return lambda found: found == number if _is_number(found) else found == value


def _comparison(compare: Callable[[Any, Any], bool], value: str, number: float | None) -> Callable[[Any], bool]:
    if number is None:
        return lambda found: isinstance(found, str) and compare(found, value)
    return lambda found: _is_number(found) and compare(found, number)


def _compile(text: str, expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"{text!r}: {expression!r} is not a regular expression: {error}") from error


def _number(value: str) -> float | None:
    """Return the number that a text writes, or None."""
    for kind in (int, float):
        try:
            number = kind(value)
        except ValueError:
            continue
        return number if kind is int or math.isfinite(number) else None
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _as_text(value: Any) -> str:
    """Return a value as JSON writes it, but text without quotes."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    try:
        return str(value)
    except ValueError:  # a number with more digits than Python writes
        return ""


def _values(envelope: Any, path: list[str]) -> Iterator[Any]:
    """Return what a path leads to; the items and the list itself where that is a list."""
    places: list[Any] = [envelope]
    for key in path:
        places = [found for place in places for found in _step(place, key)]
    for place in places:
        if isinstance(place, list):
            # An empty list is there, too; no sign but `exists` matches it.
            yield from place or [{}]
        else:
            yield place


def _step(place: Any, key: str) -> list[Any]:
    """Return what a key leads to from one place."""
    if isinstance(place, Mapping):
        return [place[key]] if key in place else []
    if not isinstance(place, list):
        return []
    if key.isascii() and key.isdigit() and len(key) < 10:
        return place[int(key) : int(key) + 1]
    return [item[key] for item in place if isinstance(item, Mapping) and key in item]


class MessageFilter:
    """Decides which messages are wanted, see the table of this module.

    Args:
        topics: Beginnings or globs of topics; this and the next parts are described at the top of this module.
        where: Conditions, see `Term`.
        not_where: Conditions, none of which may be met.
        strict: Whether a topic has to match as a whole.
        users_of: Returns the users of a message; needed for ``users`` and ``not_users``.
        packages_of: Returns the packages of a message.

    Raises:
        UsageError: A condition is none.
    """

    def __init__(
        self,
        *,
        topics: Iterable[str] = (),
        users: Iterable[str] = (),
        packages: Iterable[str] = (),
        where: Iterable[str] = (),
        not_topics: Iterable[str] = (),
        not_users: Iterable[str] = (),
        not_packages: Iterable[str] = (),
        not_where: Iterable[str] = (),
        strict: bool = False,
        users_of: NamesOf | None = None,
        packages_of: NamesOf | None = None,
    ) -> None:
        given = (topics, users, packages, where, not_topics, not_users, not_packages, not_where)
        names = [*_PARTS, *(f"not_{part}" for part in _PARTS)]
        self._given = {name: list(dict.fromkeys(values)) for name, values in zip(names, given, strict=True)}
        self._strict = strict
        self._topics = TopicFilter(self._given["topics"], strict=strict)
        excluded = self._given["not_topics"]
        self._excluded = TopicFilter(excluded, strict=strict) if excluded else None
        self._names = [
            (wanted, frozenset(self._given[key]), _checked(names_of, part))
            for part, names_of in (("users", users_of), ("packages", packages_of))
            for wanted, key in ((True, part), (False, f"not_{part}"))
            if self._given[key]
        ]
        self._where = [(True, Term(text)) for text in self._given["where"]]
        self._where += [(False, Term(text)) for text in self._given["not_where"]]

    @classmethod
    def from_flags(cls, flags: Mapping[str, Any], **options: Any) -> MessageFilter:
        """Make a filter of the flags of a command; other flags are ignored.

        Args:
            flags: ``topic``, ``users``, ``packages``, ``where`` and their ``not_`` twins: text, a
                list, or None. Users and packages may be separated by commas.
            options: ``strict``, ``users_of``, ``packages_of``.

        Raises:
            UsageError: One makes no sense; the error names the flag.
        """
        return cls._read({key: flags[key] for key in _KEYS if key in flags}, options, _flag)

    @classmethod
    def from_config(cls, value: Any, setting: str, **options: Any) -> MessageFilter:
        """Make a filter of a configured dict; None is a filter that everything matches.

        Args:
            value: A dict with the parts of a filter: each is text or a list.
            setting: The name of the setting, for errors.
            options: ``strict``, ``users_of``, ``packages_of``.

        Raises:
            ConfigError: It makes no sense; the error names the setting and the key.
        """
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise ConfigError(f"{setting}: it is not a dict; write {{'topics': ['org.fedoraproject.prod.bodhi']}}")
        unknown = sorted(str(key) for key in value if key not in _KEYS)
        if unknown:
            raise ConfigError(f"{setting}: unknown key {unknown[0]!r}; there are {', '.join(_names())}")
        try:
            return cls._read(value, options, lambda key: f"{setting}[{key!r}]")
        except UsageError as error:
            raise ConfigError(str(error)) from error

    @classmethod
    def _read(cls, given: Mapping[str, Any], options: dict[str, Any], name: Callable[[str], str]) -> MessageFilter:
        """Make a filter of a mapping whose errors are named by a function."""
        parts: dict[str, Any] = {}
        for key, value in given.items():
            texts = _as_texts(value, _KEYS[key].removeprefix("not_") in _SEPARATED_BY_COMMAS)
            if texts is None:
                raise UsageError(f"{name(key)}: {value!r} is neither text nor a list of texts")
            if _KEYS[key].endswith("where"):
                for text in texts:
                    _named_term(text, name(key))
            parts.setdefault(_KEYS[key], []).extend(texts)
        return cls(**parts, **options)

    def matches(self, envelope: Mapping[str, Any]) -> bool:
        """Return whether a message is wanted."""
        return (
            self.matches_topic(str(envelope.get("topic") or ""))
            and all(wanted == term.matches(envelope) for wanted, term in self._where)
            and all(wanted != names.isdisjoint(names_of(envelope) or ()) for wanted, names, names_of in self._names)
        )

    def matches_topic(self, topic: str) -> bool:
        """Return whether a message of a topic may be wanted: what can be decided without its body."""
        return self._topics.matches(topic) and not (self._excluded and self._excluded.matches(topic))

    @property
    def has_patterns(self) -> bool:
        """Whether there are regular expressions among the conditions."""
        return any(term.is_pattern for _, term in self._where)

    @property
    def given(self) -> Mapping[str, list[str]]:
        """The values of each part by its name, those with ``not_`` too, for those who translate the filter."""
        return self._given

    def prefixes(self) -> tuple[str, ...]:
        """Return what to subscribe to at the transport: topics of wanted messages begin with one of these."""
        return self._topics.prefixes()

    def to_params(self) -> list[tuple[str, str]]:
        """Return the filter as parameters of an HTTP query, where a topic without ``*`` is a whole topic."""
        return [
            (negation + _HTTP_NAMES[part], self._as_whole(text) if part == "topics" else text)
            for negation in ("", "not_")
            for part in _PARTS
            for text in self._given[negation + part]
            if negation + part != "topics" or not self._topics.everything
        ]

    def _as_whole(self, topic: str) -> str:
        return topic if self._strict or topic.endswith("*") else f"{topic}*"

    def __repr__(self) -> str:
        return f"MessageFilter({', '.join(f'{key}={value!r}' for key, value in self._given.items() if value)})"


def _checked(names_of: NamesOf | None, part: str) -> NamesOf:
    """Return a function of the caller, which must be there."""
    if names_of is None:
        raise TypeError(f"a filter by {part} needs {part}_of, a function that returns the {part} of a message")
    return names_of


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _names() -> list[str]:
    """Return the keys that an error lists."""
    return [negation + part for negation in ("", "not_") for part in _PARTS]


def _named_term(text: str, name: str) -> None:
    """Check a condition, and name the setting or flag in the error."""
    try:
        Term(text)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error


def _as_texts(value: Any, commas: bool) -> list[str] | None:
    """Return the texts of a setting, or None where it is something else."""
    if value is None:
        return []
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, set, frozenset)) or not all(isinstance(item, str) for item in items):
        return None
    if not commas:
        return list(items)
    return [name for item in items for name in map(str.strip, item.split(",")) if name]
