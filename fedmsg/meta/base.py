# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a plugin for ``fedmsg.meta`` is built on.

::

    from fedmsg.meta.base import BaseProcessor


    class ShopProcessor(BaseProcessor):
        __name__ = "shop"
        __description__ = "the web shop"
        __link__ = "https://shop.example.org"
        __docs__ = "https://shop.example.org/docs"
        __obj__ = "Orders"

        def subtitle(self, msg, **config):
            return self._("{user} ordered {item}").format(**msg["msg"])

        def usernames(self, msg, **config):
            return {msg["msg"]["user"]}
"""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fedmsg.config import settings
from fedmsg.meta import _groups, _guard

__all__ = ["BaseConglomerator", "BaseProcessor", "add_metaclass"]

Message = dict[str, Any]


def topic_pattern(prefix: str, name: str) -> str:
    r"""Write the regular expression for the topics of a processor.

    The prefix, with the environment, is one too; the name, in lower case, is one in effect.
    """
    return rf"^{prefix}\.({name})(\.(.*))?$"


class BaseProcessor:
    """Knows the messages of an application, and describes them in words.

    A processor declares what it is, and defines those of the methods below about which it
    has something to add. Each gets the whole message, ``msg["msg"]`` being what the
    application published, and the configuration as keyword arguments. A method may raise
    `KeyError` for a message of another shape.

    Args:
        internationalization_callable: Translates a text; kept as ``self._``.

    Raises:
        ValueError: One of the five attributes that are needed is missing.

    Attributes:
        topic_prefix_re: The regular expression for what topics begin with. That of the
            class wins over that of the configuration.
        conglomerators: The classes that group its messages.
        conglomerator_objects: One of each.
        agent: A method that names the one user who did it. When there is none, one of the
            usernames is taken.
    """

    # The first part of the topic after prefix and environment.
    __name__: str
    __description__: str | None = None
    __link__: str | None = None
    __docs__: str | None = None
    __obj__: str | None = None
    #: The address of an image that stands for the application.
    __icon__: str | None = None

    topic_prefix_re: str | None = None
    conglomerators: Sequence[type[BaseConglomerator]] | None = None
    agent: Any = NotImplemented

    def __init__(self, internationalization_callable: Callable[[str], str], **config: Any) -> None:
        for name in ("__name__", "__description__", "__link__", "__docs__", "__obj__"):
            if getattr(self, name, None) is None:
                raise ValueError(f"Must declare a {name}")
        self._ = internationalization_callable
        if self.topic_prefix_re is None:
            # In conf there may be none; load_config always sets one.
            self.topic_prefix_re = config.get("topic_prefix_re") or settings.derive_topic_prefix_re(config)
        self.__prefix__ = re.compile(topic_pattern(self.topic_prefix_re or "", self.__name__.lower()))
        self.conglomerators = list(self.conglomerators or ())
        self.conglomerator_objects = [
            conglomerator(self, internationalization_callable, **config) for conglomerator in self.conglomerators
        ]

    def conglomerate(self, messages: list[Message], **config: Any) -> list[Message]:
        """Group messages that belong together; return the list with groups in the place of their messages.

        Args:
            messages: Messages and groups; changed in place.
            config: The configuration, and ``subject`` and ``lexers`` where they are given.
        """
        for conglomerator in self.conglomerator_objects:
            messages = conglomerator.conglomerate(messages, **config)
        return messages

    @_guard.without_config
    def handle_msg(self, msg: Message, **config: Any) -> str | None:  # noqa: ARG002 a subclass may need it
        """Return whether a message is one of this processor's: what follows its name in the topic, perhaps nothing.

        The result is None for a message of another application.
        """
        match = self.__prefix__.match(msg["topic"])
        return None if match is None else match.groups()[-1] or ""

    @_guard.without_config
    def title(self, msg: Message, **config: Any) -> str:  # noqa: ARG002 a subclass may need it
        """Return a heading: by default the topic without prefix and environment."""
        return _groups.title_of(msg["topic"])

    @_guard.without_config
    def subtitle(self, msg: Message, **config: Any) -> str:  # noqa: ARG002 a subclass may need it
        """Return in a line what happened."""
        return ""

    @_guard.without_config
    def subjective(self, msg: Message, subject: str | None, **config: Any) -> str:  # noqa: ARG002 likewise
        """Return what happened to the user ``subject`` who takes part in it, as in "you ordered a lamp"."""
        return ""

    @_guard.without_config
    def long_form(self, msg: Message, **config: Any) -> str:  # noqa: ARG002 a subclass may need it
        """Return in several lines what happened."""
        return ""

    @_guard.without_config
    def lexer(self, msg: Message, **config: Any) -> Any:  # noqa: ARG002 a subclass may need it
        """Return a pygments lexer for the long form, or None."""
        return None

    @_guard.without_config
    def link(self, msg: Message, **config: Any) -> str:  # noqa: ARG002 a subclass may need it
        """Return the address of a page about it."""
        return ""

    @_guard.without_config
    def icon(self, msg: Message, **config: Any) -> str | None:  # noqa: ARG002 a subclass may need it
        """Return the address of an image that stands for the application."""
        return self.__icon__

    @_guard.without_config
    def secondary_icon(self, msg: Message, **config: Any) -> str | None:  # noqa: ARG002 a subclass may need it
        """Return the address of an image that stands for who did it, or what it was done to."""
        return None

    @_guard.without_config
    def usernames(self, msg: Message, **config: Any) -> set[str]:  # noqa: ARG002 a subclass may need it
        """Return the users who have to do with it."""
        return set()

    @_guard.without_config
    def packages(self, msg: Message, **config: Any) -> set[str]:  # noqa: ARG002 a subclass may need it
        """Return the packages that it is about."""
        return set()

    @_guard.without_config
    def objects(self, msg: Message, **config: Any) -> set[str]:  # noqa: ARG002 a subclass may need it
        """Return the things that it is about, as paths such as ``orders/1017``."""
        return set()

    @_guard.without_config
    def emails(self, msg: Message, **config: Any) -> dict[str, str]:  # noqa: ARG002 a subclass may need it
        """Return the addresses of users, by name."""
        return {}

    @_guard.without_config
    def avatars(self, msg: Message, **config: Any) -> dict[str, str]:  # noqa: ARG002 a subclass may need it
        """Return the addresses of the images of users, by name."""
        return {}


class SenderProcessor(BaseProcessor):
    """Names the user of the envelope: for messages that people and their scripts send."""

    @_guard.without_config
    def usernames(self, msg: dict[str, Any], **config: Any) -> set[str]:  # noqa: ARG002 the signature of all processors
        """Return the user who did it."""
        who = self.agent(msg)
        return set() if who is None else {who}

    @_guard.without_config
    def agent(self, msg: dict[str, Any], **config: Any) -> str | None:  # noqa: ARG002 the signature of all processors
        """Return the user of the envelope."""
        who = msg.get("username")
        return who if isinstance(who, str) else None


class BaseConglomerator(abc.ABC):
    """Groups messages of a processor that are much the same.

    Args:
        processor: The processor, kept under this name.
        internationalization_callable: Translates a text; kept as ``self._``.
    """

    def __init__(self, processor: Any, internationalization_callable: Callable[[str], str], **config: Any) -> None:  # noqa: ARG002 a subclass may need it
        self.processor = processor
        self._ = internationalization_callable

    def conglomerate(
        self, messages: list[Message], subject: str | None = None, lexers: bool = False, **config: Any
    ) -> list[Message]:
        """Put groups in the place of messages that belong together; return the list.

        Args:
            messages: Messages and groups; changed in place.
            subject: The user who is spoken to.
            lexers: Whether lexers are wanted too.
            config: The configuration.
        """
        while True:
            indices, constituents = self.select_constituents(messages, **config)
            if not indices or not constituents:
                return messages
            merged = _guard.ask(self, "merge", {"lexers": lexers, **config}, constituents, subject)
            if not isinstance(merged, dict):
                # The same messages would be selected for ever.
                return messages
            for index in reversed(indices):
                del messages[index]
            messages.insert(indices[0], merged)

    def select_constituents(
        self, messages: Sequence[Message], **config: Any
    ) -> tuple[tuple[int, ...], tuple[Message, ...]] | tuple[None, None]:
        """Find the first message to which others belong; return their places and the messages, or twice None."""
        # A message that makes the question fail is not grouped: FAILED is true.
        places = [place for place, msg in enumerate(messages) if not _guard.ask(self, "skip", config, msg)]
        for number, place in enumerate(places):
            others = [other for other in places[number + 1 :] if self._match(messages[place], messages[other], config)]
            if others:
                found = (place, *others)
                return found, tuple(messages[one] for one in found)
        return None, None

    def _match(self, a: Message, b: Message, config: dict[str, Any]) -> bool:
        answer = _guard.ask(self, "matches", config, a, b)
        return answer is not _guard.FAILED and bool(answer)

    def skip(self, message: Message, **config: Any) -> bool:
        """Return whether a message is a group already, or not for this conglomerator."""
        return "msg_ids" in message or not self.can_handle(message, **config)

    @classmethod
    def produce_template(
        cls, constituents: Sequence[Message], subject: str | None, lexers: bool = False, **config: Any
    ) -> dict[str, Any]:
        """Make a group with all that does not depend on what it is about.

        Args:
            constituents: Its messages.
            subject: The user who is spoken to.
            lexers: Whether lexers are wanted too.
            config: The configuration.

        Returns:
            The group, in which ``subtitle``, ``subjective``, ``link`` and ``secondary_icon``
            are missing.
        """
        return _groups.template(constituents, subject, lexers, config)

    @staticmethod
    def list_to_series(items: Iterable[str], N: int = 3, oxford_comma: bool = True) -> str:  # noqa: N803 a published name
        """Write a list as one does in a sentence: "a, b, and 2 others".

        The items are sorted, doubles count once. The series has ``N`` parts at most.
        """
        found = sorted(set(items))
        if not found:
            return "(nothing)"
        if len(found) == 1:
            return found[0]
        if len(found) > N:
            found[N - 1 :] = [f"{len(found) - N + 1} others"]
        *first, last = found
        comma = "," if oxford_comma and len(first) > 1 else ""
        return f"{', '.join(first)}{comma} and {last}"

    @abc.abstractmethod
    def can_handle(self, msg: Message, **config: Any) -> bool:
        """Return whether a message is of the kind that this conglomerator groups."""

    @abc.abstractmethod
    def matches(self, a: Message, b: Message, **config: Any) -> bool:
        """Return whether two messages of that kind belong together."""

    @abc.abstractmethod
    def merge(self, constituents: Sequence[Message], subject: str | None, **config: Any) -> dict[str, Any]:
        """Make one entry of messages that belong together, beginning with `produce_template`."""


def add_metaclass(metaclass: type) -> Callable[[type], type]:
    """Return a decorator that changes the metaclass of a class; plugins for Python 2 use it."""

    def decorate(cls: type) -> type:
        # What Python itself puts into each class can't be copied.
        body = {name: value for name, value in vars(cls).items() if name not in {"__dict__", "__weakref__"}}
        slots = body.get("__slots__", ())
        for slot in [slots] if isinstance(slots, str) else slots:
            body.pop(slot, None)
        made: type = metaclass(cls.__name__, cls.__bases__, body)
        return made

    return decorate
