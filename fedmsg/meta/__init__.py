# SPDX-License-Identifier: LGPL-2.1-or-later
"""Describes messages in words: for people, bots and web pages.

::

    import fedmsg.config
    import fedmsg.meta

    config = fedmsg.config.load_config()
    fedmsg.meta.make_processors(**config)

    print(fedmsg.meta.msg2repr(msg, **config))
    print(fedmsg.meta.msg2usernames(msg, **config))

A *processor* knows the messages of an application: it is a plugin on the entry point
``fedmsg.meta``, or a file of declarations. A processor that fails, returns nonsense or is
slow is named in the log and counted in `counts`; its caller gets an empty value.
"""

from __future__ import annotations

import functools
import gettext
import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from fedmsg._util import plugins
from fedmsg._util.text import quoted
from fedmsg.exceptions import UsageError
from fedmsg.meta import _declared, _groups, _guard, _index, _summary
from fedmsg.meta._groups import ago
from fedmsg.meta._guard import counts
from fedmsg.meta.base import BaseConglomerator
from fedmsg.meta.default import DefaultProcessor

__all__ = [
    "BaseConglomerator",
    "DefaultProcessor",
    "ProcessorsNotInitialized",
    "ago",
    "conglomerate",
    "counts",
    "graceful",
    "legacy_condition",
    "make_processors",
    "msg2agent",
    "msg2avatars",
    "msg2emails",
    "msg2icon",
    "msg2lexer",
    "msg2link",
    "msg2long_form",
    "msg2objects",
    "msg2packages",
    "msg2processor",
    "msg2repr",
    "msg2secondary_icon",
    "msg2subjective",
    "msg2subtitle",
    "msg2summary",
    "msg2title",
    "msg2usernames",
    "names",
    "parts",
    "processors",
    "with_processor",
]

log = logging.getLogger(__name__)

_Kind = TypeVar("_Kind", set[str], dict[str, str])
# Programs replace this name, and logging's own method of it is deprecated.
log.warn = log.warning  # type: ignore[method-assign]


def _translator() -> Callable[[str], str]:
    """Return the function that translates texts; without a catalogue it returns them as they are."""
    try:
        # The same place as for the programs of gettext.
        return gettext.translation("fedmsg", os.environ.get("TEXTDOMAINDIR"), fallback=True).gettext
    except Exception as error:  # noqa: BLE001 a broken catalogue raises anything
        log.warning("The translations can't be used: %s", error)
        return gettext.NullTranslations().gettext


_ = _translator()


class ProcessorsNotInitialized(UsageError):
    """What `processors` is until there are some: it is false, and raises when it is used."""

    def __bool__(self) -> bool:
        return False

    def _raise(self, *_: object) -> NoReturn:
        raise self

    __iter__ = __len__ = __getitem__ = __contains__ = _raise


_NONE_YET = ProcessorsNotInitialized("You must first call fedmsg.meta.make_processors(**config)")

#: The processors in their order, the last being `DefaultProcessor`. May be set from outside.
processors: Any = _NONE_YET

# Looked up once, as each message needs them several times.
_ask, _FAILED = _guard.ask, _guard.FAILED

_making = threading.Lock()
_found = _index.Index([])


def make_processors(**config: Any) -> None:
    """Load the processors, unless there are some; one that can't be loaded is logged and skipped."""
    global processors
    with _making:
        if processors:
            return
        # What the administrator of this machine declares comes before what is installed.
        declared = _declared.load(_, config)
        plugged_in = _plugged_in(config)
        if not declared and all(type(one).__module__.startswith("fedmsg.meta.") for one in plugged_in):
            log.warn("No fedmsg.meta plugins found.  fedmsg.meta.msg2* crippled")  # noqa: G010 see above
        processors = [*declared, *plugged_in, DefaultProcessor(_, **config)]


def _plugged_in(config: Mapping[str, Any]) -> list[Any]:
    """Make the processors that installed distributions bring."""
    made = []
    for name, plugin in plugins.load("fedmsg.meta"):
        try:
            made.append(plugin(_, **config))
        # The constructor is foreign code, as is the import.
        except (Exception, SystemExit) as error:
            log.error("The plugin %s of fedmsg.meta is not loaded: %r", name, error)
            log.debug("where it failed", exc_info=True)
    return made


def _processor_of(msg: Any, config: Mapping[str, Any]) -> Any:
    global _found
    if not _found.is_of(processors):
        _found = _index.Index(processors)
    if not processors:
        raise _NONE_YET
    try:
        topic = msg["topic"]
    except (LookupError, TypeError):
        topic = None
    return _found.find(msg, topic, config) if isinstance(topic, str) else processors[-1]


def msg2processor(msg: Any, **config: Any) -> Any:
    """Return the processor that knows a message.

    Raises:
        ProcessorsNotInitialized: There are no processors yet.
    """
    return _processor_of(msg, config)


# ------------------------------------------------------------ asking a processor


def _ask_text(what: str, msg: Any, processor: Any, config: Mapping[str, Any]) -> str | None:
    """Return a text of a processor; None where it has none."""
    if processor is None:
        processor = _processor_of(msg, config)
    answer = _ask(processor, what, config, msg)
    if answer is None or isinstance(answer, str):
        return answer
    return "" if answer is _FAILED else _instead(processor, what, answer, msg)


def _ask_for(kind: type[_Kind], what: str, msg: Any, processor: Any, config: Mapping[str, Any]) -> _Kind:
    """Ask a processor for a set or a dict, which is empty where it leaves that out."""
    if processor is None:
        processor = _processor_of(msg, config)
    answer = _ask(processor, what, config, msg)
    if isinstance(answer, kind):
        return answer
    if answer is not None and answer is not _FAILED:
        _note_nonsense(processor, what, answer)
    return kind()


def _note_nonsense(processor: Any, what: str, answer: object) -> None:
    _guard.note(processor, what, "nonsense", f"it returned an object of the type {type(answer).__name__}")


def _instead(processor: Any, what: str, answer: object, msg: Any) -> str:
    """Return the text of `DefaultProcessor` in the place of nonsense."""
    _note_nonsense(processor, what, answer)
    text: str = getattr(DefaultProcessor(_, topic_prefix_re=""), what)(msg)
    return text


def msg2repr(msg: Any, processor: Any = None, **config: Any) -> str:
    """Return a line about a message: ``title -- subtitle link``; an empty one when the processor fails."""
    if processor is None:
        processor = _processor_of(msg, config)
    texts = []
    for what in ("title", "subtitle", "link"):
        answer = _ask(processor, what, config, msg)
        if answer is _FAILED:
            return ""
        texts.append(answer if isinstance(answer, str) else _or_default(processor, what, answer, msg))
    return "{} -- {} {}".format(*texts)


def _or_default(processor: Any, what: str, answer: object, msg: Any) -> str:
    """Return a text for a line, where the processor leaves it out or returns nonsense."""
    if answer is not None:
        return _instead(processor, what, answer, msg)
    return _groups.title_of(msg.get("topic")) or "" if what == "title" and isinstance(msg, dict) else ""


def msg2title(msg: Any, processor: Any = None, **config: Any) -> str | None:
    """Return a heading for a message, or None where the processor has none."""
    return _ask_text("title", msg, processor, config)


def msg2subtitle(msg: Any, processor: Any = None, **config: Any) -> str | None:
    """Return in a line what happened; empty or None where the processor has none: `msg2summary` always has one."""
    return _ask_text("subtitle", msg, processor, config)


def msg2long_form(msg: Any, processor: Any = None, **config: Any) -> str | None:
    """Return in several lines what happened, or else the subtitle."""
    return _long_or_subtitle("long_form", (msg,), processor, config)


def msg2subjective(msg: Any, subject: str | None = None, processor: Any = None, **config: Any) -> str | None:
    """Return what happened, for a user who may take part in it ("you ordered a lamp"), or else the subtitle."""
    return _long_or_subtitle("subjective", (msg, subject), processor, config)


def _long_or_subtitle(what: str, arguments: tuple[Any, ...], processor: Any, config: Mapping[str, Any]) -> str | None:
    msg = arguments[0]
    if processor is None:
        processor = _processor_of(msg, config)
    answer = _guard.ask(processor, what, config, *arguments)
    if answer is _guard.FAILED:
        return ""
    if not isinstance(answer, str):
        if answer is not None:
            _note_nonsense(processor, what, answer)
        answer = ""
    return answer or msg2subtitle(msg, processor, **config)


def msg2lexer(msg: Any, processor: Any = None, **config: Any) -> Any:
    """Return a pygments lexer for the long form of a message, or None."""
    answer = _guard.ask(_processor_of(msg, config) if processor is None else processor, "lexer", config, msg)
    return None if answer is _guard.FAILED else answer


def msg2link(msg: Any, processor: Any = None, **config: Any) -> str | None:
    """Return the address of a page about a message, or None."""
    return _ask_text("link", msg, processor, config)


def msg2icon(msg: Any, processor: Any = None, **config: Any) -> str | None:
    """Return the address of an image that stands for the application, or None."""
    return _ask_text("icon", msg, processor, config)


def msg2secondary_icon(msg: Any, processor: Any = None, **config: Any) -> str | None:
    """Return the address of an image for the user or the thing of a message, or None."""
    return _ask_text("secondary_icon", msg, processor, config)


def msg2usernames(msg: Any, processor: Any = None, **config: Any) -> set[str]:
    """Return the users who have to do with a message; ``config`` may have ``legacy``, as old programs pass it."""
    return _ask_for(set, "usernames", msg, processor, config)


def msg2agent(msg: Any, processor: Any = None, **config: Any) -> str | None:
    """Return the user who did it, else one of the usernames, else None; ``config`` may have ``legacy``, as above."""
    return _agent(msg, _processor_of(msg, config) if processor is None else processor, config)


def _agent(msg: Any, processor: Any, config: Mapping[str, Any]) -> str | None:
    if getattr(processor, "agent", NotImplemented) is NotImplemented:
        return min(_ask_for(set, "usernames", msg, processor, config), key=str, default=None)
    answer = _guard.ask(processor, "agent", config, msg)
    if answer is None or answer is _guard.FAILED:
        return None
    if not isinstance(answer, str):
        _note_nonsense(processor, "agent", answer)
        return None
    return answer


def msg2packages(msg: Any, processor: Any = None, **config: Any) -> set[str]:
    """Return the packages that a message is about."""
    return _ask_for(set, "packages", msg, processor, config)


def msg2objects(msg: Any, processor: Any = None, **config: Any) -> set[str]:
    """Return the things that a message is about."""
    return _ask_for(set, "objects", msg, processor, config)


def msg2emails(msg: Any, processor: Any = None, **config: Any) -> dict[str, str]:
    """Return the mail addresses of the users of a message, by name."""
    return _ask_for(dict, "emails", msg, processor, config)


def msg2avatars(msg: Any, processor: Any = None, **config: Any) -> dict[str, str]:
    """Return the addresses of the images of the users of a message, by name."""
    return _ask_for(dict, "avatars", msg, processor, config)


def msg2summary(msg: Any, processor: Any = None, **config: Any) -> str:
    """Return in one readable, harmless line what happened, also where no processor knows.

    Without a subtitle it is made of the words of the topic, who did it, and the first values of the message.
    """
    if processor is None:
        processor = _processor_of(msg, config)
    subtitle = _ask_text("subtitle", msg, processor, config)
    return _summary.one_line(subtitle) if subtitle and subtitle.strip() else _summarize(msg, processor, config)


def _summarize(msg: Any, processor: Any, config: Mapping[str, Any]) -> str:
    return _summary.summarize(msg, _agent(msg, processor, config))


def parts(msg: Any, config: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the parts of a line about a message, for programs that show very many.

    The configuration is passed as a whole: as keywords, once for each part, it would take longer than all the rest.

    Returns:
        The title; what happened, a summary where the processor has no subtitle; and the link,
        which may be empty.
    """
    processor = _processor_of(msg, config)
    title, subtitle = _ask_text("title", msg, processor, config), _ask_text("subtitle", msg, processor, config)
    if title is None:
        title = _or_default(processor, "title", None, msg)
    if not subtitle or not subtitle.strip():
        subtitle = _summarize(msg, processor, config)
    return title, subtitle, _ask_text("link", msg, processor, config) or ""


def names(msg: Any, config: Mapping[str, Any]) -> tuple[set[str], set[str], str | None]:
    """Return the users and packages of a message and its agent, for programs that store very many.

    The configuration is passed as a whole, as for `parts`; a message that no plugin knows costs next to nothing.
    """
    processor = _processor_of(msg, config)
    if type(processor) is DefaultProcessor:
        return set(), set(), None
    users, packages = (_ask_for(set, what, msg, processor, config) for what in ("usernames", "packages"))
    return users, packages, _agent(msg, processor, config)


# ------------------------------------------------------------ groups


def conglomerate(
    messages: list[dict[str, Any]], subject: str | None = None, lexers: bool = False, **config: Any
) -> list[dict[str, Any]]:
    """Group messages that belong together; return descriptions of the groups and of what is in none, in one form.

    Args:
        messages: The messages; the list is changed in place.
        subject: The user who is spoken to.
        lexers: Whether lexers are wanted too.
        config: The configuration.
    """
    asked = {"subject": subject, "lexers": lexers, **config}
    for processor in processors:
        answer = _guard.ask(processor, "conglomerate", asked, messages)
        if isinstance(answer, list):
            messages = answer
    for place, msg in enumerate(messages):
        if "msg_ids" not in msg:
            messages[place] = _alone(msg, subject, lexers, config)
    return messages


def _alone(msg: dict[str, Any], subject: str | None, lexers: bool, config: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a single message as a group."""
    described = _groups.template([msg], subject, lexers, config)
    (about,) = described["msg_ids"].values()
    for key in ("link", "subtitle", "subjective", "secondary_icon"):
        described[key] = about[key]
    return described


def _describe(msg: Any, subject: str | None, lexers: bool, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that is known of a message of a group."""
    processor = _processor_of(msg, config)
    about = {
        "title": msg2title(msg, processor, **config),
        "subtitle": msg2subtitle(msg, processor, **config),
        "subjective": msg2subjective(msg, subject, processor, **config),
        "link": msg2link(msg, processor, **config),
        "icon": msg2icon(msg, processor, **config),
        "__icon__": getattr(processor, "__icon__", None),
        "secondary_icon": msg2secondary_icon(msg, processor, **config),
        "usernames": msg2usernames(msg, processor, **config),
        "packages": msg2packages(msg, processor, **config),
        "objects": msg2objects(msg, processor, **config),
        "long_form": msg2long_form(msg, processor, **config),
    }
    if lexers:
        about["lexer"] = msg2lexer(msg, processor, **config)
    return about


_groups.describe_with(_describe)


# ------------------------------------------------------------ decorators that plugins use


def graceful(cls: Callable[[], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a decorator for a function that gets a message, which may be of another shape.

    Args:
        cls: Makes what is returned when the function raises `KeyError`; other exceptions
            are let through.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def decorated(msg: Any, *more: Any, **config: Any) -> Any:
            try:
                return function(msg, *more, **config)
            except KeyError as error:
                _guard.note(function, "", "raised", quoted(repr(error), 200))
                return cls()

        return decorated

    return decorate


#: The older name.
legacy_condition = graceful


def with_processor() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a decorator for a function that gets a message and, as ``processor``, the one that knows it."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def decorated(msg: Any, processor: Any = None, **config: Any) -> Any:
            if processor is None:
                processor = _processor_of(msg, config)
            return function(msg, processor=processor, **config)

        return decorated

    return decorate
